"""Regret: what a wrong prediction costs, and when."""

import numpy as np
import pytest

from moe.errors import InputError
from optimizer.evaluation import evaluate
from optimizer.problem import with_tokens
from optimizer.regret import best_on_real_tokens, on_real_tokens, regret
from optimizer.solvers import solve
from simulator.plan import DeploymentProblem
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.simulate import simulate
from tests.conftest import reference


def problem_at(name: str = "bert-4", slack: float = 1.1) -> DeploymentProblem:
    """A reference problem whose limit is a little above the least latency."""
    problem = reference(name)[0].with_limit(1e-3)
    with pytest.raises(InputError) as error:
        solve(problem)
    return problem.with_limit(slack * error.value.least_latency_s)  # type: ignore[attr-defined]


def tokens_of(problem: DeploymentProblem) -> np.ndarray:
    return np.array([layer.tokens for layer in problem.layers])


def test_the_real_counts_have_no_regret() -> None:
    problem = problem_at()
    found = regret(problem, tokens_of(problem))
    assert found.share == 0
    assert found.made == found.best
    assert not found.best.late
    assert found.best.overflowed == 0
    assert found.best.cost == solve(problem).billed_gb_s


def test_a_plan_for_other_tokens_is_evaluated_on_the_real_ones() -> None:
    """Where everything fits, that is the closed form with the real tokens, and nothing else."""
    problem = problem_at()
    rng = np.random.default_rng(0)
    predicted = tokens_of(problem) * rng.uniform(0.9, 1.1, tokens_of(problem).shape)
    plan = solve(with_tokens(problem, predicted), "exact")
    made, closed = regret(problem, predicted).made, evaluate(problem, plan)
    assert made is not None
    if made.overflowed == 0:
        assert (made.cost, made.latency_s) == (closed.billed_gb_s, closed.latency_s)
    assert made.late == (made.latency_s > problem.latency_limit_s * (1 + 1e-12))


def test_a_plan_in_time_is_never_cheaper_than_the_best() -> None:
    """Only lateness, or replicas beyond the allowed ones, can make a wrong plan cheap."""
    rng = np.random.default_rng(1)
    problem = problem_at(slack=1.5)
    real, best, in_time = tokens_of(problem), best_on_real_tokens(problem), 0
    for spread in (0.01, 0.1, 0.4):
        wrong = with_tokens(problem, real * rng.uniform(1 - spread, 1 + spread, real.shape))
        for limit in (0.7, 0.8, 0.95):
            made = on_real_tokens(problem, solve(wrong.with_limit(limit * (problem.latency_limit_s or 0))))
            if not made.late and not made.overflowed:
                assert made.cost >= best.cost * (1 - 1e-12)
                in_time += 1
    assert in_time > 2


def test_a_balanced_prediction_of_skewed_popularity_is_late() -> None:
    """The paper's bill alone can be gamed: for balanced tokens a plan promises less than the best one costs."""
    problem = reference("bert-4")[0].with_limit(62.0)
    balanced = np.full((12, 4), 2560.0)
    found = regret(problem, balanced)
    assert found.made is not None
    assert found.best.latency_s <= 62 < 90 < found.made.latency_s
    assert found.made.late
    assert (solve(with_tokens(problem, balanced)).billed_gb_s or 0) < found.best.cost


def test_a_replica_that_overflows_runs_as_several_and_costs_what_the_simulator_says() -> None:
    """On the ideal platform the simulator plays the same overflow rule with whole tokens."""
    problem, plan, _ = reference("tiny")
    small = with_tokens(problem, np.full(tokens_of(problem).shape, 10.0)).with_limit(None)
    plan = solve(small, "exact")
    real = np.full(tokens_of(problem).shape, 400_000.0)
    big = with_tokens(small, real)
    found = on_real_tokens(big, plan)
    assert found.overflowed > 0
    run = simulate(small, plan, routing=[real.astype(int)], serving=JUST_IN_TIME)
    assert found.overflowed == run.overflowed


def test_a_limit_that_the_predicted_tokens_cannot_keep_is_told() -> None:
    problem = problem_at(slack=1.01)
    one = np.zeros_like(tokens_of(problem))
    one[:, 0] = tokens_of(problem).sum(axis=1)
    found = regret(problem, one)
    assert found.made is None
    assert found.share is None
    assert "no plan for the predicted tokens: latency_limit_s" in (found.failure or "")


def test_popularity_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected popularity of its 12 layers x 4 experts, got 6 x 4"):
        regret(problem_at(), np.ones((6, 4)))
