"""Cost and throughput of every way to serve the model, like the paper's Fig. 14."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.run.methods import rows_in
from experiments.run.report import recorded_on
from experiments.tools import style
from experiments.tools.style import rounded


def draw_methods(result: dict[str, Any], path: Path) -> None:
    """Draw the rows of a result to `path`.png and `path`.svg, below them the claims and whose routing it is."""
    rows = rows_in(result)
    figure = style.new_figure(9.0, 0.36 * len(rows) + 2.6)
    cost, speed = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
    for place, row in enumerate(rows):
        colour = style.GREY if row.platform != "lambda" else style.RED if row.method == "LambdaML" else style.BLUE
        total = row.total_usd or row.billed_usd
        cost.plot([row.billed_usd, total], [place, place], color=colour, linewidth=2, zorder=2)
        cost.plot(row.billed_usd, place, "o", color=colour, markersize=8, zorder=3)
        cost.plot(total, place, "o", color=colour, markerfacecolor="white", markersize=7, zorder=3)
        cost.annotate(
            f"   {rounded(total)} / {rounded(row.billed_usd)}",
            (total, place),
            va="center",
            fontsize=8,
        )
        speed.plot(row.tokens_per_s, place, "o", color=colour, markersize=8)
        speed.annotate(f"   {row.tokens_per_s:,.0f}", (row.tokens_per_s, place), va="center", fontsize=8)
    cost.set_yticks(range(len(rows)), [row.method for row in rows])
    cost.set_ylim(len(rows) - 0.4, -0.6)
    cost.set_xlabel(
        "USD per million tokens (log scale)\nhollow: the whole bill, filled: of it the experts' compute"
    )
    speed.set_xlabel("tokens/s of a warm batch (log scale)")
    for axes, values in (
        (cost, [v for row in rows for v in (row.billed_usd, row.total_usd or row.billed_usd)]),
        (speed, [row.tokens_per_s for row in rows]),
    ):
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 1.8, max(values) * (max(values) / min(values)) ** 0.3 * 1.5)
        axes.grid(axis="both", alpha=0.25, which="major")
        axes.set_axisbelow(True)
    cost.set_title(f"{result['model']}, batches of {result['batch_tokens']:,} tokens", loc="left", fontsize=10)
    notes = "\n".join([*result["claims"], recorded_on(result)])
    figure.supxlabel(notes, fontsize=7.5, x=0.01, ha="left", linespacing=1.5)
    style.save(figure, path)
