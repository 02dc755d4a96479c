"""Live against simulated: every plan's cost and latency beside the line where both are equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.live.compare import Comparison
from experiments.tools import style

LOOKS = {
    "storage": (style.BLUE, "o"),
    "pipelined": (style.RED, "s"),
    "direct": (style.GREEN, "^"),
    "blocks": (style.ORANGE, "v"),
}
MIXED = (style.PURPLE, "D")


def draw_live(comparisons: Sequence[Comparison], path: Path) -> None:
    """Two panels, cost and latency; hollow: a plan that asks for more cores than the machine has.

    Bars: the range of the live batches. Written to `path`.png and `path`.svg.
    """
    figure = style.new_figure(7.2, 3.4)
    for axes, name, scale, label in (
        (figure.add_subplot(1, 2, 1), "cost_usd", 1e6, "cost of a batch, experts, micro-USD"),
        (figure.add_subplot(1, 2, 2), "latency_s", 1.0, "latency of a batch, s"),
    ):
        shown = [x for x in comparisons if getattr(x, name).live == getattr(x, name).live]  # not NaN
        values = [v * scale for x in shown for v in (getattr(x, name).live, getattr(x, name).simulated)]
        low, high = (min(values) * 0.9, max(values) * 1.1) if values else (0.0, 1.0)
        axes.plot([low, high], [low, high], color=style.GREY, linewidth=0.8, label="equal")
        axes.fill_between(
            [low, high], [0.9 * low, 0.9 * high], [1.1 * low, 1.1 * high], color=style.GREY, alpha=0.15
        )
        named: set[str] = set()
        for x in shown:
            measure = getattr(x, name)
            colour, marker = LOOKS.get(x.methods, MIXED)
            method = x.methods if x.methods in LOOKS else "several methods"
            axes.errorbar(
                measure.live * scale,
                measure.simulated * scale,
                xerr=measure.live * measure.spread * scale,
                fmt=marker,
                color=colour,
                markerfacecolor="none" if x.oversubscribed else colour,
                markersize=5,
                linewidth=0.8,
                label=None if method in named else method,
            )
            named.add(method)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_xlabel(f"live: {label}")
        axes.set_ylabel(f"simulated: {label}")
        axes.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False, fontsize=7, title="band: 10%", title_fontsize=7)
    style.save(figure, path)
