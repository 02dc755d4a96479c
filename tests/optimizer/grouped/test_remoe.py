"""Remoe on Lambda: its hot experts are paid for, wherever they run."""

import numpy as np
import pytest

from moe.errors import InputError
from optimizer import evaluate
from optimizer.grouped import realise_remoe, remoe
from optimizer.grouped.remoe import _divided, _planned, _rewritten, exponential_fit
from optimizer.realised import realise
from optimizer.solvers import solve
from simulator.plan import DeploymentProblem
from simulator.serving.simulate import simulate
from tests.conftest import reference


def _limited(limit: float | None) -> DeploymentProblem:
    return reference("bert-4")[0].with_limit(limit)


@pytest.mark.parametrize("limit", [None, 60.0, 42.0])
def test_its_bills_are_those_of_the_rewritten_problem_and_its_hot_experts(limit: float | None) -> None:
    problem = _limited(limit)
    found = remoe(problem)
    cold = evaluate(found.problem, found.plan)
    assert found.billed_gb_s == pytest.approx(cold.billed_gb_s + found.hot_gb_s)
    usd = problem.platform.price_per_gb_s
    assert found.full_cost_usd == pytest.approx(cold.full_cost_usd + found.hot_gb_s * usd)
    assert found.plan.latency_s == cold.latency_s
    assert found.plan.feasible == (limit is None or cold.latency_s <= limit)


def test_every_token_is_served_by_hot_or_cold_experts() -> None:
    problem = _limited(None)
    hot, cold = _divided(problem, 2, 2)
    rewritten, _ = _rewritten(problem, hot, cold)
    for before, after, mine in zip(problem.layers, rewritten.layers, hot, strict=True):
        assert after.tokens.sum() + before.tokens[list(mine)].sum() == pytest.approx(before.tokens.sum())
        assert before.tokens[list(mine)].min() >= np.delete(before.tokens, list(mine)).max()
        assert len(after.experts) == 2
    assert rewritten.served_tokens == problem.served_tokens


def test_hot_experts_cost_their_seconds_at_the_main_functions_memory() -> None:
    """By hand: one hot expert a layer, at 3072 MB: 3 GB x (its tokens x U + the download of its parameters)."""
    problem = _limited(None)
    hot, cold = _divided(problem, 1, 1)
    rewritten, gb_s = _rewritten(problem, hot, cold)
    seconds = 0.0
    for before, after, (i,) in zip(problem.layers, rewritten.layers, hot, strict=True):
        compute = before.experts[i].tokens * before.seconds_per_token[-1]
        assert after.non_moe_s == pytest.approx(before.non_moe_s + compute)
        seconds += compute + before.experts[i].parameter_bytes / problem.platform.gate_bandwidth
    assert gb_s == pytest.approx(3 * seconds)
    download = problem.layers[0].experts[0].parameter_bytes / problem.platform.gate_bandwidth
    assert rewritten.head_s == pytest.approx(problem.head_s + download)
    assert rewritten.layers[0].next_load_s == pytest.approx(problem.layers[0].next_load_s + download)
    assert rewritten.layers[-1].next_load_s == problem.layers[-1].next_load_s


def test_its_total_bill_has_the_hot_experts_in_the_main_functions() -> None:
    problem = _limited(None)
    hot, cold = _divided(problem, 1, 1)
    rewritten, _ = _rewritten(problem, hot, cold)
    free = [
        layer.model_copy(update={"non_moe_s": before.non_moe_s})
        for layer, before in zip(rewritten.layers, problem.layers, strict=True)
    ]
    plan = solve(rewritten, "memory-only")
    with_hot, without = (
        simulate(x, plan).bill.total_cost_usd
        for x in (rewritten, rewritten.model_copy(update={"layers": tuple(free)}))
    )
    compute_s = sum(
        layer.experts[i].tokens * layer.seconds_per_token[-1]
        for layer, (i,) in zip(problem.layers, hot, strict=True)
    )
    assert with_hot - without >= 3 * compute_s * problem.platform.price_per_gb_s * (1 - 1e-9)


def test_without_a_limit_it_is_the_cheapest_of_its_sizes() -> None:
    problem = _limited(None)
    best = remoe(problem).cost()
    for hot in range(4):
        for replicas in range(1, 5 - hot):
            assert best <= _planned(problem, hot, replicas, "per-layer").cost() * (1 + 1e-12)


def test_the_fit_finds_an_exponential_and_stays_positive() -> None:
    memory = np.arange(768, 3073, 192).astype(float)
    times = 0.002 + 0.01 * np.exp(-0.003 * memory)
    assert exponential_fit(memory, times) == pytest.approx(times, rel=0.02)
    assert (exponential_fit(memory, 1 / memory) >= 1 / 3072).all()
    assert exponential_fit(memory[:2], times[:2]).tolist() == times[:2].tolist()


def test_experts_that_fit_nowhere_are_named() -> None:
    problem = _limited(None)
    huge = [
        layer.model_copy(
            update={"experts": tuple(x.model_copy(update={"parameter_bytes": 4e9}) for x in layer.experts)}
        )
        for layer in problem.layers
    ]
    with pytest.raises(InputError, match=r"layers\.0"):
        remoe(problem.model_copy(update={"layers": tuple(huge)}))


@pytest.mark.parametrize("limit", [None, 42.0])
def test_served_with_the_tokens_it_planned_for_it_comes_to_its_plan(limit: float | None) -> None:
    problem = _limited(limit)
    found = remoe(problem)
    real = realise_remoe(problem, found, np.array([layer.tokens for layer in problem.layers]))
    cold = realise(found.problem, found.plan, np.array([layer.tokens for layer in found.problem.layers]))
    assert real.billed_gb_s == pytest.approx(cold.billed_gb_s + found.hot_gb_s)
    assert real.latency_s == pytest.approx(cold.latency_s)
    # A plan is charged for its last minibatch as if it were full (Eq. 6), a batch for the tokens that are there.
    assert real.billed_gb_s <= found.billed_gb_s * (1 + 1e-9)


def test_more_tokens_for_a_hot_expert_are_paid_in_the_main_function() -> None:
    """By hand: 100 tokens more for the hottest expert of layer 0, at 3072 MB."""
    problem = _limited(None)
    found = _planned(problem, 1, 1, "per-layer")
    (hot,), cold = found.hot[0], found.cold[0][0]
    real = np.array([layer.tokens for layer in problem.layers])
    before = realise_remoe(problem, found, real)
    real[0, hot] += 100
    after = realise_remoe(problem, found, real)
    seconds = 100 * problem.layers[0].seconds_per_token[-1]
    assert hot not in cold
    assert after.billed_gb_s - before.billed_gb_s == pytest.approx(3 * seconds)
    assert after.latency_s - before.latency_s == pytest.approx(seconds)
