"""The picture of figure 2: bill and throughput of each way to serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.paper.axes import plain_log
from experiments.paper.figures.fig02.claims import READING_TOKENS_PER_S
from experiments.paper.figures.fig02.ways import PAPER_TOKENS_PER_S
from experiments.tools import style
from experiments.tools.style import rounded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def draw(data: pd.DataFrame) -> Figure:
    """Bill and throughput of each way to serve, a pair of panels for each model."""
    serving = data[data["row"] == "serving"]
    models = list(serving.groupby(["model", "text"], sort=False))
    figure = style.new_figure(7.2, 1.6 * len(models) + 0.7)
    every = figure.subplots(len(models), 2, squeeze=False, sharey="row", sharex="col")
    for (left, right), ((model, text), rows) in zip(every, models, strict=True):
        for place, (_, row) in enumerate(rows.iterrows()):
            colour = style.GREY if row["period"] == row["period"] else style.BLUE
            if row["billed_usd"] == row["billed_usd"]:
                left.plot(row["billed_usd"], place, "o", color=colour, markersize=5)
                left.annotate(
                    f"   {rounded(row['billed_usd'])}", (row["billed_usd"], place), va="center", fontsize=8
                )
            if row["period"] in ("second", None) or row["period"] != row["period"]:
                right.plot(row["tokens_per_s"], place, "o", color=colour, markersize=5)
                right.annotate(
                    f"   {rounded(row['tokens_per_s'])}",
                    (row["tokens_per_s"], place),
                    va="center",
                    fontsize=8,
                )
        left.set_yticks(range(len(rows)), rows["name"], fontsize=8)
        left.set_ylim(len(rows) - 0.5, -0.6)
        left.grid(axis="x", alpha=0.25)
        right.grid(axis="x", alpha=0.25)
        left.set_title(f"{model}, {text}", loc="left", fontsize=9)
        right.axvline(PAPER_TOKENS_PER_S, color=style.RED, linewidth=1.2, linestyle="--", label="paper: 22.9")
        right.axvline(READING_TOKENS_PER_S, color=style.GREEN, linewidth=1.2, linestyle=":", label="reading: 3.3")
    for axes in (every[0][0], every[0][1]):
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * (high / low) ** 0.2)
        plain_log(axes.xaxis)
        axes.tick_params(axis="x", labelsize=8)
    every[-1][0].set_xlabel("MoE layers, USD per million tokens")
    every[-1][1].set_xlabel("throughput, tokens/s")
    every[0][1].legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return figure
