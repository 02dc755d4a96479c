"""Swings of the headline ratios over each uncertain factor, and the share of variance that each explains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.tools import style

if TYPE_CHECKING:
    from experiments.studies.sensitivity import Sensitivity

SHOWN = {
    "cost": "cost over LambdaML's",
    "second": "cost over cluster, by the second",
    "month": "cost over cluster, by the month",
}
BARS = 8
COARSE, FINE = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10), (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def swings_of(found: Sensitivity, output: str) -> list[tuple[str, float, float]]:
    """Factors with the widest swings of a ratio, narrowest first: name, ratio at the low and the high end."""
    rows = [(s.factor, s.low, s.high) for s in found.swings if s.output == output]
    widest = sorted(rows, key=lambda row: abs(np.log(row[2] / row[1])))[-BARS:]
    return [row for row in widest if abs(np.log(row[2] / row[1])) > 1e-3]


def draw_tornado(found: Sensitivity, path: Path) -> None:
    """Draw a column for each ratio: swings above, Sobol indices below, to `path`.png and `path`.svg."""
    from matplotlib.lines import Line2D

    from experiments.studies.sensitivity import CLAIMS

    figure = style.new_figure(11.0, 6.4)
    axes = figure.subplots(2, len(SHOWN), height_ratios=(1, 1))
    for k, (output, title) in enumerate(SHOWN.items()):
        top, bottom = axes[0][k], axes[1][k]
        middle = found.nominal[output]
        rows = swings_of(found, output)
        for y, (_, low, high) in enumerate(rows):
            top.plot([middle, low], [y, y], color=style.BLUE, linewidth=7, solid_capstyle="butt")
            top.plot([middle, high], [y, y], color=style.ORANGE, linewidth=7, solid_capstyle="butt")
        top.set_yticks(range(len(rows)), [row[0] for row in rows])
        top.set_xscale("log")
        top.axvline(middle, color="black", linewidth=1)
        top.axvline(CLAIMS[output], color=style.RED, linewidth=1.2, linestyle="--")
        if output != "cost":
            top.axvline(1, color=style.GREY, linewidth=1, linestyle=":")
        low, high = top.get_xlim()
        ticks = [tick for tick in (FINE if high < 3 * low else COARSE) if low <= tick <= high]
        top.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        top.set_xticks([], minor=True)
        top.set_xlabel(title)
        indices = sorted((x for x in found.indices if x.output == output), key=lambda x: x.total)[-BARS:]
        places = np.arange(len(indices))
        bottom.barh(
            places,
            [x.total for x in indices],
            xerr=[x.total_half for x in indices],
            color=style.SKY,
            label="total",
        )
        bottom.barh(places, [max(x.first, 0) for x in indices], height=0.4, color=style.BLUE)
        bottom.set_yticks(places, [x.factor for x in indices])
        bottom.set_xlabel("share of the variance of log(ratio)")
        bottom.set_xlim(0, 1.05)
    handles = [
        Line2D([], [], color=style.BLUE, linewidth=6, label="low end of its range"),
        Line2D([], [], color=style.ORANGE, linewidth=6, label="high end"),
        Line2D([], [], color="black", linewidth=1, label="nominal"),
        Line2D([], [], color=style.RED, linestyle="--", label="the paper's claim"),
        Line2D([], [], color=style.GREY, linestyle=":", label="as dear as the cluster"),
        Line2D([], [], color=style.BLUE, linewidth=4, label="variance: alone"),
        Line2D([], [], color=style.SKY, linewidth=6, label="with interactions"),
    ]
    figure.legend(handles=handles, ncols=len(handles), frameon=False, fontsize=8, loc="outside lower center")
    figure.suptitle(
        f"{found.model} on {found.profile}: one factor at a time (above), all at once (below, Sobol)",
        x=0.01,
        ha="left",
        fontsize=10,
    )
    style.save(figure, path)
