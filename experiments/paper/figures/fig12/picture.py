"""The picture of figure 12: cost over target throughput."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.paper.axes import plain_log
from experiments.tools import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

STYLES = {
    "ODS": (style.BLUE, "o", "-"),
    "MIQCP": (style.RED, "s", "-"),
    "random": (style.SKY, "^", "-"),
    "best uniform": (style.GREY, "D", "-"),
    "best uniform, popularity known": (style.ORANGE, "v", "-"),
    "optimum": ("black", "", ":"),
}


def draw(data: pd.DataFrame) -> Figure:
    """Cost over target throughput, a panel for each model; hollow: the plan misses the target; x: no plan."""
    panels = list(data.groupby(["model", "text"], sort=False))
    figure = style.new_figure(7.2 if len(panels) > 1 else 3.5, 3.0)
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, ((model, text), group) in zip(every, panels, strict=True):
        for solver, (colour, marker, line) in STYLES.items():
            rows = group[group["solver"] == solver]
            low, high = (np.abs(rows["planned_usd"] - rows[f"planned_usd_{end}"]) for end in ("low", "high"))
            x = rows["target_tokens_per_s"]
            axes.errorbar(x, rows["planned_usd"], [low, high], color=colour, linestyle=line, linewidth=1.3,
                          capsize=2, label=solver, zorder=4 if solver == "optimum" else 3)  # fmt: skip
            for row in rows.itertuples():
                face = colour if row.feasible_share == 1 else "white"
                if row.found and marker:
                    axes.plot(row.target_tokens_per_s, row.planned_usd, marker, color=colour, markerfacecolor=face,
                              markersize=5, zorder=3)  # fmt: skip
        failed = group[(group["solver"] == "MIQCP") & ~group["found"].astype(bool)]["target_tokens_per_s"]
        axes.plot(
            failed, [0.03] * len(failed), "x", color=style.RED, transform=axes.get_xaxis_transform(), label="_"
        )
        axes.set_xlabel("target throughput, tokens/s")
        axes.set_title(f"{model}, {text}", loc="left", fontsize=9)
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        axes.grid(alpha=0.25)
    every[0].set_ylabel("experts' compute,\nUSD per million tokens")
    handles, names = every[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, fontsize=8, ncols=3, loc="outside upper center",
                  title="hollow: misses the target; x: MIQCP found no plan in its time",
                  title_fontsize=8)  # fmt: skip
    return figure
