"""The margin of a limit: if these fail, plans promise what they do not keep, or pay for more than they promise."""

import numpy as np
import pytest

from moe.errors import InputError
from optimizer.exact import least_latency_s
from optimizer.margin import (
    LATE_SHARE,
    NEAR,
    Latencies,
    Lateness,
    batches_needed,
    planning_limit_s,
    solve_for,
    time_kept_s,
)
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from tests.conftest import reference


def limited(slack: float) -> DeploymentProblem:
    problem = reference("bert-4")[0]
    return problem.with_limit(slack * least_latency_s(problem))


def slower(by: np.ndarray) -> Latencies:
    """Batches that take so many times what a plan says."""

    def latencies_s(plan: DeploymentPlan) -> np.ndarray:
        assert plan.latency_s is not None
        return plan.latency_s * by

    return latencies_s


def test_a_next_batch_is_late_no_more_often_than_asked() -> None:
    """The order statistic, by its definition: of exchangeable numbers, the last is over what the others say."""
    rng = np.random.default_rng(0)
    for share, count in ((0.05, batches_needed(0.05)), (0.2, 9), (0.5, 3)):
        drawn = rng.lognormal(size=(20_000, count + 1))
        over = np.mean([row[-1] > time_kept_s(row[:-1], share) for row in drawn])
        assert over == pytest.approx(share, abs=0.01)
    assert batches_needed(0.05) == 39
    with pytest.raises(InputError, match=r"expected at least 19 known batches for a share of 0\.05, got 18"):
        time_kept_s(np.ones(18), 0.05)


def test_a_failed_batch_is_late() -> None:
    assert time_kept_s(np.array([1.0, np.nan, 2.0]), 0.25) == np.inf
    found = Lateness.of(np.array([1.0, np.nan, 2.0, 3.0]), 2.0)
    assert found is not None
    assert found.share == 0.5
    assert found.low < 0.5 < found.high
    assert Lateness.of(np.array([1.0]), None) is None


def test_the_limit_is_moved_by_as_much_as_batches_are_slower_and_not_more() -> None:
    problem, by = limited(1.6), np.linspace(0.9, 1.12, 39)
    assert problem.latency_limit_s is not None
    planned_s = planning_limit_s(problem, LATE_SHARE, slower(by))
    assert planned_s is not None
    assert planned_s < problem.latency_limit_s
    plan = solve_for(problem, planned_s)
    late = Lateness.of(plan.latency_s * by, problem.latency_limit_s)
    assert late is not None
    assert late.share <= LATE_SHARE
    looser = solve(problem.with_limit(planned_s * (1 + 3 * NEAR)))
    assert time_kept_s(looser.latency_s * by, LATE_SHARE) > problem.latency_limit_s
    assert plan.feasible  # the closed form's word on the limit itself
    assert plan.objective_value == solve(problem.with_limit(planned_s)).objective_value
    assert plan.gap == 0


def test_without_need_or_way_the_limit_stays_or_the_fastest_plan_is_made() -> None:
    problem = limited(1.6)
    limit_s, least_s = problem.latency_limit_s, least_latency_s(problem)
    assert planning_limit_s(problem, None, slower(np.full(39, 2.0))) == limit_s
    assert planning_limit_s(problem, LATE_SHARE, slower(np.full(39, 0.99))) == limit_s
    assert planning_limit_s(problem.with_limit(None), LATE_SHARE, slower(np.ones(39))) is None
    out_of_reach = planning_limit_s(problem, LATE_SHARE, slower(np.full(39, 3.0)))
    assert out_of_reach == pytest.approx(least_s)
    assert solve_for(problem, out_of_reach).latency_s == pytest.approx(least_s)


def test_a_plan_that_comes_again_for_many_limits_is_stepped_over() -> None:
    """A hair over the limit, and the same for all limits near it: no reason to pay for the fastest plan."""
    problem = limited(1.6)
    limit_s = problem.latency_limit_s
    assert limit_s is not None

    def latencies_s(plan: DeploymentPlan) -> np.ndarray:
        assert plan.latency_s is not None
        return np.full(39, 1.0005 * limit_s if plan.latency_s > 0.97 * limit_s else 0.9 * limit_s)

    planned_s = planning_limit_s(problem, LATE_SHARE, latencies_s)
    assert planned_s is not None
    assert 0.96 * limit_s < planned_s <= 0.98 * limit_s
