"""The margin of a latency limit: plans are made for less, so that the batches to come keep the limit.

A plan is made for mean loads, and a layer's latency is a maximum: planned at the limit it is late almost always.
How much less is found on batches with known counts (`optimizer.robust.held_out_batches`, popularity samples):
plans for tighter and tighter limits serve them. Whoever serves them decides what the margin covers: the closed
form (`realise`) the loads alone, a simulation tails and contention as well.

Not all of it yields to a tighter limit: a slow request of the storage takes seconds, whatever the plan. So a
margin has a price that it is not worth: a late batch is paid in vain, and a limit that raises the bill of all
batches by more than the late ones come to saves nothing. Then the share is not kept, and is told as it is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from moe.errors import InputError
from moe.statistics import wilson
from optimizer.evaluation import with_evaluation
from optimizer.exact import least_latency_s
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem

Latencies: TypeAlias = Callable[[DeploymentPlan], np.ndarray]
"""Serves the known batches with a plan: their latencies, s, shape (batches,); NaN for one that fails."""

LATE_SHARE = 0.05
LATE_BATCHES = 10
"""Of the known batches may be late: with so many, a share is known with a standard error of a third of it."""
STEP = 0.95
"""From a limit that is tried to the next one."""
HALVINGS = 2
"""Of the last step: a limit that keeps the share is the loosest to within 1.3%."""


def batches_needed(late_share: float) -> int:
    """Known batches from which a share can be told."""
    return math.ceil(LATE_BATCHES / late_share - 1e-9)


@dataclass(frozen=True)
class PlanningLimit:
    """The limit to plan for.

    Attributes:
        limit_s: None: there is none.
        late_share: of the known batches, served with the optimum for it, those later than the limit to be kept;
            None where it was not asked for, or where the closed form has no plan that keeps the limit.
    """

    limit_s: float | None
    late_share: float | None = None


def planning_limit(problem: DeploymentProblem, late_share: float | None, latencies_s: Latencies) -> PlanningLimit:
    """The loosest limit to plan for that makes at most a share of the batches later than the problem's limit.

    Limits are tried from the problem's own down, each with its optimum, so that all solvers have one limit. The
    search ends where the bill alone reaches the least bill per batch on time, bill / (1 - share late), of looser
    limits: from there on a limit costs more than the late batches that it could save. The share is then not kept,
    and the limit of that least bill per batch on time is the one to plan for.

    Args:
        problem: whose limit is to be kept; its objective is the bill.
        late_share: share of the batches that may be late; None: the limit itself, as in the paper.
        latencies_s: serves batches with a plan; by the same random numbers whatever the plan, so that two plans
            differ by what they do.

    Raises InputError for too few batches to tell the share.
    """
    limit_s = problem.latency_limit_s
    if limit_s is None or late_share is None:
        return PlanningLimit(limit_s)
    least_s = least_latency_s(problem) * (1 + 1e-9)
    if least_s >= limit_s:
        return PlanningLimit(limit_s)

    def late_with(plan: DeploymentPlan) -> float:
        return _share_late(latencies_s(plan), limit_s, late_share)

    found, worth, tried_s, late_s = PlanningLimit(limit_s), math.inf, limit_s, limit_s
    while True:
        plan = solve(problem.with_limit(tried_s))
        assert plan.objective_value is not None
        if plan.objective_value >= worth:
            return found
        late = late_with(plan)
        if late <= late_share:
            break
        per_batch_on_time = plan.objective_value / (1 - late) if late < 1 else math.inf
        if per_batch_on_time < worth or tried_s == limit_s:
            found, worth = PlanningLimit(tried_s, late), per_batch_on_time
        if tried_s == least_s:
            return found
        late_s, tried_s = tried_s, max(tried_s * STEP, least_s)
    return _loosest(tried_s, late, late_s, lambda s: late_with(solve(problem.with_limit(s))), late_share)


def _loosest(
    kept_s: float, late: float, late_s: float, late_at: Callable[[float], float], late_share: float
) -> PlanningLimit:
    """Between a limit that keeps the share, with `late` of the batches, and a looser one that does not."""
    for _ in range(HALVINGS if kept_s < late_s else 0):
        middle_s = (kept_s + late_s) / 2
        there = late_at(middle_s)
        if there <= late_share:
            kept_s, late = middle_s, there
        else:
            late_s = middle_s
    return PlanningLimit(kept_s, late)


def solve_for(
    problem: DeploymentProblem, planning_limit_s: float | None, solver: str = "exact", **options: Any
) -> DeploymentPlan:
    """A solver's plan for a tighter limit, judged under the problem's own; its bound is of plans as tight as it.

    Args:
        problem, solver, options: as of `solve`. planning_limit_s: the limit to plan for.
    """
    plan = solve(problem.with_limit(planning_limit_s), solver, **options)
    return with_evaluation(problem, plan, plan.lower_bound, plan.solve_s)


def _share_late(latencies_s: np.ndarray, limit_s: float, late_share: float) -> float:
    """Share of the known batches over the limit. Raises InputError where not even one of them may be."""
    least = math.ceil(1 / late_share - 1e-9)
    if len(latencies_s) < least:
        raise InputError(
            f"late_share: expected at least {least} known batches for a share of {late_share:g}, "
            f"got {len(latencies_s)}"
        )
    late = Lateness.of(latencies_s, limit_s)
    assert late is not None
    return late.share


@dataclass(frozen=True)
class Lateness:
    """Share of a plan's batches over the limit, and Wilson's 95% interval of it; a batch that fails is late."""

    share: float
    low: float
    high: float

    @staticmethod
    def of(latencies_s: np.ndarray, limit_s: float | None, independent: float | None = None) -> "Lateness | None":
        """Of served batches; None without a limit.

        Args:
            latencies_s: shape (batches,), NaN where it failed.
            limit_s: what they had to keep.
            independent: how many batches there are data for, where they are bootstrap samples.
        """
        if limit_s is None:
            return None
        share = float(np.mean(~(np.asarray(latencies_s) <= limit_s * (1 + 1e-9))))
        n = len(latencies_s) if independent is None else min(len(latencies_s), independent)
        return Lateness(share, *wilson(share * n, n))
