"""The picture: monthly bill over requests a month, who is cheapest where, and for decoders the latency."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.cost.offer import cheapest
from experiments.cost.report import promised, shown
from experiments.tools import style

if TYPE_CHECKING:
    from experiments.cost.compare import Compared

COLOURS = {
    "lambda-x86_64": "#d55e00",
    "lambda-arm64": "#e69f00",
    "lambda-provisioned": "#7a3200",
    "lambda-managed-instances": "#b8860b",
    "fargate": "#007a5a",
    "fargate-arm64": "#4fd0a8",
    "fargate-spot": "#9be0c8",
    "ec2": "#0072b2",
    "gpu": "#cc79a7",
    "gpu-g6.xlarge": "#882255",
    "gpu-g5.xlarge": "#56b4e9",
    "gpu-g6e.xlarge": "#5e2ca5",
    "gpu-g7e.2xlarge": "#e377c2",
    "gpu-p5.4xlarge": "#3b1f5b",
    "tokens": "#000000",
}
OTHERS = ("#556b2f", "#708090", "#8b5fbf", "#a0522d")
ANY_GPU = "gpu"
MARKERS = "os^DvPX*"
LABELLED = 8  # lines; the others are grey
WIDTH, POINTS = 7.2, 8  # inches, of a page; of its text


def drawn(compared: Compared, path: Path) -> None:
    """Draw it to `path`.png and `path`.svg; nothing where nobody serves at any number of requests."""
    from matplotlib import rc_context, rcParams

    if all(cheapest(offers) is None for _, offers in compared.curve):
        return
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


def colours_of(names: list[str]) -> dict[str, str]:
    """A colour for each contender."""
    others = itertools.cycle(OTHERS)
    return {name: COLOURS.get(name) or next(others) for name in names}


def _looks(compared: Compared) -> dict[str, dict[str, Any]]:
    """Of the curve's contenders."""
    return looks_of([{o.contender: o.usd for o in offers if o.serves and o.usd} for _, offers in compared.curve])


def looks_of(bills: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Colour and marker of those that come nearest to the cheapest somewhere; the others are thin and grey.

    Args:
        bills: at each of several places, USD of the contenders that serve.
    """
    near: dict[str, float] = {}
    for place in bills:
        for name, usd in place.items():
            near[name] = min(near.get(name, np.inf), usd / min(place.values()))
    if any(name.startswith(f"{ANY_GPU}-") and usd <= 1.02 * near.get(ANY_GPU, 0.0) for name, usd in near.items()):
        del near[ANY_GPU]  # the same line
    ranked = sorted(near, key=lambda name: (near[name], name))
    shown = sorted(ranked[:LABELLED])
    found: dict[str, dict[str, Any]] = {
        name: {"color": colour, "marker": MARKERS[k % len(MARKERS)], "linewidth": 1.2, "label": name}
        for k, (name, colour) in enumerate(colours_of(shown).items())
    }
    grey = {"color": "#bbbbbb", "linewidth": 0.6, "zorder": 1}
    rest = sorted(ranked[LABELLED:])
    return found | {name: grey | ({"label": "others"} if k == 0 else {}) for k, name in enumerate(rest)}


def _bills(axes: Any, compared: Compared, looks: dict[str, dict[str, Any]]) -> None:
    best = [(x, offer.usd or 0.0) for x, offers in compared.curve if (offer := cheapest(offers)) is not None]
    axes.plot(*zip(*best, strict=True), color="#00000038", linewidth=6, solid_capstyle="round", label="cheapest")
    for name, look in looks.items():
        rows = [(x, o.usd) for x, offers in compared.curve for o in offers if o.contender == name and o.serves]
        axes.plot(*zip(*rows, strict=True), markersize=3, markevery=3, **look)
    for per_month, offers in compared.points:
        for offer in offers:
            if offer.played and offer.serves and offer.contender in looks:
                axes.plot(
                    [per_month],
                    [offer.usd],
                    "o",
                    markersize=4.5,
                    mfc="none",
                    mew=0.8,
                    color=looks[offer.contender]["color"],
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel("USD a month")
    axes.grid(alpha=0.25)
    usd = np.interp(
        [np.log(c.requests_per_month) for c in compared.crossovers],
        np.log([x for x, _ in best]),
        np.log([y for _, y in best]),
    )
    before, above = 0.0, True
    for crossover, height in zip(compared.crossovers, np.exp(usd), strict=True):
        axes.plot([crossover.requests_per_month], [height], "D", color="black", markersize=4, zorder=5)
        beside = crossover.requests_per_month < 10 * before  # its label would lie on that of the one before
        above = (beside and not above) or height < 10 * axes.get_ylim()[0]
        before = crossover.requests_per_month
        axes.annotate(
            f"{shown(crossover.requests_per_month)}\n{crossover.after}",
            (crossover.requests_per_month, height),
            xytext=(-4, 5) if above else (5, -4),
            textcoords="offset points",
            va="bottom" if above else "top",
            ha="right" if above else "left",
            fontsize=POINTS - 1,
        )


def _latencies(axes: Any, compared: Compared, looks: dict[str, dict[str, Any]]) -> None:
    p = compared.question.promise.percentile
    for name, look in looks.items():
        rows = [(x, o.at(p)) for x, offers in compared.curve for o in offers if o.contender == name and o.serves]
        shown_rows = [(x, seconds) for x, seconds in rows if seconds is not None]
        if shown_rows:
            axes.plot(*zip(*shown_rows, strict=True), markersize=3, markevery=3, **look)
    axes.set_yscale("log")
    axes.set_ylabel(f"p{p:g} of a request, s")
    axes.grid(alpha=0.25)
