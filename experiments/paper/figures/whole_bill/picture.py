"""The picture of the whole bill: what each objective's plan costs, and of what that is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.paper.figures.whole_bill.objectives import EXPERTS, KEPT, REQUESTS, RIGHT, WHOLE
from experiments.tools import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOOKS = {
    EXPERTS: (style.BLUE, "o"),
    REQUESTS: (style.SKY, "^"),
    WHOLE: (style.ORANGE, "s"),
    KEPT: (style.GREEN, "D"),
}
PARTS = {
    "experts_usd": ("experts, GB-s", style.BLUE),
    "requests_usd": ("experts' requests, exchange", style.SKY),
    "gates_usd": ("gates at work", style.GREEN),
    "waiting_usd": ("gates waiting", style.ORANGE),
    "gates_requests_usd": ("gates' other requests", style.GREY),
}
RELOADED = {"every-invocation": "parameters reloaded at each call", "when-cold": "parameters kept"}


def draw(data: pd.DataFrame) -> Figure:
    """A row of panels for each model: the whole bill over the target, reloaded and kept; its parts."""
    models = list(data.groupby(["model", "text"], sort=False))
    figure = style.new_figure(11.0, 3.1 * len(models) + 0.5)
    every = figure.subplots(len(models), 3, squeeze=False, sharey="row", width_ratios=[3, 3, 4])
    for row, ((model, text), group) in zip(every, models, strict=True):
        for axes, (reload, title) in zip(row, RELOADED.items(), strict=False):
            _bills(axes, group[group["reload"] == reload])
            axes.set_title(title, loc="left", fontsize=9)
        row[0].set_title(f"{model}, {text}\n{RELOADED['every-invocation']}", loc="left", fontsize=9)
        row[0].set_ylabel("whole bill, USD per million tokens")
        _parts(row[2], group[group["reload"] == "every-invocation"])
        row[0].set_ylim(bottom=0)
    every[0][0].legend(frameon=False, fontsize=7.5, title="planned for the", title_fontsize=7.5, alignment="left")
    every[0][2].legend(frameon=False, fontsize=7, loc="upper left")
    return figure


def _bills(axes: Any, rows: pd.DataFrame) -> None:
    for objective, (colour, marker) in LOOKS.items():
        mine = rows[rows["objective"] == objective].sort_values("target_tokens_per_s")
        bill = mine["total_usd"]
        error = [bill - mine["total_usd_low"], mine["total_usd_high"] - bill]
        axes.errorbar(mine["target_tokens_per_s"], bill, error, color=colour, marker=marker, markersize=4,
                      linewidth=1.3, capsize=2, label=objective)  # fmt: skip
    axes.set_xlabel("target throughput, tokens/s")
    axes.grid(alpha=0.25)


def _parts(axes: Any, rows: pd.DataFrame) -> None:
    """Beside each other at each limit: the plan for the GB-s and the one for the whole bill."""
    limits = sorted(rows["slack"].unique())
    for k, objective in enumerate((EXPERTS, RIGHT["every-invocation"])):
        mine = rows[rows["objective"] == objective].sort_values("slack")
        x, bottom = np.arange(len(limits)) + 0.42 * k - 0.21, np.zeros(len(limits))
        for name, (title, colour) in PARTS.items():
            axes.bar(x, mine[name], 0.38, bottom, color=colour, label=title if k == 0 else "_")
            bottom = bottom + mine[name].to_numpy()
    axes.set_xticks(range(len(limits)), [f"{x:g}" for x in limits])
    axes.set_xlabel("limit, times the least latency\n(left: planned for the GB-s, right: for the whole bill)")
    axes.set_title("its parts, reloaded at each call", loc="left", fontsize=9)
    axes.grid(alpha=0.25, axis="y")
    axes.set_axisbelow(True)
