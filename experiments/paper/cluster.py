"""Rows of the CPU cluster, as figures 2 and 14 have them: for each period that it is charged for."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.paper.plans import MILLION
from experiments.paper.routing import Cell, with_interval
from experiments.run.routing import HeldOutBatches
from simulator.serving.cluster import PERIODS, Charged, ClusterRun, Period, run_on_cluster

SHARES: tuple[Charged, ...] = ("memory-share", "whole")
"""Other shares of the cluster that the MoE layers might be charged; the default is their share of the time."""

TITLES = {"second": "by the second", "hour": "1 h a batch", "month": "by the month"}


def cluster_rows(cell: Cell, batches: HeldOutBatches) -> list[dict[str, Any]]:
    """A row for each period, without and with BetterTransformer: the MoE layers' bill, and speed.

    `usd_memory-share`, `usd_whole`: the bill where they are charged another share of the cluster.
    """
    cluster, found = cell.platform.cluster, []
    cores = cluster.cores.median
    charged = {
        "second": f"charged only for the seconds used, all {cores:.0f} cores of it busy",
        "hour": "charged an hour for every batch",
        "month": f"charged by the month, {cluster.month_utilisation.median:.0%} of which it serves batches",
    }
    for fused in (False, True):
        runs = _runs(cell, batches, fused)
        others = {share: _runs(cell, batches, fused, share) for share in SHARES}
        for period in PERIODS:
            usd, speed = _usd(cell, runs, period), [cell.batch_tokens / run.latency_s for run in runs]
            name = f"CPU{', BetterTransformer' if fused else ''}, {TITLES[period]}"
            found.append(
                {"name": name, "period": period, "better_transformer": fused, "charged": charged[period]}
                | with_interval("billed_usd", usd, batches.independent)
                | with_interval("tokens_per_s", speed, batches.independent)
                | {"latency_s": float(np.mean([run.latency_s for run in runs])), "cores": cores}
                | {f"usd_{share}": float(np.mean(_usd(cell, x, period))) for share, x in others.items()}
            )
    return found


def _runs(cell: Cell, batches: HeldOutBatches, fused: bool, charged: Charged = "time-share") -> list[ClusterRun]:
    return [
        run_on_cluster(
            cell.spec,
            tokens,
            cell.batch_tokens,
            cell.platform,
            better_transformer=fused,
            layer_type=cell.model.better_transformer,
            charged=charged,
        )
        for tokens in batches.real
    ]


def _usd(cell: Cell, runs: list[ClusterRun], period: Period) -> list[float]:
    """Of each batch, USD per million tokens."""
    return [run.cost_usd[period] / cell.batch_tokens * MILLION for run in runs]
