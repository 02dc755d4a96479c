"""Robust planning: what is minimised is the bill on the samples, and the certificate holds for every plan."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe.errors import InputError
from optimizer import evaluate, solve
from optimizer.problem import with_tokens
from optimizer.realised import realise
from optimizer.robust import Criterion, plan_robustly, solve_robust
from optimizer.robust.lower_bound import mean_bound, sample_bounds
from optimizer.robust.outcomes import Outcomes
from optimizer.robust.plan import Risk, _candidates, quantile_of
from simulator.plan import COMMUNICATIONS, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan
from simulator.serving.overflow import replicas_that_fit
from tests.conftest import reference
from tests.optimizer.random_problems import random_problem

EVEN = (4, 6, 11, 13, 14, 15)
"""Seeds of random problems whose layers have equally many experts."""


def _popularity(problem: DeploymentProblem) -> np.ndarray:
    return np.array([layer.tokens for layer in problem.layers])


def _samples(problem: DeploymentProblem, count: int = 6, seed: int = 0) -> np.ndarray:
    """Other draws of the same number of tokens, at most three times an expert's."""
    rng = np.random.default_rng(seed)
    d = _popularity(problem)
    drawn = np.array([rng.poisson(d * rng.uniform(0.6, 1.2, d.shape)) for _ in range(count)])
    return np.minimum(drawn, 3 * d).astype(float)


def _middle(problem: DeploymentProblem, samples: np.ndarray) -> DeploymentProblem:
    """Under a limit that binds on the samples."""
    free = plan_robustly(problem.with_limit(None), samples).latency_s
    fast = plan_robustly(problem.with_limit(0.3), samples).latency_s
    return problem.with_limit(0.4 * free + 0.6 * fast)


def _random_plans(problem: DeploymentProblem, count: int) -> Iterator[DeploymentPlan]:
    rng = np.random.default_rng(0)
    sizes = problem.platform.memory_mb
    for _ in range(count):
        layers = []
        for layer in problem.layers:
            method = COMMUNICATIONS[rng.integers(3)]
            experts = [
                ExpertPlan(
                    memory_mb=sizes[rng.integers(len(sizes))],
                    replicas=int(rng.integers(1, problem.platform.max_replicas + 1)),
                )
                for _ in layer.experts
            ]
            beta = int(rng.integers(1, 12)) if method == "pipelined" else None
            layers.append(LayerPlan(communication=method, minibatch_tokens=beta, experts=tuple(experts)))
        yield DeploymentPlan(solver="drawn", layers=tuple(layers))


def _allowed(problem: DeploymentProblem, plan: DeploymentPlan, tokens: np.ndarray) -> bool:
    try:
        runs = [replicas_that_fit(problem, e, layer, tokens[e]) for e, layer in enumerate(plan.layers)]
    except InputError:
        return False
    return max(x.max() for x in runs) <= problem.platform.max_replicas


@pytest.mark.parametrize("seed", EVEN)
def test_no_plan_at_all_is_below_the_bounds(seed: int) -> None:
    """Hundreds of plans drawn at random, with the replicas that their overflow needs."""
    problem = random_problem(seed).with_limit(None)
    samples = _samples(problem)
    free, bounds = mean_bound(problem, samples), sample_bounds(problem, samples)
    assert free == pytest.approx(bounds.mean())
    limit = _middle(problem, samples).latency_limit_s
    assert limit is not None
    limited = problem.with_limit(limit)
    mean_limited, share_limited = mean_bound(limited, samples), mean_bound(limited, samples, 0.5)
    assert mean_limited is not None
    assert share_limited is not None
    assert free <= min(mean_limited, share_limited) + 1e-12
    seen = 0
    for plan in _random_plans(problem, 400):
        if not all(_allowed(problem, plan, tokens) for tokens in samples):
            continue
        seen += 1
        real = [realise(problem, plan, tokens) for tokens in samples]
        bills = np.array([x.cost(problem) for x in real])
        latencies = np.array([x.latency_s for x in real])
        assert (bills >= bounds * (1 - 1e-12)).all()
        if latencies.mean() <= limit:
            assert bills.mean() >= mean_limited * (1 - 1e-12)
        if (latencies <= limit).mean() >= 0.5:
            assert bills.mean() >= share_limited * (1 - 1e-12)
    assert seen > 20


@pytest.mark.parametrize("risk", ["mean", "quantile"])
@pytest.mark.parametrize("seed", EVEN)
def test_with_identical_samples_it_is_the_exact_plan_or_as_good(seed: int, risk: Risk) -> None:
    problem = random_problem(seed)
    problem = _middle(problem, _popularity(problem)[None])
    same = np.repeat(_popularity(problem)[None], 4, axis=0)
    found = plan_robustly(problem, same, Criterion(risk, 0.5))
    exact = solve(problem)
    real = realise(problem, exact, same[0])
    assert found.cost_bound is not None
    assert found.cost_bound <= found.cost
    if not _allowed(problem, exact, same[0]):  # replicas get whole tokens, and one more than fits
        assert np.isinf(found.mean_plan_cost)
        return
    assert found.mean_plan_cost == pytest.approx(real.cost(problem), rel=1e-12)
    assert found.cost <= real.cost(problem) * (1 + 1e-12)
    if not any(layer.communication == "pipelined" for layer in found.layers):
        # Only Eq. 6 charges tokens that are not there; without it both come to the same.
        assert found.cost == pytest.approx(evaluate(problem, exact).objective_value, rel=1e-12)


