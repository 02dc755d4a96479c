"""The margin of a latency limit: plans are made for less, so that the batches to come keep the limit.

A plan is made for mean loads, and a layer's latency is a maximum: planned at the limit it is late almost always.
How much less is found on batches with known counts (`optimizer.robust.held_out_batches`, popularity samples):
plans for tighter and tighter limits serve them. Whoever serves them decides what the margin covers: the closed
form (`realise`) the loads alone, a simulation tails and contention as well.

Not all of it yields to a tighter limit: a slow request of the storage takes seconds, whatever the plan. So a
margin has a price that it is not worth: a late batch is paid in vain, and a limit that raises the bill of all
batches by more than the late ones come to saves nothing. Then the share is not kept, and is told as it is.

To serve all batches may take seconds, so it is done for few plans. From those the search knows roughly what others
would show: a plan that is 5% faster serves each batch about 5% faster, its bad luck included.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from moe.errors import InputError
from moe.statistics import wilson
from optimizer.evaluation import with_evaluation
from optimizer.exact import Infeasible, least_latency_s
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.staged_plan import AnyPlan, StagedPlan

Latencies: TypeAlias = Callable[[AnyPlan, int | None], np.ndarray]
"""Serves the first so many known batches with a plan, all for None: their latencies, s, shape (batches,); NaN for
one that fails."""

LATE_SHARE = 0.05
LATE_BATCHES = 10
"""Of the known batches may be late: with so many, a share is known with a standard error of a third of it."""
FIRST_BATCHES = 50
"""Served with the plan for the limit itself, to know where to look."""
OUT_OF_REACH_S = 1e-30
"""A limit that no plan meets: who is asked for one says what the least latency is."""
STEP = 0.95**0.25
"""From a limit to the next tighter one: the loosest that keeps the share is found to within 1.3%."""


def batches_needed(late_share: float) -> int:
    """Known batches from which a share can be told."""
    return math.ceil(LATE_BATCHES / late_share - 1e-9)


@dataclass(frozen=True)
class Optima:
    """The plans among which a limit is looked for: the least latency of any, s, and the optimum within a limit."""

    least_s: float
    within: Callable[[float], AnyPlan]

    @staticmethod
    def of_experts(problem: DeploymentProblem) -> "Optima":
        """Plans of expert functions: the certified optima."""
        return Optima(least_latency_s(problem), lambda limit_s: solve(problem.with_limit(limit_s)))

    @staticmethod
    def of_stages(problem: DeploymentProblem, solver: Callable[[DeploymentProblem], StagedPlan]) -> "Optima":
        """Plans with stages that a solver makes, whatever the problem's limit. Raises InputError: nothing fits.

        A plan is the optimum of every limit between its latency and the limit that it was made for.
        """
        found: list[tuple[float, StagedPlan]] = []

        def within(limit_s: float) -> StagedPlan:
            for made_for_s, plan in found:
                if _latency_s(plan) <= limit_s <= made_for_s:
                    return plan
            found.append((limit_s, solver(problem.with_limit(limit_s))))
            return found[-1][1]

        try:
            least_s = _latency_s(within(OUT_OF_REACH_S))
        except Infeasible as error:
            least_s = error.least_latency_s
        return Optima(least_s, within)


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


def planning_limit(
    problem: DeploymentProblem, late_share: float | None, latencies_s: Latencies, optima: Optima | None = None
) -> PlanningLimit:
    """The loosest limit to plan for that makes at most a share of the batches later than the problem's limit.

    Limits are gone through from the problem's own down, each with its optimum, so that all solvers have one limit.
    This ends where the bill alone reaches the least bill per batch on time, bill / (1 - share late), of looser
    limits: from there on a limit costs more than the late batches that it could save. The share is then not kept,
    and the limit of that least bill per batch on time is the one to plan for. What a limit's share is, the plans
    served so far tell; the limit that is found by them is served next, until it is one that was.

    Args:
        problem: whose limit is to be kept; its objective is the bill.
        late_share: share of the batches that may be late; None: the limit itself, as in the paper.
        latencies_s: serves batches with a plan; by the same random numbers whatever the plan, so that two plans
            differ by what they do.
        optima: the plans that are made; None: of expert functions.

    Raises InputError for too few batches to tell the share.
    """
    limit_s = problem.latency_limit_s
    if limit_s is None or late_share is None:
        return PlanningLimit(limit_s)
    optima = optima or Optima.of_experts(problem)
    least_s = optima.least_s * (1 + 1e-9)
    if least_s >= limit_s:
        return PlanningLimit(limit_s)

    steps = math.ceil(math.log(least_s / limit_s) / math.log(STEP))
    tighter_s = np.maximum(limit_s * STEP ** np.arange(steps + 1), least_s).tolist()
    optimum = cache(optima.within)
    found = optimum(limit_s)
    seen, served = {_latency_s(found): latencies_s(found, FIRST_BATCHES)}, set[float]()

    def late_with(plan: AnyPlan) -> float:
        """Share of the batches over the limit, as the plan of those seen that is nearest in latency tells it."""
        nearest_s = min(seen, key=lambda seen_s: abs(seen_s - _latency_s(plan)))
        late = Lateness.of(seen[nearest_s] * (_latency_s(plan) / nearest_s), limit_s)
        assert late is not None
        return late.share

    while True:
        planned = _loosest(tighter_s, optimum, late_with, late_share)
        found = optimum(planned.limit_s)
        if _latency_s(found) in served:
            return planned
        seen[_latency_s(found)] = _enough(latencies_s(found, None), late_share)
        served.add(_latency_s(found))


def _loosest(
    limits_s: Sequence[float],
    optimum: Callable[[float], AnyPlan],
    late_with: Callable[[AnyPlan], float],
    late_share: float,
) -> PlanningLimit:
    """Of ever tighter limits the first that keeps the share, or that of the least bill per batch on time."""
    found, worth = PlanningLimit(limits_s[0], 1.0), math.inf
    for tried_s in limits_s:
        plan = optimum(tried_s)
        if plan.objective_value >= worth:
            break
        late = late_with(plan)
        if late <= late_share:
            return PlanningLimit(tried_s, late)
        per_batch_on_time = plan.objective_value / (1 - late) if late < 1 else math.inf
        if per_batch_on_time < worth:
            found, worth = PlanningLimit(tried_s, late), per_batch_on_time
    return found


def _latency_s(plan: AnyPlan) -> float:
    assert plan.latency_s is not None
    return plan.latency_s


def solve_for(
    problem: DeploymentProblem, planning_limit_s: float | None, solver: str = "exact", **options: Any
) -> DeploymentPlan:
    """A solver's plan for a tighter limit, judged under the problem's own; its bound is of plans as tight as it.

    Args:
        problem, solver, options: as of `solve`. planning_limit_s: the limit to plan for.
    """
    plan = solve(problem.with_limit(planning_limit_s), solver, **options)
    return with_evaluation(problem, plan, plan.lower_bound, plan.solve_s)


def _enough(latencies_s: np.ndarray, late_share: float) -> np.ndarray:
    """Latencies of all known batches. Raises InputError where not even one of them may be late."""
    least = math.ceil(1 / late_share - 1e-9)
    if len(latencies_s) < least:
        raise InputError(
            f"late_share: expected at least {least} known batches for a share of {late_share:g}, "
            f"got {len(latencies_s)}"
        )
    return latencies_s


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
