"""Rows of the CPU cluster, as figures 2 and 14 have them: for each period that it is charged for."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.figures.paper.plans import MILLION
from experiments.figures.paper.routing import Cell, TestBatches, with_interval
from simulator.cluster import PERIODS, run_on_cluster

TITLES = {"second": "by the second", "hour": "1 h a batch", "month": "by the month"}


def cluster_rows(cell: Cell, batches: TestBatches) -> list[dict[str, Any]]:
    """A row for each period, without and with BetterTransformer: the MoE layers' share of the bill, and speed."""
    cluster, found = cell.platform.cluster, []
    for fused in (False, True):
        runs = [
            run_on_cluster(
                cell.spec, tokens, cell.batch_tokens, cluster, better_transformer=fused,
                layer_type=cell.model.better_transformer,
            )
            for tokens in batches.real
        ]  # fmt: skip
        charged = {
            "second": f"charged only for the seconds used, all {cluster.cores.median:.0f} cores of it busy",
            "hour": "charged an hour for every batch",
            "month": f"charged by the month, {cluster.month_utilisation.median:.0%} of which it serves batches",
        }
        for period in PERIODS:
            usd = [run.cost_usd[period] / cell.batch_tokens * MILLION for run in runs]
            speed = [cell.batch_tokens / run.latency_s for run in runs]
            name = f"CPU{', BetterTransformer' if fused else ''}, {TITLES[period]}"
            found.append(
                {"name": name, "period": period, "better_transformer": fused, "charged": charged[period]}
                | with_interval("billed_usd", usd, batches.independent)
                | with_interval("tokens_per_s", speed, batches.independent)
                | {"latency_s": float(np.mean([run.latency_s for run in runs]))}
            )
    return found
