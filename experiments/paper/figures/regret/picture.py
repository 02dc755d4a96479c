"""The regret figure's picture: regret, and latency beyond the limit, over drift and over skew for each model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.tools import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {
    "bayes": (style.BLUE, "o"),
    "bayes, expected": (style.BLUE, "."),
    "lina": (style.ORANGE, "s"),
    "lina, expected": (style.ORANGE, "+"),
    "position": (style.GREEN, "^"),
    "history": (style.RED, "D"),
    "similar prompts": (style.PURPLE, "v"),
    "lstm": (style.SKY, "P"),
    "uniform": (style.GREY, "x"),
}


LINEAR = 0.1
"""Latency beyond the limit is drawn linearly up to here, logarithmically above."""


def draw(data: pd.DataFrame) -> Figure:
    """A column for each served text and one for skew; above regret, below latency beyond the limit."""
    models = list(data["model"].unique())
    drift = data[data["over"] == "drift"]
    home = drift[drift["x"] == 0.0]["text"].iloc[0]
    others = [text for text in drift["text"].unique() if text != home]
    columns = [*others, "skew"]
    figure = style.new_figure(2.7 * len(columns) + 0.8, 3.8 * len(models) + 0.4)
    every = figure.subplots(2 * len(models), len(columns), squeeze=False, sharex="col", sharey="row")
    for k, model in enumerate(models):
        own = data[data["model"] == model]
        for column, name in enumerate(columns):
            of_text = own["text"].isin([home, name]) & (own["over"] == "drift")
            rows = own[own["over"] == "skew"] if name == "skew" else own[of_text]
            above, below = every[2 * k][column], every[2 * k + 1][column]
            _lines(above, below, rows)
            title = "Zipf's law, profiled as served" if name == "skew" else f"{home}, then {name}"
            above.set_title(f"{model}: {title}", loc="left", fontsize=9)
            below.set_xlabel("exponent" if name == "skew" else f"share of {name} in the batch")
        every[2 * k][0].set_ylabel("regret")
        every[2 * k + 1][0].set_ylabel("latency beyond the limit")
    handles, labels = every[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=8)
    return figure


def _lines(above: Axes, below: Axes, rows: pd.DataFrame) -> None:
    for name, group in rows.sort_values("x", kind="stable").groupby("predictor", sort=False):
        colour, marker = LOOKS.get(str(name), ("black", "."))
        look: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "markersize": 4.5,
            "linewidth": 1.2,
            "linestyle": "--" if "expected" in str(name) else "-",
        }
        for axes, what in ((above, "regret"), (below, "beyond")):
            error = np.abs([group[what] - group[f"{what}_low"], group[f"{what}_high"] - group[what]])
            axes.errorbar(group["x"], group[what], error, capsize=2, label=str(name), **look)
    below.set_yscale("symlog", linthresh=LINEAR, linscale=2)  # one bad predictor hides no other
    below.set_yticks([0, 0.05, LINEAR, 1])
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
