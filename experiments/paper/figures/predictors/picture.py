"""The predictors' picture: the error of each on the profiled text and on others, and over skew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.tools import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ON = {"same text": (style.BLUE, "o"), "other text": (style.ORANGE, "s")}


def draw(data: pd.DataFrame) -> Figure:
    """A row for each model: left every predictor's mean error, right that of the best ones over skew."""
    models = list(data["model"].unique())
    names = list(dict.fromkeys(data["predictor"]))
    figure = style.new_figure(9.0, (0.9 + 0.22 * len(names)) * len(models) + 0.4)
    every = figure.subplots(len(models), 2, squeeze=False, sharex="col")
    for (left, right), model in zip(every, models, strict=True):
        own = data[data["model"] == model]
        _errors(left, own[own["row"] == "case"], names)
        _over_skew(right, own[own["row"] == "skew"])
        left.set_title(model, loc="left", fontsize=9)
        right.set_title(f"{model}: the least error of any predictor", loc="left", fontsize=9)
    every[-1][0].set_xlabel("tokens off, of an expert's mean")
    every[-1][1].set_xlabel("skew of a layer, from")
    every[0][0].legend(frameon=False, fontsize=8)
    return figure


def _errors(axes: Axes, cases: pd.DataFrame, names: list[str]) -> None:
    for on, (colour, marker) in ON.items():
        rows = cases[cases["on"] == on]
        shares = rows.groupby("predictor")["share"].agg(["mean", "min", "max"]).reindex(names)
        error = [shares["mean"] - shares["min"], shares["max"] - shares["mean"]]
        look: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "linestyle": "none",
            "markersize": 4,
            "elinewidth": 0.8,
        }
        axes.errorbar(shares["mean"], np.arange(len(names)), xerr=error, label=on, **look)
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.25)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _over_skew(axes: Axes, rows: pd.DataFrame) -> None:
    for on, (colour, marker) in ON.items():
        least = rows[rows["on"] == on].groupby("skew_from")["share"].min()
        axes.plot(least.index, least, color=colour, marker=marker, markersize=4, label=on)
    axes.grid(alpha=0.25)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
