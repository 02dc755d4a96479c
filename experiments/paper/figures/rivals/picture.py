"""The rivals' picture: cost over throughput, as planned beside the certified front, and as served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments.paper.axes import plain_log
from experiments.tools import style
from experiments.tools.shapes import LANES, WHOLE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOOKS = {
    "ods": ("ODS", style.BLUE, "o"),
    "exact": ("exact", "black", "."),
    "random": ("random methods", style.SKY, "^"),
    "best-uniform": ("best uniform", style.GREY, "D"),
    "best-uniform, known": ("best uniform, popularity known", style.GREY, "d"),
    "best-memory": ("one memory, no replicas", style.ORANGE, "v"),
    "memory-only": ("memory only", style.ORANGE, "p"),
    "replicas-only": ("replicas only", style.GREEN, "X"),
    "reactive": ("reactive", style.GREEN, "*"),
    "lambdaml 3008": ("LambdaML 3008 MB", style.RED, "s"),
    "lambdaml 3072": ("LambdaML 3072 MB", style.RED, "+"),
    "lambdaml 10240": ("LambdaML 10,240 MB", style.RED, "x"),
    "blocks of 2": ("blocks of 2", style.PURPLE, "h"),
    "exact, groups of 2 by load": ("exact, groups of 2 by load", style.PURPLE, "<"),
    "remoe": ("Remoe", style.PURPLE, "P"),
    WHOLE: ("whole model, one function,\nwith attention and gates", style.RED, "*"),
    LANES: ("whole model, n lanes, the same", style.RED, "1"),
}
"""Of each rival that is drawn: its title, colour, marker; the other groupings are in the table."""

PERIODS = {"by the second": ("the second", "s"), "by the month": ("the month", "o")}
"""Of the cluster's rows that are drawn; an hour a batch is far off."""


def draw(data: pd.DataFrame) -> Figure:
    """A row of panels for each model: plans beside the front; the same as served; the cluster."""
    models = list(data.groupby(["model", "text"], sort=False))
    figure = style.new_figure(10.2, 3.5 * len(models) + 0.5)
    every = figure.subplots(len(models), 3, squeeze=False, sharey="row", width_ratios=[4, 4, 1.5])
    for (planned, served, cluster), ((model, text), group) in zip(every, models, strict=True):
        plans = group[(group["row"] == "plan") & group["found"].eq(True)]
        front = group[group["row"] == "front"].dropna(subset="planned_usd").sort_values("target_tokens_per_s")
        for axes, line in ((planned, "-"), (served, ":")):
            axes.step(front["target_tokens_per_s"], front["planned_usd"], where="pre", color="black",
                      linewidth=1.2, linestyle=line, label="certified front (dotted: as planned)")  # fmt: skip
        _points(planned, plans, "planned_tokens_per_s", "planned_usd")
        _points(served, plans, "tokens_per_s", "realised_usd")
        _cluster(cluster, group[group["row"] == "cluster"])
        served.sharex(planned)
        planned.set_yscale("log")
        plain_log(planned.yaxis)
        planned.set_title(f"{model}, {text}: as planned", loc="left", fontsize=9)
        served.set_title("as served, test batches", loc="left", fontsize=9)
        cluster.set_title("CPU cluster", loc="left", fontsize=9)
        for axes in (planned, served, cluster):
            axes.grid(alpha=0.25)
            axes.set_xlabel("throughput, tokens/s")
        planned.set_ylabel("experts' bill, USD per million tokens")
    handles, labels = every[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=7.5,
                  title="hollow: breaks a memory's\nor payload's limit", title_fontsize=7)  # fmt: skip
    return figure


def _points(axes: Any, plans: pd.DataFrame, x: str, y: str) -> None:
    """A marker for each rival and limit, with intervals where there are any."""
    for rival, (title, colour, marker) in LOOKS.items():
        rows = plans[plans["rival"] == rival].dropna(subset=[x, y])
        for fits, face in ((True, colour), (False, "white")):
            part = rows[rows["breaks"].isin(["", "latency"]) == fits]
            if len(part):
                axes.errorbar(part[x], part[y], _error(part, y), _error(part, x), fmt=marker, color=colour,
                              markerfacecolor=face, markersize=5.5, linewidth=0.8, alpha=0.9,
                              zorder=4 if rival in ("ods", "exact") else 3, label="_")  # fmt: skip
        axes.plot([], [], marker, color=colour, markersize=5.5, label=title)


def _error(rows: pd.DataFrame, name: str) -> Any:
    if f"{name}_low" not in rows:
        return None
    return [rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]]


def _cluster(axes: Any, rows: pd.DataFrame) -> None:
    """The MoE layers' bill by the period that is paid; hollow: with BetterTransformer."""
    for row in rows.itertuples():
        fused = "BetterTransformer" in row.rival
        for period, (title, marker) in PERIODS.items():
            if row.rival.endswith(period):
                face, label = ("white", "_") if fused else (style.SKY, title)
                axes.plot(row.tokens_per_s, row.realised_usd, marker, color=style.SKY, markersize=6,
                          markerfacecolor=face, label=label)  # fmt: skip
    axes.legend(frameon=False, fontsize=7, loc="upper left", title="paid by (hollow:\nBetterTransformer)",
                title_fontsize=6.5, alignment="left")  # fmt: skip
    speeds = sorted(set(rows["tokens_per_s"]))
    axes.set_xlim(speeds[0] * 0.985, speeds[-1] * 1.015)
    axes.set_xticks([float(f"{speeds[0]:.3g}")])
