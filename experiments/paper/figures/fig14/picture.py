"""The picture of figure 14: bill, speed, and which decision saves how much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.paper.axes import plain_log
from experiments.paper.figures.fig14.rows import EXPECTED, STEPS
from experiments.tools import style
from experiments.tools.paper_numbers import BELOW_LAMBDAML
from experiments.tools.style import rounded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STEP_COLOURS = dict(zip(STEPS, (style.SKY, style.GREEN, style.ORANGE, style.BLUE, style.PURPLE), strict=True))


def draw(data: pd.DataFrame) -> Figure:
    """Bill, 1/throughput and the gain's split, a row of panels for each model."""
    models = list(data.groupby(["model", "text"], sort=False))
    figure = style.new_figure(7.2, 2.3 * len(models) + 0.4)
    every = figure.subplots(len(models), 3, squeeze=False, width_ratios=(1.3, 1, 1))
    for (cost, slow, split), ((model, _), group) in zip(every, models, strict=True):
        rows = _shown(group)
        for place, (_, row) in enumerate(rows.iterrows()):
            colour, speed = _colour(row["name"]), 1000 / row["tokens_per_s"]
            error = [[row["billed_usd"] - row["billed_usd_low"]], [row["billed_usd_high"] - row["billed_usd"]]]
            cost.errorbar(row["billed_usd"], place, xerr=error, fmt="o", color=colour, capsize=2, markersize=5)
            cost.annotate(f"   {rounded(row['billed_usd'])}", (row["billed_usd"], place), va="center", fontsize=8)
            slow.plot(speed, place, "o", color=colour, markersize=5)
            slow.annotate(f"   {rounded(speed)}", (speed, place), va="center", fontsize=8)
        cost.set_yticks(range(len(rows)), rows["name"], fontsize=8)
        slow.set_yticks(range(len(rows)), [""] * len(rows))
        for axes in (cost, slow):
            axes.set_ylim(len(rows) - 0.4, -0.6)
            axes.grid(axis="x", alpha=0.25)
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            axes.set_xlim(low, high * (high / low) ** 0.35)
            plain_log(axes.xaxis)
            axes.tick_params(axis="x", labelsize=8)
        cost.set_title(model, loc="left", fontsize=9)
        _draw_split(split, group[(group["row"] == "split") & (group["possible"].astype(bool))])
    every[-1][0].set_xlabel("MoE layers, USD per million tokens", fontsize=8)
    every[-1][1].set_xlabel("1/throughput, ms a token", fontsize=8)
    every[-1][2].set_xlabel("method of LambdaML", fontsize=8)
    every[0][2].set_title("of its bill saved by", loc="left", fontsize=8)
    handles, names = every[0][2].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, fontsize=8, ncols=len(names), loc="outside lower right")
    return figure


def _shown(group: pd.DataFrame) -> pd.DataFrame:
    """Rows of a panel, cheapest first: LambdaML's cheapest method, no BetterTransformer or expected counts."""
    rows = group[(group["row"] == "serving") & group["possible"].ne(False) & group["better_transformer"].ne(True)]
    rows = rows.sort_values("billed_usd", kind="stable")
    rows = rows[rows["name"] != EXPECTED]
    rule = rows["name"].str.startswith("LambdaML")
    return rows[~rule | ~rule.duplicated()]


def _draw_split(axes: Any, rows: pd.DataFrame) -> None:
    """Shares of LambdaML's bill saved by each decision, a stack for each method of LambdaML."""
    methods = list(dict.fromkeys(rows["lambdaml_method"]))
    for place, method in enumerate(methods):
        up = down = 0.0
        for _, row in rows[rows["lambdaml_method"] == method].iterrows():
            share = row["saved_share"]
            axes.bar(place, share, 0.6, bottom=up if share >= 0 else down, color=STEP_COLOURS[row["name"]],
                     label=row["name"] if place == 0 else "_")  # fmt: skip
            up, down = (up + share, down) if share >= 0 else (up, down + share)
    axes.axhline(BELOW_LAMBDAML, color=style.RED, linewidth=1.2, linestyle="--")
    place = axes.get_yaxis_transform()
    axes.text(
        1, BELOW_LAMBDAML, f"paper: {BELOW_LAMBDAML:.2%}", transform=place, ha="right", va="bottom", fontsize=8
    )
    axes.set_ylim(top=max(axes.get_ylim()[1], 0.48))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(methods)), methods, fontsize=8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


COLOURS = {"CPU": style.GREY, "LambdaML": style.RED, "best": style.ORANGE}


def _colour(name: str) -> str:
    return next((colour for start, colour in COLOURS.items() if name.startswith(start)), style.BLUE)
