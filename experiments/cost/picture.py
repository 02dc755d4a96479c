"""The picture: monthly bill over requests a month, who is cheapest where, and for decoders the latency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.cost.offer import cheapest
from experiments.cost.report import promised, shown
from experiments.tools import style

if TYPE_CHECKING:
    from experiments.cost.compare import Compared

FAMILIES = (
    ("lambda", style.RED),
    ("fargate", style.GREEN),
    ("ec2", style.BLUE),
    ("gpu", style.PURPLE),
    ("tokens", "black"),
)
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (7, 3)))
WIDTH, POINTS = 7.2, 8  # inches, of a page; of its text


def drawn(compared: Compared, path: Path) -> None:
    """Draw it to `path`.png and `path`.svg."""
    from matplotlib import rc_context, rcParams

    with rc_context({"font.size": POINTS}):
        latencies = compared.question.spec.generates
        figure = style.new_figure(WIDTH, 5.2 if latencies else 3.9)
        rcParams["font.size"] = POINTS
        panels = figure.subplots(
            2 if latencies else 1, 1, sharex=True, squeeze=False, height_ratios=[2, 1][: 1 + latencies]
        )
        bills, looks = panels[0, 0], _looks(compared)
        _bills(bills, compared, looks)
        if latencies:
            _latencies(panels[1, 0], compared, looks)
        panels[-1, 0].set_xlabel("requests a month")
        question = compared.question
        tokens = "/".join(f"{float(each.mean()):,.0f}" for each in question.traffic.sample(500))
        title = (
            f"{question.spec.name}, {question.spec.precision}, {tokens} tokens in/out, {question.traffic.arrivals}"
        )
        bills.set_title(f"{title}; {promised(question)}", loc="left", fontsize=POINTS)
        figure.legend(*bills.get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False)
        style.save(figure, path)


def _looks(compared: Compared) -> dict[str, dict[str, Any]]:
    """Colour by family, line by member, of every contender that serves somewhere."""
    found: dict[str, dict[str, Any]] = {}
    served = {offer.contender for _, offers in compared.curve for offer in offers if offer.serves and offer.usd}
    for family, colour in FAMILIES:
        members = sorted(name for name in served if name.startswith(family))
        found |= {name: {"color": colour, "linestyle": LINES[k % len(LINES)]} for k, name in enumerate(members)}
    rest = sorted(served - set(found))
    return found | {name: {"color": style.GREY, "linestyle": LINES[k % len(LINES)]} for k, name in enumerate(rest)}


def _bills(axes: Any, compared: Compared, looks: dict[str, dict[str, Any]]) -> None:
    best = [(x, offer.usd or 0.0) for x, offers in compared.curve if (offer := cheapest(offers)) is not None]
    axes.plot(*zip(*best, strict=True), color="#00000038", linewidth=6, solid_capstyle="round", label="cheapest")
    for name, look in looks.items():
        rows = [(x, o.usd) for x, offers in compared.curve for o in offers if o.contender == name and o.serves]
        axes.plot(*zip(*rows, strict=True), linewidth=1.1, label=name, **look)
    for per_month, offers in compared.points:
        for offer in offers:
            if offer.played and offer.serves:
                axes.plot([per_month], [offer.usd], "o", markersize=2.5, color=looks[offer.contender]["color"])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel("USD a month")
    axes.grid(alpha=0.25)
    usd = np.interp(
        [np.log(c.requests_per_month) for c in compared.crossovers],
        np.log([x for x, _ in best]),
        np.log([y for _, y in best]),
    )
    for crossover, height in zip(compared.crossovers, np.exp(usd), strict=True):
        axes.plot([crossover.requests_per_month], [height], "D", color="black", markersize=4, zorder=5)
        low = height < 10 * axes.get_ylim()[0]
        axes.annotate(
            f"{shown(crossover.requests_per_month)}\n{crossover.after}",
            (crossover.requests_per_month, height),
            xytext=(5, 6) if low else (4, -4),
            textcoords="offset points",
            va="bottom" if low else "top",
            fontsize=POINTS - 1,
        )


def _latencies(axes: Any, compared: Compared, looks: dict[str, dict[str, Any]]) -> None:
    p = compared.question.promise.percentile
    for name, look in looks.items():
        rows = [(x, o.at(p)) for x, offers in compared.curve for o in offers if o.contender == name and o.serves]
        shown_rows = [(x, seconds) for x, seconds in rows if seconds is not None]
        if shown_rows:
            axes.plot(*zip(*shown_rows, strict=True), linewidth=1.1, **look)
    axes.set_yscale("log")
    axes.set_ylabel(f"p{p:g} of a request, s")
    axes.grid(alpha=0.25)
