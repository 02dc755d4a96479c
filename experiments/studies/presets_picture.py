"""Cost and throughput of public MoE models: Lambda, LambdaML's rule, and a CPU cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.tools import style

if TYPE_CHECKING:
    from experiments.studies.presets import PresetRow

SERIES = (
    ("Lambda, least whole bill", "usd", "tokens_per_s", "o", style.ORANGE),
    ("LambdaML", "lambdaml_usd", "lambdaml_tokens_per_s", "s", style.GREEN),
    ("CPU cluster, month", "cluster_month_usd", "cluster_tokens_per_s", "^", style.BLUE),
    ("CPU cluster, seconds used", "cluster_second_usd", "cluster_tokens_per_s", "v", style.SKY),
)


def draw_presets(rows: Sequence[PresetRow], title: str, path: Path) -> None:
    """Draw models by cost, with every way to serve them, to `path`.png and `path`.svg."""
    shown = sorted((row for row in rows if not row.problem), key=lambda row: row.usd)
    figure = style.new_figure(10.0, 0.32 * len(shown) + 1.6)
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(shown))
    for name, cost, speed, marker, colour in SERIES:
        left.plot([getattr(r, cost) for r in shown], places, marker, color=colour, label=name, alpha=0.9)
        if speed != "cluster_tokens_per_s" or cost == "cluster_month_usd":
            right.plot([getattr(r, speed) for r in shown], places, marker, color=colour, alpha=0.9)
    left.set_yticks(places, [row.model for row in shown])
    left.set_xlabel("whole bill, USD per million tokens")
    right.set_xlabel("throughput of one batch, tokens/s")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.grid(axis="x", alpha=0.25)
    figure.legend(ncols=len(SERIES), frameon=False, fontsize=8, loc="outside lower center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    style.save(figure, path)
