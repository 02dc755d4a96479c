"""The margin of a limit: if these fail, plans promise what they do not keep, or pay for more than they promise."""

import numpy as np
import pytest

from moe.errors import InputError
from optimizer.exact import least_latency_s
from optimizer.margin import LATE_SHARE, Latencies, Lateness, Optima, batches_needed, planning_limit, solve_for
from optimizer.solvers import solve, solve_stages
from simulator.plan import DeploymentProblem
from simulator.staged_plan import AnyPlan
from tests.conftest import reference
from tests.optimizer.staged_problems import staged_problem


def limited(slack: float) -> DeploymentProblem:
    problem = reference("bert-4")[0]
    return problem.with_limit(slack * least_latency_s(problem))


def slower(by: np.ndarray) -> Latencies:
    """Batches that take so many times what a plan says."""

    def latencies_s(plan: AnyPlan, first: int | None = None) -> np.ndarray:
        assert plan.latency_s is not None
        return plan.latency_s * by[:first]

    return latencies_s


def late_share(plan: AnyPlan, latencies_s: Latencies, limit_s: float) -> float:
    found = Lateness.of(latencies_s(plan, None), limit_s)
    assert found is not None
    return found.share


def test_a_failed_batch_is_late() -> None:
    found = Lateness.of(np.array([1.0, np.nan, 2.0, 3.0]), 2.0)
    assert found is not None
    assert found.share == 0.5
    assert found.low < 0.5 < found.high
    assert Lateness.of(np.array([1.0]), None) is None


def test_too_few_batches_tell_no_share() -> None:
    assert batches_needed(0.05) == 200
    with pytest.raises(InputError, match=r"expected at least 20 known batches for a share of 0\.05, got 19"):
        planning_limit(limited(1.6), LATE_SHARE, slower(np.ones(19)))


def test_the_limit_is_moved_by_as_much_as_batches_are_slower_and_not_more() -> None:
    problem, latencies_s = limited(1.6), slower(np.linspace(0.9, 1.12, 200))
    limit_s = problem.latency_limit_s
    assert limit_s is not None
    found = planning_limit(problem, LATE_SHARE, latencies_s)
    assert found.limit_s is not None
    assert found.limit_s < limit_s
    plan = solve_for(problem, found.limit_s)
    late = late_share(plan, latencies_s, limit_s)
    assert late == found.late_share
    assert late <= LATE_SHARE
    looser = solve(problem.with_limit(found.limit_s * 1.02))
    assert late_share(looser, latencies_s, limit_s) > LATE_SHARE
    assert plan.feasible  # the closed form's word on the limit itself
    assert plan.objective_value == solve(problem.with_limit(found.limit_s)).objective_value
    assert plan.gap == 0


def test_without_need_or_way_the_limit_stays() -> None:
    problem = limited(1.6)
    limit_s = problem.latency_limit_s
    paper = planning_limit(problem, None, slower(np.full(200, 2.0)))
    assert (paper.limit_s, paper.late_share) == (limit_s, None)
    kept = planning_limit(problem, LATE_SHARE, slower(np.full(200, 0.99)))
    assert (kept.limit_s, kept.late_share) == (limit_s, 0.0)
    assert planning_limit(problem.with_limit(None), LATE_SHARE, slower(np.ones(200))).limit_s is None
    out_of_reach = planning_limit(problem, LATE_SHARE, slower(np.full(200, 3.0)))
    assert (out_of_reach.limit_s, out_of_reach.late_share) == (limit_s, 1.0)  # never the fastest plan for nothing
    too_tight = problem.with_limit(0.9 * least_latency_s(problem))
    assert planning_limit(too_tight, LATE_SHARE, slower(np.ones(200))).limit_s == too_tight.latency_limit_s


@pytest.mark.slow
@pytest.mark.parametrize("tail", [0.02, 0.08, 0.3])
def test_tails_that_no_plan_can_help_are_not_paid_for(tail: float) -> None:
    """A share of the batches takes longer than the limit whatever the plan, others are 8% slower than planned."""
    problem = limited(1.6)
    limit_s = problem.latency_limit_s
    assert limit_s is not None
    slow = np.arange(200) < tail * 200

    def latencies_s(plan: AnyPlan, first: int | None = None) -> np.ndarray:
        assert plan.latency_s is not None
        return (1.08 * plan.latency_s + 2 * limit_s * slow)[:first]

    found = planning_limit(problem, LATE_SHARE, latencies_s)
    assert found.limit_s is not None
    assert found.late_share == pytest.approx(tail)
    assert 0.9 * limit_s < found.limit_s <= limit_s / 1.08 * (1 + 1e-9)
    same = planning_limit(problem, LATE_SHARE, latencies_s)
    assert same == found


@pytest.mark.slow
def test_no_margin_costs_more_than_the_late_batches() -> None:
    """By all limits there are: none has a lower bill per batch on time, where none tried keeps the share."""
    problem = limited(1.6)
    limit_s, least_s = problem.latency_limit_s, least_latency_s(problem)
    assert limit_s is not None
    by = 1 + np.random.default_rng(0).exponential(0.4, 200)
    found = planning_limit(problem, LATE_SHARE, slower(by))
    assert found.limit_s is not None
    assert found.late_share is not None
    assert least_s < found.limit_s < limit_s
    assert found.late_share > LATE_SHARE

    def per_batch_on_time(planned_s: float) -> float:
        plan = solve(problem.with_limit(planned_s))
        assert plan.objective_value is not None
        on_time = 1 - late_share(plan, slower(by), limit_s)
        return plan.objective_value / on_time if on_time else np.inf

    every = [per_batch_on_time(float(s)) for s in np.linspace(least_s * (1 + 1e-9), limit_s, 30)]
    assert per_batch_on_time(found.limit_s) <= 1.03 * min(every)


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_plans_with_stages_keep_the_share_at_the_least_bill_or_it_is_not_worth_its_price(seed: int) -> None:
    """Every limit of a grid solved by itself."""
    free = staged_problem(seed)
    optima, by = Optima.of_stages(free, solve_stages), slower(np.linspace(0.9, 1.2, 200))
    limit_s = 1.5 * optima.least_s
    problem = free.with_limit(limit_s)
    found = planning_limit(problem, LATE_SHARE, by, optima)
    assert found.limit_s is not None
    assert found.late_share is not None
    plan = solve_stages(problem.with_limit(found.limit_s))
    assert late_share(plan, by, limit_s) == found.late_share
    others = [solve_stages(problem.with_limit(x)) for x in np.geomspace(1.001 * optima.least_s, limit_s, 9)]
    keeping = [x.objective_value for x in others if late_share(x, by, limit_s) <= LATE_SHARE]
    worth = plan.objective_value / (1 - (found.late_share if found.late_share > LATE_SHARE else 0))
    assert worth <= min(keeping) * (1 + 1e-9)
