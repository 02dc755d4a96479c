"""Alg. 1: the paper's algorithm, as the paper's figures need it."""

import numpy as np
import pytest

from moe.errors import InputError
from optimizer.evaluation import evaluate
from optimizer.exact import front, model_fronts
from optimizer.ods import _select, solve_ods
from optimizer.solvers import timed
from simulator.plan import DeploymentPlan, DeploymentProblem
from tests.conftest import NAMES, reference
from tests.optimizer.random_problems import distinct, random_problem


def _check(problem: DeploymentProblem, optimum: float | None) -> DeploymentPlan:
    """Plan with ODS; the plan is no better than the optimum, and says so where it misses the limit."""
    plan, found = timed(problem, "ods", solve_ods)
    assert plan.lower_bound == (None if optimum is None else pytest.approx(optimum, rel=1e-6))
    assert plan.feasible == (not plan.violations)
    assert (plan.latency_s or 0) <= (problem.latency_limit_s or np.inf) * (1 + 1e-12) or not plan.feasible
    assert plan.gap is None or not plan.feasible or plan.gap >= 0
    assert len(found.rounds) <= 2 * len(problem.layers) + 1
    assert found.paper_ratio >= 1
    return plan


@pytest.mark.parametrize("name", NAMES)
def test_on_the_examples_ods_meets_every_reachable_limit_within_ten_percent(name: str) -> None:
    problem, _, expected = reference(name)
    key = "full_cost_usd" if problem.objective == "usd" else "billed_gb_s"
    for optimum in expected["optimum"]:
        plan = _check(problem.with_limit(optimum["latency_limit_s"]), optimum.get(key))
        assert plan.feasible == optimum["feasible"]
        if plan.feasible:
            assert plan.gap is not None
            assert plan.gap < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_whole_fronts_change_nothing(name: str) -> None:
    problem, _, expected = reference(name)
    fronts = model_fronts(problem)
    for optimum in expected["optimum"]:
        limited = problem.with_limit(optimum["latency_limit_s"])
        one, other = solve_ods(limited), solve_ods(limited, fronts=fronts)
        bills = [
            evaluate(limited, DeploymentPlan(solver="ods", layers=x.layers)).billed_gb_s for x in (one, other)
        ]
        assert bills[0] == pytest.approx(bills[1], rel=1e-9)
        assert one.lower_bound == (other.lower_bound and pytest.approx(other.lower_bound, rel=1e-9))
        assert len(one.rounds) == len(other.rounds)


@pytest.mark.parametrize("seed", range(15))
def test_ods_never_beats_the_optimum_and_never_hides_a_missed_limit(seed: int) -> None:
    problem = random_problem(seed)
    cost, latency = distinct(*front(problem))
    for k in {0, len(cost) // 4, len(cost) // 2, len(cost) - 1}:
        _check(problem.with_limit(latency[k] * (1 + 1e-12)), cost[k])
    _check(problem.with_limit(latency[0] * 0.99), None)


def test_the_slowest_layer_gives_its_method_up_and_never_its_last() -> None:
    inf = np.inf
    cost = np.array([[1.0, 1.0], [2.0, inf], [4.0, 3.0]])
    latency = np.array([[5.0, 9.0], [2.0, inf], [1.0, 4.0]])
    chosen, rounds, single = _select(cost, latency, budget_s=7.0, fixed_s=1.0)
    # Layer 1 (9 s) gives up method 0; layer 0 (5 s) its method 0.
    assert [(x.layer, x.method, x.latency_s) for x in rounds] == [
        (1, "pipelined", 15.0),
        (0, "pipelined", 10.0),
        (None, None, 7.0),
    ]
    assert chosen.tolist() == [1, 2]
    assert not single
    # At 4.5 s layer 1, although the slowest, has but one method left; then none is left anywhere: step 4
    # takes the cheapest method that all layers can use, and nothing meets the limit.
    chosen, rounds, single = _select(cost, latency, budget_s=4.5, fixed_s=1.0)
    assert single
    assert [x.layer for x in rounds] == [1, 0, 0, None]
    assert chosen.tolist() == [0, 0]


def test_a_method_that_one_layer_cannot_use_is_dropped_there_or_everywhere() -> None:
    """One layer's large payloads must not keep the others from `direct`, unless the paper's rule is asked for."""
    problem, _, _ = reference("bert-4")
    layers = list(problem.layers[:3])
    large = tuple(x.model_copy(update={"tokens": 40_000.0}) for x in layers[0].experts)
    layers[0] = layers[0].model_copy(update={"experts": large})
    problem = problem.model_copy(update={"layers": tuple(layers), "latency_limit_s": 34.0})
    first, *others = [x.communication for x in solve_ods(problem).layers]
    assert first != "direct"
    assert others == ["direct", "direct"]
    assert "direct" not in [x.communication for x in solve_ods(problem, methods="paper").layers]


def test_an_unknown_treatment_of_methods_is_refused() -> None:
    with pytest.raises(InputError, match="methods: expected"):
        solve_ods(random_problem(0), methods="everywhere")  # type: ignore[arg-type]
