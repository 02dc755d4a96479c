"""The question before all plans: must the model be cut at all? It in one function, alone and on several lanes."""

from __future__ import annotations

import numpy as np

from moe.errors import InputError
from optimizer.exact.solve import Infeasible
from optimizer.solvers import solve_stages
from optimizer.stage_cost import front_itself, stage_costs
from optimizer.staged_evaluation import with_staged_evaluation
from simulator.plan import DeploymentProblem
from simulator.staged_plan import BlocksStage, StagedPlan, blocks_of, whole_model

WHOLE = "whole-model"
DEARER = 0.1
"""As a share of the cheapest: what lanes may cost more, of which the fastest are shown."""


def whole_model_plans(
    problem: DeploymentProblem, planning_limit_s: float | None
) -> tuple[list[tuple[str, StagedPlan]], str]:
    """The cheapest function that holds the whole model, and the fastest lanes of it that cost little more.

    Args:
        problem: with `blocks`; plans are judged under its limit.
        planning_limit_s: what the single function is chosen for, unless none meets it.

    Returns:
        Plans by name, and why there are none; empty where there are some.
    """
    total = problem.model_copy(update={"objective": "total"})
    alone = total.with_blocks(blocks_of(total).model_copy(update={"max_lanes": 1}))
    try:
        one = _cheapest(alone, planning_limit_s)
    except InputError as error:
        return [], str(error)
    plans = [(WHOLE, with_staged_evaluation(total, one, solve_s=one.solve_s))]
    stage = _fast_lanes(total, one)
    if stage is not None:
        lanes = StagedPlan(solver=WHOLE, stages=(stage,))
        plans.append((f"{WHOLE}-{stage.lanes}-lanes", with_staged_evaluation(total, lanes, solve_s=0.0)))
    return plans, ""


def _cheapest(problem: DeploymentProblem, limit_s: float | None) -> StagedPlan:
    """Within the limit, or where that is out of reach without it. Raises InputError: nothing holds the model."""
    try:
        return solve_stages(problem.with_limit(limit_s), WHOLE)
    except Infeasible:
        return solve_stages(problem.with_limit(None), WHOLE)


def _fast_lanes(problem: DeploymentProblem, one: StagedPlan) -> BlocksStage | None:
    """The fastest stage of several lanes that costs little more than one function; None: there is none."""
    blocks, alone = blocks_of(problem), whole_model(one)
    lanes = np.arange(2, min(blocks.max_lanes, blocks.sequences) + 1)
    if alone is None or one.total_cost_usd is None or not len(lanes):
        return None
    ends = np.array([0]), np.array([len(problem.layers)])
    costs = stage_costs(problem, *ends, lanes, alone.handover, alone.handover)
    front_usd, _ = front_itself(problem, alone.handover == "payload")
    allowed = costs.fits[0] & (front_usd + costs.total_usd[0] <= one.total_cost_usd * (1 + DEARER))
    if not allowed.any():
        return None
    j, n = np.unravel_index(np.where(allowed, costs.latency_s[0], np.inf).argmin(), allowed.shape)
    return alone.model_copy(update={"memory_mb": blocks.memory_mb[j], "lanes": int(lanes[n])})