@pytest.mark.parametrize("limit", [None, 50.0])
def test_with_identical_samples_a_bert_model_gets_the_exact_plans_cost(limit: float | None) -> None:
    problem = reference("bert-4")[0].with_limit(limit)
    found = plan_robustly(problem, _popularity(problem)[None])
    optimum = solve(problem).billed_gb_s or 0.0
    assert found.cost == pytest.approx(optimum, rel=1e-9)
    assert found.cost_bound is not None
    assert 0.95 * optimum < found.cost_bound <= optimum
    assert found.stochastic_gain == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", EVEN)
@pytest.mark.parametrize(
    "criterion",
    [Criterion(), Criterion(limit_share=0.6), Criterion("quantile", 0.7), Criterion("quantile", 0.7, 0.9)],
)
def test_no_change_of_a_layer_helps_and_for_the_mean_no_change_of_any(seed: int, criterion: Criterion) -> None:
    problem = random_problem(seed)
    samples = _samples(problem)
    problem = _middle(problem, samples)
    found = plan_robustly(problem, samples, criterion)
    outcomes = Outcomes.of(problem, _candidates(problem, samples, "per-layer"), samples)
    mixes = np.array(list(itertools.product(*(outcomes.served(e) for e in range(2)))))
    if not criterion.separable:
        chosen = [part.index(layer) for part, layer in zip(outcomes.layers, found.layers, strict=True)]
        mixes = mixes[(mixes == chosen).any(axis=1)]
    bills, latencies = outcomes.totals(mixes)
    in_time = criterion.latency_s(latencies) <= (problem.latency_limit_s or 0) * (1 + 1e-12)
    if in_time.any():
        assert found.cost == pytest.approx(criterion.cost(bills)[in_time].min(), rel=1e-9)
    else:
        assert found.latency_s == pytest.approx(criterion.latency_s(latencies).min(), rel=1e-9)


@pytest.mark.parametrize("seed", EVEN)
def test_its_numbers_are_those_of_serving_every_sample(seed: int) -> None:
    problem = random_problem(seed)
    samples = _samples(problem)
    problem = _middle(problem, samples)
    found = plan_robustly(problem, samples)
    plan = DeploymentPlan(solver="robust", layers=found.layers)
    real = [realise(problem, plan, tokens) for tokens in samples]
    assert found.cost == pytest.approx(np.mean([x.cost(problem) for x in real]))
    assert found.latency_s == pytest.approx(np.mean([x.latency_s for x in real]))
    assert found.over_limit == np.mean([x.latency_s > (problem.latency_limit_s or 0) for x in real])
    assert found.cost_bound is None or found.cost_bound <= found.cost * (1 + 1e-12)
    assert all(_allowed(problem, plan, tokens) for tokens in samples)
    mean_plan = solve(with_tokens(problem.with_limit(None), samples.mean(axis=0)))
    if all(_allowed(problem, mean_plan, tokens) for tokens in samples):
        cost = np.mean([realise(problem, mean_plan, tokens).cost(problem) for tokens in samples])
        assert plan_robustly(problem.with_limit(None), samples).cost <= cost * (1 + 1e-12)


@pytest.mark.parametrize("seed", EVEN)
def test_a_higher_quantile_never_costs_less(seed: int) -> None:
    problem = random_problem(seed)
    samples = _samples(problem)
    problem = _middle(problem, samples)
    costs = [plan_robustly(problem, samples, Criterion("quantile", q)).cost for q in (0.2, 0.5, 0.8, 1.0)]
    assert costs == sorted(costs)
    assert plan_robustly(problem, samples).cost <= costs[-1] * (1 + 1e-12)


@pytest.mark.parametrize("seed", EVEN[:3])
def test_a_call_that_fails_first_is_dearer_than_one_that_is_foreseen(seed: int) -> None:
    problem = random_problem(seed).with_limit(None)
    samples = _samples(problem)
    foreseen, retry = (plan_robustly(problem, samples, Criterion(overflow=x)) for x in ("foreseen", "retry"))  # type: ignore[arg-type]
    assert retry.cost >= foreseen.cost * (1 - 1e-12)


def test_one_minibatch_size_for_the_model_if_asked() -> None:
    problem = random_problem(4)
    samples = _samples(problem)
    found = plan_robustly(problem, samples, beta="global")
    assert len({x.minibatch_tokens for x in found.layers if x.minibatch_tokens}) <= 1
    assert found.cost >= plan_robustly(problem, samples).cost * (1 - 1e-12)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9), st.floats(0.01, 1))
def test_a_quantile_is_the_least_that_so_many_do_not_exceed(values: list[float], share: float) -> None:
    x = np.array(values)
    found = float(quantile_of(x, share))
    assert found in values
    assert np.mean(x <= found) >= share - 1e-9
    assert all(np.mean(x <= other) < share for other in values if other < found)


def test_wrong_samples_and_criteria_are_named() -> None:
    problem = random_problem(4)
    with pytest.raises(
        InputError, match="samples: expected popularity of 2 layers x 3 experts for each, got 2 x 3"
    ):
        plan_robustly(problem, np.ones((2, 3)))
    with pytest.raises(InputError, match="samples: expected a number of tokens >= 0"):
        plan_robustly(problem, -np.ones((1, 2, 3)))
    with pytest.raises(InputError, match="risk: expected mean or quantile, got 'meen'; did you mean 'mean'"):
        solve_robust(problem, samples=np.ones((1, 2, 3)), risk="meen")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="quantile: expected more than 0 and at most 1, got 90"):
        Criterion("quantile", 90)
