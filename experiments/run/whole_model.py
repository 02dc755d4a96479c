"""The question before all plans: must the model be cut at all? It in one function, alone and on several lanes."""

from __future__ import annotations

from moe.errors import InputError
from optimizer.exact.solve import Infeasible
from optimizer.solvers import solve_stages
from optimizer.staged_evaluation import with_staged_evaluation
from simulator.plan import DeploymentProblem
from simulator.staged_plan import StagedPlan, blocks_of, whole_model

WHOLE = "whole-model"


def whole_model_plans(
    problem: DeploymentProblem, planning_limit_s: float | None
) -> tuple[list[tuple[str, StagedPlan]], str]:
    """The cheapest function that holds the whole model, and the cheapest on lanes where those are another plan.

    Args:
        problem: with `blocks`; plans are judged under its limit.
        planning_limit_s: what they are made for. One that a single function misses is left out for it.

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
    try:
        lanes = solve_stages(total.with_limit(planning_limit_s), WHOLE)
    except Infeasible:
        return plans, ""
    stage = whole_model(lanes)
    if stage is not None and stage.lanes > 1:
        plans.append((f"{WHOLE}-{stage.lanes}-lanes", with_staged_evaluation(total, lanes, solve_s=lanes.solve_s)))
    return plans, ""


def _cheapest(problem: DeploymentProblem, limit_s: float | None) -> StagedPlan:
    """Within the limit, or where that is out of reach without it. Raises InputError: nothing holds the model."""
    try:
        return solve_stages(problem.with_limit(limit_s), WHOLE)
    except Infeasible:
        return solve_stages(problem.with_limit(None), WHOLE)
