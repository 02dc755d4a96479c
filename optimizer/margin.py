"""The margin of a latency limit: plans are made for less, so that the batches to come keep the limit.

A plan is made for mean loads, and a layer's latency is a maximum: planned at the limit it is late almost always.
How much less is found on batches with known counts (`optimizer.robust.held_out_batches`, popularity samples): a
plan for a tighter limit serves them, and the limit is moved until few enough are late. Whoever serves them decides
what the margin covers: the closed form (`realise`) the loads alone, a simulation tails and contention as well.
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
Make: TypeAlias = Callable[[DeploymentProblem], DeploymentPlan]

LATE_SHARE = 0.05
STEPS = 10
"""Plans that are tried, at most."""
NEAR = 0.004
"""Two limits that differ by less than this share are the same."""


def batches_needed(late_share: float) -> int:
    """Known batches from which a share can be told: the second latest of them decides."""
    return math.ceil(2 / late_share) - 1


def planning_limit_s(
    problem: DeploymentProblem, late_share: float | None, latencies_s: Latencies, make: Make = solve
) -> float | None:
    """The limit to plan for, so that at most a share of the batches is later than the problem's limit.

    Args:
        problem: whose limit is to be kept.
        late_share: share of the batches that may be late; None: the limit itself, as in the paper.
        latencies_s: serves batches with a plan.
        make: makes the plans that are tried; the optimum serves for all solvers, which so have one limit.

    Returns:
        s; the problem's limit where its plan is on time or no plan is, the least latency where only less would do.
    """
    limit_s = problem.latency_limit_s
    if limit_s is None or late_share is None:
        return limit_s
    least_s = least_latency_s(problem) * (1 + 1e-9)
    if least_s >= limit_s:
        return limit_s
    on_time, late, tried, lates = least_s, limit_s * (1 + NEAR), limit_s, 0
    for _ in range(STEPS):
        kept_s = time_kept_s(latencies_s(make(problem.with_limit(tried))), late_share)
        if kept_s <= limit_s:
            on_time = tried
        else:
            late, lates = tried, lates + 1
        if late <= on_time * (1 + NEAR):
            break
        # A plan's batches move about as its limit does, but plans are few: where one comes again, step further.
        tried = late * min(limit_s / kept_s, 1 - NEAR * 2**lates) if on_time == least_s else 0.0
        if not on_time < tried < late:
            tried = (on_time + late) / 2
    return on_time


def solve_for(
    problem: DeploymentProblem, planning_limit_s: float | None, solver: str = "exact", **options: Any
) -> DeploymentPlan:
    """A solver's plan for a tighter limit, judged under the problem's own; its bound is of plans as tight as it.

    Args:
        problem, solver, options: as of `solve`. planning_limit_s: the limit to plan for.
    """
    plan = solve(problem.with_limit(planning_limit_s), solver, **options)
    return with_evaluation(problem, plan, plan.lower_bound, plan.solve_s)


def time_kept_s(latencies_s: np.ndarray, late_share: float) -> float:
    """What the next batch exceeds with a probability of at most `late_share`, if it is like these: an order
    statistic, whatever their distribution (the j-th of n is exceeded with (n + 1 - j)/(n + 1), Wilks, Annals of
    Mathematical Statistics 12, 1941). Infinite where too many failed. Raises InputError where they are too few.
    """
    n = len(latencies_s)
    j = math.ceil((1 - late_share) * (n + 1) - 1e-9)
    if j > n:
        least = math.ceil(1 / late_share - 1 - 1e-9)
        raise InputError(
            f"late_share: expected at least {least} known batches for a share of {late_share:g}, got {n}"
        )
    return float(np.sort(np.nan_to_num(latencies_s, nan=np.inf))[j - 1])


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
