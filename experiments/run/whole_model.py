"""The question before all plans: must the model be cut at all? It in one function, alone and on several lanes."""

from __future__ import annotations

from dataclasses import dataclass

from moe.errors import InputError
from optimizer.baselines.shapes import cut_pays_from
from optimizer.exact.solve import Infeasible
from optimizer.solvers import solve_stages
from optimizer.staged_evaluation import with_staged_evaluation
from simulator.plan import DeploymentProblem
from simulator.staged_plan import StagedPlan, blocks_of, whole_model

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
    try:
        one = _one(total, planning_limit_s)
    except InputError as error:
        return [], str(error)
    plans = [(WHOLE, with_staged_evaluation(total, one, solve_s=one.solve_s))]
    fast = solve_stages(total.with_limit(None), WHOLE, dearer=DEARER)
    stage = whole_model(fast)
    if stage is not None and stage.lanes > 1:
        plans.append((f"{WHOLE}-{stage.lanes}-lanes", with_staged_evaluation(total, fast, solve_s=fast.solve_s)))
    return plans, ""


def _one(problem: DeploymentProblem, limit_s: float | None) -> StagedPlan:
    """Within the limit, or where that is out of reach without it. Raises InputError: nothing holds the model."""
    try:
        return solve_stages(problem.with_limit(limit_s), WHOLE, lanes=1)
    except Infeasible:
        return solve_stages(problem.with_limit(None), WHOLE, lanes=1)


@dataclass(frozen=True)
class Cut:
    """Whether the model must be cut, and from which size on it pays; bytes of parameters.

    Attributes:
        parameter_bytes: of the model.
        pays_from_bytes: from so many on blocks in several functions cost less. must_from_bytes: from so many on no
            function holds the model.
    """

    parameter_bytes: float
    pays_from_bytes: float
    must_from_bytes: float

    def __str__(self) -> str:
        """A sentence, with a space before it."""
        has, pays, must = (x / 1e9 for x in (self.parameter_bytes, self.pays_from_bytes, self.must_from_bytes))
        return (
            f" It has {has:.2g} GB of parameters: cut into several functions of whole blocks such a model is "
            f"cheaper from about {pays:.2g} GB on, and from {must:.3g} GB on it must be cut."
        )


def cut_of(problem: DeploymentProblem) -> Cut:
    """Of a problem with `blocks`."""
    blocks = blocks_of(problem)
    held = sum(layer.parameter_bytes for layer in blocks.layers) + blocks.head_bytes
    return Cut(held, *cut_pays_from(problem))
