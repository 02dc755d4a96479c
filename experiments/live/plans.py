"""The plans that live validation serves: solvers' plans, each method by itself, replicas, overflow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimizer.solvers import solve
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan
from simulator.serving.overflow import replicas_that_fit, tokens_that_fit
from simulator.staged_plan import AnyPlan, BlocksStage, StagedPlan

MINIBATCHES = 3  # that the most popular expert's tokens make


def plans_for(problem: DeploymentProblem, quick: bool) -> dict[str, DeploymentPlan]:
    """Plans by name, for one load. `quick`: fewer."""
    sizes = problem.platform.memory_mb
    middle = sizes[len(sizes) // 2 + 1]
    total = problem.with_blocks(None).model_copy(update={"objective": "total"})
    plans = {
        "ods": solve(problem, "ods"),
        "total": solve(total),  # decides the memory of gates, and keeps parameters
        "lambdaml": solve(problem, "lambdaml", max_memory_mb=sizes[-1]),
        "overflow": overflowing(problem),
    }
    if not quick:
        plans["uniform"] = solve(problem, "best-uniform")
        plans["storage"] = uniform(problem, "storage", middle)
    plans["pipelined"] = uniform(problem, "pipelined", middle)
    if not quick:
        plans["direct"] = uniform(problem, "direct", middle, 2)
        plans["crowded"] = uniform(problem, "storage", sizes[-1], 2)  # more cores than a small machine has
        plans["replicas"] = uniform(problem, "pipelined", sizes[len(sizes) // 2], 2)
    return plans


def uniform(
    problem: DeploymentProblem, method: Communication, memory_mb: int, replicas: int = 1
) -> DeploymentPlan:
    """All experts alike."""
    layers = []
    for layer in problem.layers:
        size = max(1, int(np.ceil(layer.tokens.max() / replicas / MINIBATCHES)))
        experts = (ExpertPlan(memory_mb=memory_mb, replicas=replicas),) * len(layer.experts)
        layers.append(_layer(method, size, experts))
    return DeploymentPlan(solver="by-hand", layers=tuple(layers))


def overflowing(problem: DeploymentProblem) -> DeploymentPlan:
    """One replica of each expert, `storage`, with so little memory that the most popular one overflows.

    Where memory never does, `direct`: there a payload does.
    """
    for memory_mb in reversed(problem.platform.memory_mb):
        plan = uniform(problem, "storage", memory_mb)
        if _overflows(problem, plan):
            return plan
    return uniform(problem, "direct", problem.platform.memory_mb[len(problem.platform.memory_mb) // 2 + 1])


def _overflows(problem: DeploymentProblem, plan: DeploymentPlan) -> bool:
    """Whether some expert's tokens do not fit one replica, and each fits some."""
    found = False
    for e, (layer, chosen) in enumerate(zip(problem.layers, plan.layers, strict=True)):
        capacity = tokens_that_fit(problem, e, chosen)
        if (capacity < 1).any():
            return False
        found |= bool((layer.tokens > capacity * chosen.replicas).any())
    return found


def calibrating_plans(problem: DeploymentProblem, quick: bool) -> list[DeploymentPlan]:
    """Plans that are not validated: experts of a layer with different memory, each size in its turn."""
    sizes = problem.platform.memory_mb
    rotations = (0,) if quick else (0, len(sizes) // 2)
    plans = []
    for turn in rotations:
        for method in ("storage", "direct"):
            layers = []
            for e, layer in enumerate(problem.layers):
                at = [(turn + i + e * (len(sizes) // 2)) % len(sizes) for i in range(len(layer.experts))]
                replicas = 2 if method == "direct" else 1
                at = _popular_with_much(layer.tokens, [sizes[j] for j in at])
                experts = tuple(ExpertPlan(memory_mb=size, replicas=replicas) for size in at)
                layers.append(_layer("storage" if method == "storage" else "direct", 1, experts))
            plans.append(DeploymentPlan(solver="calibration", layers=tuple(layers)))
    return plans


def staged_plans(layers: int, memory_mb: Sequence[int]) -> dict[str, StagedPlan]:
    """Plans of whole blocks to serve: the whole model on one lane and on four, and a model cut in two."""
    small, large = memory_mb[0], memory_mb[-1]
    plans = {
        "whole": [_blocks(0, layers - 1, large, 1)],
        "whole-4-lanes": [_blocks(0, layers - 1, small, 4)],
    }
    if layers > 1:
        cut = layers // 2
        plans["two-stages"] = [_blocks(0, cut - 1, small, 2), _blocks(cut, layers - 1, large, 1)]
    return {name: StagedPlan(solver="by-hand", stages=tuple(stages)) for name, stages in plans.items()}


def calibrating_stages(layers: int, memory_mb: Sequence[int]) -> list[StagedPlan]:
    """Plans that are not validated: a stage a layer, on two lanes and on one, each size in its turn, and on four
    of the smallest: fewer tokens tell a call's time from a token's."""
    turns = [[memory_mb[(e + turn) % len(memory_mb)] for e in range(layers)] for turn in (0, 1)]
    kinds = ((turns[0], 2), (turns[1], 1), ([memory_mb[0]] * layers, 4))
    return [
        StagedPlan(solver="calibration", stages=tuple(_blocks(e, e, size, lanes) for e, size in enumerate(sizes)))
        for sizes, lanes in kinds
    ]


def _blocks(first: int, last: int, memory_mb: int, lanes: int) -> BlocksStage:
    return BlocksStage(first_layer=first, last_layer=last, memory_mb=memory_mb, lanes=lanes, handover="storage")


def _popular_with_much(tokens: np.ndarray, sizes: Sequence[int]) -> list[int]:
    """The same sizes, the largest for the most popular expert: none overflows, none takes long."""
    found = [0] * len(sizes)
    for i, size in zip(np.argsort(tokens), sorted(sizes), strict=True):
        found[int(i)] = size
    return found


def _layer(method: Communication, minibatch_tokens: int, experts: tuple[ExpertPlan, ...]) -> LayerPlan:
    size = minibatch_tokens if method == "pipelined" else None
    return LayerPlan(communication=method, minibatch_tokens=size, experts=experts)


def asked_cores(problem: DeploymentProblem, plan: AnyPlan, mb_per_core: float) -> float:
    """Cores that the experts of a layer, or the lanes of a stage, ask for at once, at most, overflow included."""
    if isinstance(plan, StagedPlan):
        stages = [stage for stage in plan.stages if isinstance(stage, BlocksStage)]
        return max(stage.lanes * stage.memory_mb for stage in stages) / mb_per_core
    most = 0.0
    for e, layer in enumerate(plan.layers):
        tokens = problem.layers[e].tokens
        used = replicas_that_fit(problem, e, layer, tokens) * (tokens > 0)
        most = max(most, float((layer.memory_mb * used).sum()) / mb_per_core)
    return most
