"""Rivals are what their names say, as good as their rule allows, and never below the certified optimum."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe.errors import InputError
from optimizer import SOLVERS, evaluate, solve
from optimizer.baselines import one_replica, reactive_plans
from optimizer.baselines.replicas_only import greedy_replicas
from optimizer.evaluation import fixed_latency_s
from optimizer.exact import Infeasible
from optimizer.problem import with_tokens
from simulator.plan import COMMUNICATIONS, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan
from tests.conftest import reference
from tests.optimizer.random_problems import every_label, random_problem

SEEDS = range(6)
EVEN = (4, 6, 11, 13, 14, 15)
"""Seeds of random problems whose layers have equally many experts."""


def _limited(problem: DeploymentProblem, tightness: float = 0.3) -> DeploymentProblem:
    """Under a limit between the least latency and that of the cheapest plan."""
    free = solve(problem.with_limit(None)).latency_s or 0.0
    try:
        solve(problem.with_limit(1e-9))
        least = 0.0
    except Infeasible as error:
        least = error.least_latency_s
    return problem.with_limit(least + tightness * (free - least))


def _popularity(problem: DeploymentProblem) -> np.ndarray:
    return np.array([layer.tokens for layer in problem.layers])


def _every_plan_with_one_memory(problem: DeploymentProblem) -> list[DeploymentPlan]:
    """All plans with one method, one memory and one replica everywhere, for all minibatch sizes."""
    plans = []
    sizes = [range(1, max(1, int(np.ceil(layer.tokens.max()))) + 1) for layer in problem.layers]
    for memory_mb, method in itertools.product(problem.platform.memory_mb, COMMUNICATIONS):
        for betas in itertools.product(*sizes) if method == "pipelined" else [(None,) * len(problem.layers)]:
            layers = [
                LayerPlan(
                    communication=method,
                    minibatch_tokens=beta,
                    experts=(ExpertPlan(memory_mb=memory_mb, replicas=1),) * len(layer.experts),
                )
                for layer, beta in zip(problem.layers, betas, strict=True)
            ]
            plans.append(DeploymentPlan(solver="all", layers=tuple(layers)))
    return plans


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_memory_is_the_best_of_all_memories_methods_and_minibatches(seed: int) -> None:
    problem = _limited(random_problem(seed), 0.8)
    found = evaluate(problem, solve(problem, "best-memory"))
    every = [evaluate(problem, plan) for plan in _every_plan_with_one_memory(problem)]
    feasible = [x.objective_value for x in every if x.feasible]
    if feasible:
        assert found.feasible
        assert found.objective_value == pytest.approx(min(feasible), rel=1e-12)
    else:
        late = [x.latency_s for x in every if {kind for _, _, kind in x.violations} == {"latency"}]
        assert found.latency_s == pytest.approx(min(late), rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_memory_only_is_the_best_of_all_plans_without_replicas(seed: int) -> None:
    problem = _limited(random_problem(seed), 0.6)
    one = one_replica(problem)
    labels = [every_label(one, layer) for layer in one.layers]
    parts = [[np.concatenate(column) for column in zip(*of.values(), strict=True)] for of in labels]
    cost = np.add.outer(parts[0][0], parts[1][0]).ravel()
    latency = fixed_latency_s(problem) + np.add.outer(parts[0][1], parts[1][1]).ravel()
    in_time = latency <= (problem.latency_limit_s or np.inf) * (1 + 1e-12)
    found = evaluate(problem, solve(problem, "memory-only"))
    if in_time.any():
        assert found.feasible
        assert found.objective_value == pytest.approx(cost[in_time].min(), rel=1e-10)
    else:
        assert found.latency_s == pytest.approx(latency.min(), rel=1e-10)


@pytest.mark.parametrize("seed", range(10))
def test_no_rival_is_below_the_optimum(seed: int) -> None:
    problem = _limited(random_problem(seed))
    optimum = evaluate(problem, solve(problem)).objective_value
    for solver in SOLVERS:
        if solver == "miqcp" and seed >= 3:
            continue  # a second each; tests of its own hold it against the optimum, too
        plan = solve(problem, solver)
        assert not plan.feasible or evaluate(problem, plan).objective_value >= optimum * (1 - 1e-12), solver


def test_the_greedy_gives_the_next_replica_to_the_largest_load_per_replica() -> None:
    """By hand: 90 | 60 | 30 | 12 tokens; the next go to 90 (45), 60 (30), 45 (30), and then to the first of 30."""
    tokens = np.array([90.0, 60.0, 30.0, 12.0])
    for total, replicas in ((4, [1, 1, 1, 1]), (5, [2, 1, 1, 1]), (6, [2, 2, 1, 1]), (7, [3, 2, 1, 1])):
        assert greedy_replicas(tokens, total, 8).tolist() == replicas
    assert greedy_replicas(tokens, 8, 8).tolist() == [4, 2, 1, 1]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=4), st.integers(0, 6), st.integers(1, 4))
def test_the_greedy_makes_the_largest_load_per_replica_least(tokens: list[int], more: int, most: int) -> None:
    d = np.array(tokens, float)
    total = len(d) + more
    found = greedy_replicas(d, total, most)
    assert (found >= 1).all()
    assert (found <= most).all()
    assert found.sum() <= total
    every = [g for g in itertools.product(range(1, most + 1), repeat=len(d)) if sum(g) <= total]
    assert (d / found).max() == pytest.approx(min((d / g).max() for g in every))
    assert (found[d == 0] == 1).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_replicas_only_takes_the_best_method_and_minibatches_for_its_replicas(seed: int) -> None:
    problem = _limited(random_problem(seed), 0.8)
    plan = solve(problem, "replicas-only", memory_mb=1024, replicas_per_expert=2)
    most = problem.platform.max_replicas
    for layer, chosen in zip(problem.layers, plan.layers, strict=True):
        expected = greedy_replicas(layer.tokens, 2 * len(layer.experts), most)
        assert chosen.replicas.tolist() == expected.tolist()
        assert set(chosen.memory_mb.tolist()) == {1024}
    assert len({layer.communication for layer in plan.layers}) == 1
    found = evaluate(problem, plan)
    for method in COMMUNICATIONS:
        sizes = [range(1, int(np.ceil((x.tokens / y.replicas).max())) + 1 or 2) for x, y in zip(
            problem.layers, plan.layers, strict=True)]  # fmt: skip
        for betas in itertools.product(*sizes) if method == "pipelined" else [(None, None)]:
            layers = [
                LayerPlan(communication=method, minibatch_tokens=beta, experts=layer.experts)
                for layer, beta in zip(plan.layers, betas, strict=True)
            ]
            other = evaluate(problem, plan.model_copy(update={"layers": tuple(layers)}))
            if other.feasible:
                assert found.feasible
                assert found.objective_value <= other.objective_value * (1 + 1e-12)


def test_more_budgets_to_choose_from_are_never_worse() -> None:
    problem = reference("bert-4")[0].with_limit(60.0)
    best = solve(problem, "replicas-only")
    assert best.feasible
    assert {size for layer in best.layers for size in layer.memory_mb.tolist()} == {2880}  # largest up to 3008
    for budget in (1.0, 1.5, 3.0, 8.0):
        plan = solve(problem, "replicas-only", replicas_per_expert=budget)
        assert not plan.feasible or (plan.billed_gb_s or 0) >= (best.billed_gb_s or 0) * (1 - 1e-12)
    with pytest.raises(InputError, match="replicas_per_expert: expected 1 to 8, got 9"):
        solve(problem, "replicas-only", replicas_per_expert=9)
    with pytest.raises(InputError, match=r"memory_mb: expected one of the problem's sizes .*, got 3000"):
        solve(problem, "replicas-only", memory_mb=3000)


@pytest.mark.parametrize("seed", EVEN)
def test_a_reactive_controller_is_as_good_as_the_oracle_on_stationary_popularity(seed: int) -> None:
    problem = _limited(random_problem(seed))
    plans = reactive_plans(problem, np.repeat(_popularity(problem)[None], 3, axis=0))
    assert len(plans) == 4
    assert [plan.layers for plan in plans[1:]] == [solve(problem).layers] * 3


def test_a_reactive_controller_lags_a_step_by_one_period() -> None:
    before = reference("bert-4")[0].with_limit(45.0)
    after = with_tokens(before, _popularity(before)[:, ::-1])
    popularity = np.array([_popularity(before)] * 4 + [_popularity(after)] * 4)
    plans = reactive_plans(after, popularity, batches_per_period=2)
    old, new = solve(before).layers, solve(after).layers
    assert old != new
    assert [plan.layers for plan in plans[1:]] == [old, old, new, new]
    found = [evaluate(after, DeploymentPlan(solver="reactive", layers=plan.layers)) for plan in plans[1:]]
    assert [x.feasible for x in found] == [False, False, True, True]


def test_a_reactive_controller_that_saw_nothing_takes_all_experts_to_be_alike() -> None:
    problem, _, _ = reference("bert-4")
    turned = with_tokens(problem, _popularity(problem)[:, ::-1])
    assert solve(problem, "reactive").layers == solve(turned, "reactive").layers
    with pytest.raises(InputError, match="history: expected the popularity of batches with 12 layers x 4 experts"):
        solve(problem, "reactive", history=np.ones((12, 5)))
    with pytest.raises(InputError, match="batches_per_period: expected at least 1"):
        reactive_plans(problem, np.ones((2, 12, 4)), batches_per_period=0)
