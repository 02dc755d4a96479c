"""Cost over model size: whole, in blocks, an expert a function, and the wall of the largest function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.tools import style
from experiments.tools.shapes import BLOCKS, COLOURS, EXPERTS, WHOLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.studies.shapes import ShapeRow

SERIES = (
    ("whole_usd", WHOLE, "o", COLOURS[WHOLE]),
    ("cut_usd", "blocks in two functions or more", "s", COLOURS[BLOCKS]),
    ("experts_usd", EXPERTS, "^", COLOURS[EXPERTS]),
)
SHOWN = ("int8", "bf16")
WALL_MB = 10_240


def draw_shapes(rows: Sequence[ShapeRow], title: str, path: Path) -> None:
    """Draw cost over parameters, and below it how much more each shape costs than the cheapest, a column a
    precision, to `path`.png and `path`.svg."""
    figure = style.new_figure(7.2, 5.2)
    shown = [weights for weights in SHOWN if any(row.weights == weights for row in rows)]
    panels = figure.subplots(2, len(shown), sharex=True, sharey="row", squeeze=False)
    for (above, below), weights in zip(panels.T, shown, strict=True):
        mine = [row for row in rows if row.weights == weights]
        size = np.array([row.parameters for row in mine]) / 1e9
        usd = np.array([[getattr(row, key) for row in mine] for key, *_ in SERIES])
        for (_, name, marker, colour), cost in zip(SERIES, usd, strict=True):
            look = {"color": colour, "markersize": 5, "fillstyle": "none", "markeredgewidth": 1.3}
            above.plot(size, cost, marker, label=name, **look)
            below.plot(size, 100 * (cost / np.nanmin(usd, axis=0) - 1), marker, **look)
        _wall(above, below, size, np.array([row.needs_mb for row in mine]))
        above.set_yscale("log")
        above.set_title(weights, fontsize=8, loc="left")
        below.set_xscale("log")
        below.set_xlabel("parameters, billions", fontsize=8)
        for axes in (above, below):
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.25)
    panels[0, 0].set_ylabel("whole bill, USD per million tokens", fontsize=8)
    panels[1, 0].set_ylabel("above the cheapest shape, %", fontsize=8)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, frameon=False, fontsize=8, loc="outside lower center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=8)
    style.save(figure, path)


def _wall(above: Axes, below: Axes, size: np.ndarray, needed_mb: np.ndarray) -> None:
    """The size, between two models', from which on the whole model fits no function."""
    if not needed_mb.min() < WALL_MB < needed_mb.max():
        return
    wall = np.exp(np.interp(np.log(WALL_MB), np.log(needed_mb), np.log(size)))
    for axes in (above, below):
        axes.axvline(wall, color=style.RED, linewidth=1, linestyle="--")
    place = above.get_xaxis_transform()
    above.text(wall, 0.02, f"{WALL_MB:,} MB ", transform=place, color=style.RED, fontsize=8, ha="right")
