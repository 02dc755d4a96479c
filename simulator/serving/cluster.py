"""The CPU cluster that serverless is compared with: the same batch, all experts of a layer at once.

Source of the comparison: Liu, Wang, Wu, INFOCOM 2025, section V (Fig. 2 and 14).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from moe.spec import MoESpec
from simulator.profiles.closed_form import mean_speed
from simulator.profiles.schema import PlatformProfile
from simulator.servers.machine import Roofline

Period: TypeAlias = Literal["second", "hour", "month"]
LayerType: TypeAlias = Literal["attention", "encoder"]
Charged: TypeAlias = Literal["time-share", "memory-share", "whole"]
PERIODS: tuple[Period, ...] = ("second", "hour", "month")
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class ClusterRun:
    """One batch on the CPU cluster.

    Attributes:
        latency_s: of the batch; moe_s: the part spent in MoE layers.
        cost_usd: of the MoE layers (their share of the cluster) for each charged period: the seconds used; a whole
            hour for this one batch; a month that serves batches for `month_utilisation` of its time.
    """

    latency_s: float
    moe_s: float
    cost_usd: dict[Period, float]


def run_on_cluster(
    spec: MoESpec,
    tokens: np.ndarray,
    batch_tokens: float,
    profile: PlatformProfile,
    *,
    better_transformer: bool = False,
    layer_type: LayerType = "attention",
    charged: Charged = "time-share",
) -> ClusterRun:
    """A batch on the cluster: each step takes its arithmetic and its weights' way from memory, as on a function.

    So a small batch pays for all the weights that it uses. All experts of a layer run at once, with cores in
    proportion to their work, but none with more cores than it has tasks (of `smallest_task_flops`) for: a layer's
    arithmetic ends with its last expert's. With BetterTransformer the arithmetic of non-MoE layers is faster by
    the factor of their type; experts' is not.

    Args:
        spec: the model's sizes.
        tokens: tokens of each expert, shape (layers, experts).
        batch_tokens: tokens of the batch.
        profile: whose cluster; a core is `core_speed` times as fast as a vCPU of its functions.
        better_transformer: whether it runs torch's fused layers.
        layer_type: what is fused: `attention` (any model's) or `encoder` (whole encoder layers).
        charged: what of the cluster the MoE layers pay for while the batch is served: their share of its time, of
            the parameters in its memory, or all.
    """
    cluster, compute = profile.cluster, profile.compute
    cores = cluster.cores.median
    flops_per_core = compute.flops_per_vcpu.median * cluster.core_speed.median * cluster.efficiency.median
    flops_per_core *= mean_speed(profile, "x86_64", spec.precision)
    factor = getattr(cluster.better_transformer, layer_type).median if better_transformer else 1.0
    rate = cores * flops_per_core * compute.transformer_speed.median
    machine = Roofline(rate, cluster.memory_bytes_per_s.median, overlaps=False)

    tokens = np.asarray(tokens, float)
    work = spec.expert_flops * tokens
    usable = np.clip(np.ceil(work / cluster.smallest_task_flops.median), 1, cores)
    arithmetic_s = np.maximum(work.sum(axis=1) / cores, (work / usable).max(axis=1)) / flops_per_core
    weights_s = spec.expert_parameter_bytes * (tokens > 0).sum(axis=1) / machine.memory_bytes_per_s
    moe_s = float((arithmetic_s + weights_s).sum())
    attention_s = len(tokens) * machine.seconds(
        spec.non_moe_flops * batch_tokens / factor, spec.non_moe_parameter_bytes
    )
    attention_s += machine.seconds(
        spec.dense_flops * batch_tokens / factor, spec.dense_parameters * spec.bytes_per_parameter
    )
    tail_s = machine.seconds(spec.tail_flops * batch_tokens, spec.tail_parameter_bytes)
    latency_s = float(moe_s + attention_s + tail_s)
    per_second = cluster.price_per_hour.median / SECONDS_PER_HOUR
    charged_s = {"time-share": moe_s, "memory-share": _memory_share(spec) * latency_s, "whole": latency_s}[charged]
    cost: dict[Period, float] = {
        "second": per_second * charged_s,
        "hour": cluster.price_per_hour.median * charged_s / latency_s,
        "month": per_second * charged_s / cluster.month_utilisation.median,
    }
    return ClusterRun(latency_s, moe_s, cost)


def _memory_share(spec: MoESpec) -> float:
    """Share of the experts in the model's parameters."""
    return spec.moe_layers * spec.experts * spec.expert_parameters / spec.parameters
