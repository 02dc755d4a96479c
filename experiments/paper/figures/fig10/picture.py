"""The picture of figure 10: errors by variant."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from experiments.paper.figures.fig10.counting import COUNTING
from experiments.tools import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOOKS = {"bayes": (style.BLUE, "o"), "lina": (style.ORANGE, "s")}


def draw(data: pd.DataFrame) -> Figure:
    """Errors by variant, in tokens and as shares: the mean over models and texts, and each as a small mark."""
    variants = list(data[["experts", "top_k"]].drop_duplicates().itertuples(index=False))
    figure = style.new_figure(7.2, 2.9)
    for axes, column in zip(figure.subplots(1, 2), ("tokens", "share"), strict=True):
        for k, (name, counting) in enumerate(itertools.product(("bayes", "lina"), COUNTING)):
            colour, marker = LOOKS[name]
            rows = data[(data["predictor"] == name) & (data["counting"] == counting)]
            for place, (experts, top_k) in enumerate(variants):
                errors = rows[(rows["experts"] == experts) & (rows["top_k"] == top_k)][column]
                x, face = place + (k - 1.5) * 0.17, colour if counting == "hard" else "white"
                axes.plot([x] * len(errors), errors, "_", color=colour, markersize=4, alpha=0.6)
                axes.plot(x, errors.mean(), marker, color=colour, markerfacecolor=face, markersize=5,
                          label=f"{name}, {counting}" if place == 0 else "_")  # fmt: skip
        axes.set_xticks(range(len(variants)), [f"{e} experts\ntop-{k}" for e, k in variants], fontsize=8)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", alpha=0.25)
    left, right = figure.axes
    left.set_ylabel("error, tokens an expert")
    right.set_ylabel("error, share of an\nexpert's mean load")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.legend(
        *left.get_legend_handles_labels(), frameon=False, fontsize=8, ncols=4, loc="outside upper center"
    )
    return figure
