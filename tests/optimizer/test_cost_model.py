"""The closed form: the numbers that every plan, figure and claim rests on."""

import numpy as np
import pytest

from moe.errors import InputError
from optimizer.evaluation import evaluate, with_evaluation
from simulator.plan import COMMUNICATIONS, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan
from tests.conftest import NAMES, reference
from tests.optimizer.random_problems import random_problem


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_comes_to_what_an_independent_program_found(name: str) -> None:
    problem, plan, expected = reference(name)
    found = evaluate(problem, plan)
    wanted = expected["plan"]
    for key in ("billed_gb_s", "billed_cost_usd", "full_cost_usd", "latency_s"):
        assert getattr(found, key) == pytest.approx(wanted[key], rel=1e-9), key
    np.testing.assert_allclose(found.layer_gb_s, wanted["layer_gb_s"], rtol=1e-9)
    np.testing.assert_allclose(found.layer_latency_s, wanted["layer_latency_s"], rtol=1e-9)
    assert sorted(map(str, found.violations)) == sorted(str(tuple(x)) for x in wanted["violations"])
    assert found.feasible == wanted["feasible"]


def _same_everywhere(problem: DeploymentProblem, method: str, memory_mb: int, replicas: int) -> DeploymentPlan:
    layers = [
        LayerPlan(
            communication=method,
            minibatch_tokens=2 if method == "pipelined" else None,
            experts=(ExpertPlan(memory_mb=memory_mb, replicas=replicas),) * len(layer.experts),
        )
        for layer in problem.layers
    ]
    return DeploymentPlan(solver="test", layers=tuple(layers))


@pytest.mark.parametrize("method", COMMUNICATIONS)
@pytest.mark.parametrize("seed", range(10))
def test_more_tokens_are_never_cheaper_nor_faster(method: str, seed: int) -> None:
    problem = random_problem(seed)
    plan = _same_everywhere(problem, method, 512, 2)
    before = evaluate(problem, plan)
    layer = problem.layers[0]
    for i, expert in enumerate(layer.experts):
        experts = list(layer.experts)
        experts[i] = expert.model_copy(update={"tokens": expert.tokens + 1.5})
        more = layer.model_copy(update={"experts": tuple(experts)})
        after = evaluate(problem.model_copy(update={"layers": (more, *problem.layers[1:])}), plan)
        assert after.billed_gb_s >= before.billed_gb_s
        assert after.full_cost_usd >= before.full_cost_usd
        assert after.latency_s >= before.latency_s


@pytest.mark.parametrize("method", COMMUNICATIONS)
def test_an_expert_without_tokens_is_free_and_delays_nothing(method: str) -> None:
    """Otherwise sparse popularity would be billed for functions that nobody invokes."""
    problem = random_problem(3)
    layer = problem.layers[0]
    slow_and_large = layer.experts[0].model_copy(update={"tokens": 0.0, "parameter_bytes": 1e9})
    wider = problem.model_copy(
        update={
            "layers": (
                layer.model_copy(update={"experts": (*layer.experts, slow_and_large)}),
                *problem.layers[1:],
            )
        }
    )
    without = evaluate(problem, _same_everywhere(problem, method, 512, 3))
    with_idle = evaluate(wider, _same_everywhere(wider, method, 512, 3))
    assert with_idle.full_cost_usd == pytest.approx(without.full_cost_usd, rel=1e-12)
    assert with_idle.latency_s == pytest.approx(without.latency_s, rel=1e-12)


def test_requests_are_in_the_full_bill_and_only_there() -> None:
    """The price of S3 and invocation requests must not hide in the paper's bill, nor be forgotten in ours."""
    problem, plan, _ = reference("whole-bill")
    free = problem.platform.model_copy(
        update={"price_per_put": 0.0, "price_per_get": 0.0, "price_per_invocation": 0.0}
    )
    found, unpriced = (
        evaluate(problem, plan),
        evaluate(problem.model_copy(update={"platform": free}), plan),
    )
    assert found.billed_cost_usd == unpriced.billed_cost_usd == unpriced.full_cost_usd < found.full_cost_usd
    layer = LayerPlan(
        communication="pipelined",
        minibatch_tokens=64,
        experts=(ExpertPlan(memory_mb=768, replicas=2),) * 4,
    )
    plan = DeploymentPlan(solver="test", layers=(layer,) * len(problem.layers))
    found = evaluate(problem, plan)
    objects = sum(2 * np.ceil(d / 2 / 64) for x in problem.layers for d in x.tokens)
    replicas = 2 * 4 * len(problem.layers)
    requests = replicas * (2e-7 + 4e-7) + objects * (2 * 5e-6 + 2 * 4e-7)
    assert found.full_cost_usd - found.billed_cost_usd == pytest.approx(requests, rel=1e-9)


def test_a_limit_equal_to_the_plan_s_latency_is_met() -> None:
    """A user who plans again with the latency that was printed must not be told that it is out of reach."""
    problem, plan, _ = reference("bert2bert-4")
    latency = evaluate(problem, plan).latency_s
    assert evaluate(problem.with_limit(latency), plan).feasible
    late = evaluate(problem.with_limit(latency * (1 - 1e-9)), plan)
    assert late.violations == ((None, None, "latency"),)


def test_the_evaluated_plan_carries_bound_and_gap() -> None:
    problem, plan, _ = reference("tiny")
    found = with_evaluation(problem, plan, lower_bound=8.0, solve_s=0.5)
    assert found.billed_gb_s is not None
    assert found.gap == pytest.approx(1 - 8.0 / found.billed_gb_s)
    assert (found.feasible, found.solve_s, found.lower_bound) == (False, 0.5, 8.0)
    assert with_evaluation(problem, plan).gap is None


def test_a_plan_of_another_problem_is_refused() -> None:
    problem, plan, _ = reference("tiny")
    with pytest.raises(InputError, match=r"layers: expected 2"):
        evaluate(problem, plan.model_copy(update={"layers": plan.layers[:1]}))
