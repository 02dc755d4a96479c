"""Alg. 1: the paper's algorithm, as the paper's figures need it."""

import numpy as np
import pytest

from moe.errors import InputError
from optimizer.evaluation import evaluate, evaluate_layer, fixed_latency_s
from optimizer.exact import front, least_latency_s, model_fronts
from optimizer.ods import _select, fixed_method_model, fixed_method_within, solve_ods
from optimizer.solvers import timed
from simulator.plan import COMMUNICATIONS, DeploymentPlan, DeploymentProblem, read_problem
from tests.conftest import EXAMPLES, NAMES, reference
from tests.optimizer.random_problems import distinct, every_label, random_problem, with_many_tokens


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


@pytest.mark.parametrize(
    "seeds",
    [range(60), *(pytest.param(range(k, k + 180), marks=pytest.mark.slow) for k in (60, 240, 420))],
    ids=lambda seeds: f"from {seeds.start}",
)
def test_a_plan_does_not_depend_on_whether_the_fronts_were_there(seeds: range) -> None:
    """One limit and many are solved by different code: a sweep's ODS must be the ODS of a single plan."""
    for seed in seeds:
        problem = with_many_tokens(seed)
        fronts = model_fronts(problem)
        fastest_s = sum(x.latency_s[0] for x in fronts.fronts) + fixed_latency_s(problem)
        # None, some or all of the methods meet the limit.
        for limit_s in (0.7 * fastest_s, float(np.random.default_rng(seed).uniform(1, 1.5)) * fastest_s):
            limited = problem.with_limit(limit_s)
            one, other = solve_ods(limited), solve_ods(limited, fronts=fronts)
            assert one.layers == other.layers, f"seed {seed}, limit {limit_s} s"
            assert one.rounds == other.rounds, f"seed {seed}, limit {limit_s} s"


@pytest.mark.parametrize("seed", range(25))
def test_where_a_method_misses_the_limit_its_plan_is_the_cheapest_of_the_fastest(seed: int) -> None:
    problem = with_many_tokens(seed, times=4).with_limit(0.01)
    for method in COMMUNICATIONS:
        for e, plan in enumerate(fixed_method_within(problem, method, fixed_method_model(problem, method))):
            labels = every_label(problem, problem.layers[e])
            own = [label for name, label in labels.items() if name.startswith(method)]
            cost, latency = (np.concatenate(column) for column in zip(*own, strict=True)) if own else ([], [])
            if plan is None or not len(cost):
                assert plan is None or not problem.layers[e].tokens.any()
                continue
            found = evaluate_layer(problem, e, plan)
            paid = found.billed_gb_s if problem.objective == "gb_s" else found.full_cost_usd
            assert found.latency_s == pytest.approx(latency.min(), rel=1e-12)
            assert paid == pytest.approx(cost[latency <= latency.min() * (1 + 1e-12)].min(), rel=1e-9)


@pytest.mark.parametrize("whole_fronts", [False, True])
def test_a_limit_out_of_reach_does_not_make_the_single_method_dear(whole_fronts: bool) -> None:
    """Next to a floor that all minibatch sizes meet, any of them is fastest: 5.52 GB-s where 4.43 are enough."""
    problem = read_problem(EXAMPLES / "ods-fastest.problem.json")
    found = solve_ods(problem, fronts=model_fronts(problem) if whole_fronts else None)
    result = evaluate(problem, DeploymentPlan(solver="ods", layers=found.layers))
    assert found.single_method
    assert result.billed_gb_s == pytest.approx(4.43, abs=0.005)
    assert not result.feasible


def test_layers_that_are_alike_take_their_plans_in_one_order() -> None:
    """They may swap plans at no cost, but which of them is slowest decides whose method is dropped."""
    problem, _, _ = reference("bert-4")
    problem = problem.model_copy(update={"layers": (problem.layers[0],) * 4})
    least_s = least_latency_s(problem)
    for share in (1.02, 1.05, 1.1, 1.2):
        limited = problem.with_limit(share * least_s)
        for x in (solve_ods(limited), solve_ods(limited, fronts=model_fronts(limited))):
            for method in set(COMMUNICATIONS):
                latency = [
                    evaluate_layer(limited, e, y).latency_s
                    for e, y in enumerate(x.layers)
                    if y.communication == method
                ]
                assert latency == sorted(latency)


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
    chosen, rounds, single = _select(cost, latency, budget_s=7.0, fixed=0.0, fixed_s=1.0)
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
    chosen, rounds, single = _select(cost, latency, budget_s=4.5, fixed=0.0, fixed_s=1.0)
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
