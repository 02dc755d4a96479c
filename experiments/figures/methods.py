"""Cost and throughput of every way to serve the model, like the paper's Fig. 14."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from experiments.answer import (
    PAPER_BELOW_CLUSTER,
    PAPER_BELOW_LAMBDAML,
    PAPER_SLOWER_THAN_LAMBDAML,
    Row,
    ratios,
    row_named,
)
from experiments.figures import style


def draw_methods(rows: list[Row], result: dict[str, Any], path: Path) -> None:
    """Draw the rows of an answer to `path`.png and `path`.svg."""
    figure = style.new_figure(9.0, 0.42 * len(rows) + 2.2)
    cost, speed = figure.subplots(1, 2, sharey=True, width_ratios=(1.35, 1))
    names = [row.method for row in rows]
    places = range(len(rows))
    for place, row in zip(places, rows, strict=True):
        colour = (
            style.GREY if row.platform == "cluster" else style.ORANGE if row.method == "LambdaML" else style.BLUE
        )
        if row.total_usd is not None:
            cost.barh(place, row.total_usd, color=colour, alpha=0.3, height=0.7)
        cost.barh(place, row.billed_usd, color=colour, height=0.7)
        cost.annotate(f" {row.billed_usd:,.3g}", (row.billed_usd, place), va="center", fontsize=8)
        speed.barh(place, row.tokens_per_s, color=colour, height=0.7)
        speed.annotate(f" {row.tokens_per_s:,.0f}", (row.tokens_per_s, place), va="center", fontsize=8)
    cost.set_xscale("log")
    cost.set_yticks(list(places), names)
    cost.invert_yaxis()
    cost.set_xlabel("USD per million tokens\n(dark: the MoE layers' bill; light: everything)")
    speed.set_xscale("log")
    speed.set_xlabel("tokens / s of a warm batch")
    for axes in (cost, speed):
        axes.margins(x=0.18)
        axes.grid(axis="x", alpha=0.25, which="major")
        axes.set_axisbelow(True)
    origin = result["routing_recorded_on"]
    cost.set_title(f"{result['model']}, batches of {result['batch_tokens']:,} tokens", loc="left", fontsize=10)
    figure.supxlabel(
        "\n".join(textwrap.wrap(_claims(rows), 130)) + f"\n{_origin(origin)}", fontsize=7.5, x=0.01, ha="left"
    )
    style.save(figure, path)


def _claims(rows: list[Row]) -> str:
    """The paper's three numbers beside ours."""
    best = row_named(rows, "ODS") or rows[0]
    over = ratios(best, rows)
    parts = []
    cost, speed = over["billed_over_lambdaml"], over["tokens_per_s_over_lambdaml"]
    if cost is not None and speed is not None:
        parts.append(f"ODS's bill below LambdaML's: {1 - cost:.1%} (paper: at least {PAPER_BELOW_LAMBDAML:.2%})")
        parts.append(
            f"its throughput below LambdaML's: {1 - speed:.1%} (paper: at most {PAPER_SLOWER_THAN_LAMBDAML:.2%})"
        )
    cluster = [over[f"billed_over_cluster_{period}"] for period in ("second", "month", "hour")]
    shares = [f"{1 - share:.1%}" for share in cluster if share is not None]
    if shares:
        parts.append(
            f"its bill below the CPU cluster's, charged by second / month / hour: {' / '.join(shares)} "
            f"(paper, period not said: at least {PAPER_BELOW_CLUSTER:.2%})"
        )
    return "; ".join(parts) + "."


def _origin(origin: dict[str, Any]) -> str:
    layers = origin.get("layers_of_recording")
    text = f"Routing recorded on {origin.get('model', 'an unnamed model')}, {origin.get('corpus', 'unnamed text')}"
    return text + (f", its layers {layers} standing for the model's." if layers else ".")
