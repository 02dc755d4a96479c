"""Fan-in: what the maximum over more and more requests adds to a latency, and how far the closed form is off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.tools import style
from experiments.validation.mechanisms import FanIn

LOOKS = {
    "storage": (style.BLUE, "o", "-"),
    "pipelined": (style.RED, "s", "--"),
    "direct": (style.GREEN, "^", "-."),
}


def draw_fan_in(rows: Sequence[FanIn], path: Path) -> None:
    """Draw both as curves over the replicas, with a band from the 5th to the 95th percentile of the seeds.

    Written to `path`.png and `path`.svg.
    """
    figure = style.new_figure(7.2, 3.0)
    left, right = figure.subplots(1, 2)
    for axes, values, label in (
        (left, [row.added_by_tails for row in rows], "latency added by tails, %"),
        (right, [row.closed_form_error for row in rows], "closed form off by, % of simulated"),
    ):
        for method in dict.fromkeys(row.method for row in rows):
            colour, marker, line = LOOKS[method]
            chosen = [k for k, row in enumerate(rows) if row.method == method]
            x = [rows[k].replicas for k in chosen]
            percent = 100 * np.array([values[k] for k in chosen])
            low, high = np.quantile(percent, [0.05, 0.95], axis=1)
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(
                x,
                percent.mean(axis=1),
                line,
                marker=marker,
                color=colour,
                label=method,
                markersize=4,
                linewidth=1.4,
            )
        axes.axhline(0, color=style.GREY, linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xticks([row.replicas for row in rows], [str(row.replicas) for row in rows])
        axes.minorticks_off()
        axes.set_xlabel("replicas of each expert")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=8)
    style.save(figure, path)
