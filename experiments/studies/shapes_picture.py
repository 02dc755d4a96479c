"""Cost over model size: whole, in blocks, an expert a function, and the wall of the largest function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.tools import style
from experiments.tools.shapes import BLOCKS, COLOURS, EXPERTS, WHOLE

if TYPE_CHECKING:
    from experiments.studies.shapes import ShapeRow

SERIES = (
    ("whole_usd", WHOLE, "o"),
    ("cut_usd", "blocks in two functions or more", "s"),
    ("experts_usd", EXPERTS, "^"),
)
LOOKS = {"whole_usd": COLOURS[WHOLE], "cut_usd": COLOURS[BLOCKS], "experts_usd": COLOURS[EXPERTS]}
SHOWN = ("int8", "bf16")
WALL_MB = 10_240


def draw_shapes(rows: Sequence[ShapeRow], title: str, path: Path) -> None:
    """Draw cost over parameters, a panel a precision, to `path`.png and `path`.svg."""
    figure = style.new_figure(7.2, 3.4)
    shown = [weights for weights in SHOWN if any(row.weights == weights for row in rows)]
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    for axes, weights in zip(panels, shown, strict=True):
        mine = [row for row in rows if row.weights == weights]
        size = np.array([row.parameters for row in mine]) / 1e9
        for key, name, marker in SERIES:
            usd = np.array([getattr(row, key) for row in mine])
            axes.plot(size, usd, marker, color=LOOKS[key], markersize=4.5, label=name, alpha=0.85)
        needed = np.array([row.needs_mb for row in mine])
        if needed.min() < WALL_MB < needed.max():
            wall = np.exp(np.interp(np.log(WALL_MB), np.log(needed), np.log(size)))
            axes.axvline(wall, color=style.RED, linewidth=1, linestyle="--")
            axes.annotate(
                f"{WALL_MB:,} MB ",
                (wall, 0.02),
                xycoords=("data", "axes fraction"),
                color=style.RED,
                fontsize=8,
                ha="right",
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(weights, fontsize=8, loc="left")
        axes.set_xlabel("parameters, billions", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("whole bill, USD per million tokens", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3, frameon=False, fontsize=8, loc="outside lower center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=8)
    style.save(figure, path)
