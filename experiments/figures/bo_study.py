"""How much of the gap to the oracle each sampler closes on unseen batches, over drift; and how scores converge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.prediction.tune_picture import COLOURS, mean_and_half_width
from experiments.tools import style

CONVERGENCE_DRIFT = 0.5


def gaps(summary: Any, counting: str = "hard", objective: str = "bill+slo") -> dict[str, np.ndarray]:
    """The left picture's data: of each sampler, rows (drift, gap closed, low, high)."""
    chosen = summary[
        (summary["counting"] == counting) & (summary["objective"] == objective) & (summary["change"] == "")
    ]
    return {
        name: group.sort_values("drift")[["drift", "gap_closed", "low", "high"]].to_numpy(float)
        for name, group in chosen.groupby("sampler", sort=False)
    }


def convergence(runs: Any, drift: float = CONVERGENCE_DRIFT) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The right picture's data: of each sampler, mean and half interval of the gap closed after each trial, on the
    batches tuned on; a run that stopped keeps its last."""
    chosen = runs[
        (runs["counting"] == "hard")
        & (runs["objective"] == "bill+slo")
        & (runs["change"] == "")
        & (runs["drift"] == drift)
    ]
    longest = int(chosen["trials"].max())
    found = {}
    for name, group in chosen.groupby("sampler", sort=False):
        closed = []
        for _, run in group.iterrows():
            best = np.array(str(run["best_scores"]).split(), float)
            best = np.append(best, np.full(longest - len(best), best[-1]))
            closed.append((run["seen_none"] - best) / (run["seen_none"] - run["seen_oracle"]))
        found[name] = mean_and_half_width(np.array(closed))
    return found


def draw_study(folder: Path, path: Path) -> None:
    """Draw both from `folder`/runs.csv and summary.csv to `path`.png and `path`.svg."""
    import pandas as pd

    runs = pd.read_csv(folder / "runs.csv", keep_default_na=False)
    summary = pd.read_csv(folder / "summary.csv", keep_default_na=False, na_values=["nan"])
    summary["change"] = summary["change"].fillna("")
    figure = style.new_figure(9.0, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    found = gaps(summary)
    for place, (name, rows) in enumerate(found.items()):
        if name == "none":
            continue
        at = np.arange(len(rows)) + (place - len(found) / 2) * 0.1
        error = np.abs(rows[:, 2:].T - rows[:, 1])
        left.errorbar(at, rows[:, 1], error, fmt="o", color=COLOURS[name], markersize=5, capsize=2, label=name)
    drifts = next(iter(found.values()))[:, 0]
    left.set_xticks(np.arange(len(drifts)), [f"{drift:.0%}" for drift in drifts])
    left.set_xlabel("drift: share of the served text that is of another corpus")
    left.set_ylabel("gap to the oracle closed, unseen batches")
    for name, (mean, half) in convergence(runs).items():
        trials = np.arange(len(mean))
        right.plot(trials, mean, color=COLOURS[name], linewidth=1.5)
        right.fill_between(trials, mean - half, mean + half, color=COLOURS[name], alpha=0.15, linewidth=0)
    right.set_xlabel("trial")
    right.set_ylabel("the same, on the batches tuned on")
    right.set_title(f"drift {CONVERGENCE_DRIFT:.0%}", loc="left", fontsize=9)
    for axes in (left, right):
        axes.axhline(0, color=style.GREY, linewidth=1)
        axes.axhline(1, color="black", linewidth=1, linestyle="--")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(alpha=0.25)
    left.legend(fontsize=7, frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(0.02, 0.86))
    left.set_title("bill+slo, Bert MoE 12 x 4; 95% intervals over seeds", loc="left", fontsize=9)
    style.save(figure, path)
