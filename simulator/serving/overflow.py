"""Overflow: a replica that meets more tokens than its memory or its payload holds runs as several.

Source: Liu, Wang, Wu, INFOCOM 2025, Alg. 2 (feedback cases i and ii); the least count that fits, docs/formats.md.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from moe.errors import InputError
from simulator.plan import MB, DeploymentPlan, DeploymentProblem, LayerPlan, memory_terms, payload_bytes

Overflow: TypeAlias = Literal["foreseen", "retry", "fail"]
"""What becomes of a replica that overflows: it runs at once as the replicas that fit; or it fails, is billed, and
then they run; or it fails, and its batch with it."""

OVERFLOWS = ("out-of-memory", "payload-too-large", "response-too-large")


def tokens_that_fit(problem: DeploymentProblem, e: int, plan: LayerPlan) -> np.ndarray:
    """Tokens that a replica of each expert of layer e holds, by memory and payload, shape (experts,); inf: any."""
    layer, platform = problem.layers[e], problem.platform
    fixed, per_token = memory_terms(layer)
    with np.errstate(divide="ignore", invalid="ignore"):
        capacity = np.where(per_token > 0, np.floor((plan.memory_mb * MB - fixed) / per_token), np.inf)
        if plan.communication == "direct":
            one_token = payload_bytes(layer, platform, np.ones(1))
            capacity = np.minimum(capacity, np.floor(platform.payload_limit_bytes / one_token))
    return capacity


def replicas_that_fit(problem: DeploymentProblem, e: int, plan: LayerPlan, tokens: np.ndarray) -> np.ndarray:
    """Replicas that the real load of layer e runs on: the planned ones times the least n that fits.

    Args:
        problem, plan: what is deployed; e: the layer.
        tokens: real tokens of each expert, shape (experts,).

    Returns:
        Shape (experts,) int; the plan's own where nothing overflows.

    Raises:
        InputError: an expert's parameters alone leave no room for a token.
    """
    fixed, _ = memory_terms(problem.layers[e])
    room, capacity = plan.memory_mb * MB - fixed, tokens_that_fit(problem, e, plan)
    used = tokens > 0
    if (capacity[used] < 1).any() or (room[used] < 0).any():
        i = int(np.flatnonzero(used & ((capacity < 1) | (room < 0)))[0])
        raise InputError(
            f"layers.{e}.experts.{i}.memory_mb: {plan.memory_mb[i]} MB holds the expert's parameters "
            f"({fixed[i] / MB:.0f} MB with the runtime) but not one token"
        )
    times = np.ceil(tokens / (plan.replicas * capacity))
    return plan.replicas * np.maximum(1, times).astype(int)


def replicas_run(
    problem: DeploymentProblem, plan: DeploymentPlan, tokens: Sequence[np.ndarray], overflow: Overflow
) -> list[np.ndarray]:
    """Replicas that a batch's real tokens start with: those that fit where overflow is foreseen, else the plan's.

    Args:
        tokens: of each expert, (experts,) per layer.

    Returns:
        (experts,) int per layer.

    Raises:
        InputError: an expert's parameters alone leave no room for a token.
    """
    if overflow != "foreseen":
        return [layer.replicas for layer in plan.layers]
    return [replicas_that_fit(problem, e, layer, tokens[e]) for e, layer in enumerate(plan.layers)]
