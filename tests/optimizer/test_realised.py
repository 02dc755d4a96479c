"""What a plan costs on tokens that it was not made for: by hand, and beside the simulator on the ideal one."""

from dataclasses import replace

import numpy as np
import pytest

from moe.spec import load_spec
from optimizer import cost_model
from optimizer.cost_model import chosen
from optimizer.evaluation import evaluate
from optimizer.problem import make_problem, with_tokens
from optimizer.realised import errors, realise, realised_latency_s
from optimizer.solvers import solve
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan
from simulator.profiles.schema import load_profile
from simulator.serving.layer import JUST_IN_TIME, Serving
from simulator.serving.overflow import Overflow
from simulator.serving.simulate import simulate
from simulator.staged_plan import BlocksStage, ExpertStage, StagedPlan
from tests.conftest import reference
from tests.optimizer.bo.bo_cases import small_problem
from tests.optimizer.staged_problems import random_staged_plan, staged_problem

MB = 2**20


def tight_problem(payload_limit_bytes: float = 6 * MB) -> DeploymentProblem:
    """Experts of 100 MB with 1 MB a token beside the payloads: 128 MB hold about 28 tokens."""
    problem = small_problem()
    layers = tuple(
        layer.model_copy(
            update={
                "token_in_bytes": 10_000.0,
                "token_out_bytes": 20_000.0,
                "experts": tuple(
                    x.model_copy(
                        update={
                            "parameter_bytes": 50.0 * MB,
                            "intermediate_bytes": 50.0 * MB,
                            "intermediate_bytes_per_token": 1.0 * MB - 30_000,
                        }
                    )
                    for x in layer.experts
                ),
            }
        )
        for layer in problem.layers
    )
    platform = problem.platform.model_copy(update={"payload_limit_bytes": payload_limit_bytes})
    return problem.model_copy(update={"layers": layers, "platform": platform})


def uniform(problem: DeploymentProblem, method: Communication, memory_mb: int, replicas: int) -> DeploymentPlan:
    """The same for every expert."""
    layer = LayerPlan(
        communication=method,
        minibatch_tokens=5 if method == "pipelined" else None,
        experts=(ExpertPlan(memory_mb=memory_mb, replicas=replicas),) * 4,
    )
    return DeploymentPlan(solver="test", layers=(layer,) * len(problem.layers))


def with_replicas(plan: DeploymentPlan, e: int, i: int, replicas: int) -> DeploymentPlan:
    """The plan with other replicas of one expert."""
    layer = plan.layers[e]
    experts = [*layer.experts]
    experts[i] = experts[i].model_copy(update={"replicas": replicas})
    layers = [*plan.layers]
    layers[e] = layer.model_copy(update={"experts": tuple(experts)})
    return plan.model_copy(update={"layers": tuple(layers)})


def test_as_planned_the_realised_bill_is_the_closed_form() -> None:
    problem = small_problem()
    plan = uniform(problem, "storage", 1920, 2)
    real = np.array([[400, 100, 60, 40], [10, 90, 300, 200]])
    found, expected = realise(problem, plan, real), evaluate(with_tokens(problem, real), plan)
    assert found.billed_gb_s == pytest.approx(expected.billed_gb_s, rel=1e-12)
    assert found.full_cost_usd == pytest.approx(expected.full_cost_usd, rel=1e-12)
    assert found.latency_s == pytest.approx(expected.latency_s, rel=1e-12)


@pytest.mark.parametrize("method", ["storage", "pipelined"])
def test_memory_overflow_is_billed_as_the_least_count_that_fits(method: Communication) -> None:
    """128 MB hold 28 tokens beside the expert. 2 replicas of 60 tokens overflow with 30 each: twice as many fit.

    Minibatches are of 5 tokens, so that all are full, as Eq. 6 takes them to be."""
    problem = tight_problem()
    plan = uniform(problem, method, 128, 2)
    real = np.full((2, 4), 40.0)
    real[1, 2] = 60
    found = realise(problem, plan, real)
    expected = evaluate(with_tokens(problem, real), with_replicas(plan, 1, 2, 4))
    assert found.billed_gb_s == pytest.approx(expected.billed_gb_s, rel=1e-12)
    assert found.latency_s == pytest.approx(expected.latency_s, rel=1e-12)
    seen = errors(problem, plan, real, alpha=1e9)
    assert np.argwhere(seen.memory).tolist() == [[1, 2]]
    assert not seen.payload.any()
    assert not seen.misprediction.any()


def test_minibatches_that_are_not_full_are_billed_for_what_is_in_them() -> None:
    """7 tokens in minibatches of 5 are two of 3.5: Eq. 6 with that size, and no time for the 3 missing ones."""
    problem = tight_problem()
    plan = uniform(problem, "pipelined", 768, 1)
    real = np.zeros((2, 4))
    real[0, 0] = 7
    x = chosen(with_tokens(problem, real), 0, plan.layers[0])
    t = cost_model.pipelined_s(problem.platform, x, 3.5, np.array([2.0, 1, 1, 1]))
    found = realise(problem, plan, real)
    assert found.billed_gb_s == pytest.approx(float(t[0]) * 768 / 1024, rel=1e-12)
    assert found.billed_gb_s < evaluate(with_tokens(problem, real), plan).billed_gb_s


def test_payload_overflow_counts_with_direct_only() -> None:
    """0.6 MB of payload hold 30 results of 20,000 bytes: 100 tokens of 2 replicas need twice as many."""
    problem = tight_problem(payload_limit_bytes=600_000)
    real = np.full((2, 4), 40.0)
    real[0, 1] = 100
    for method, replicas in (("direct", 4), ("storage", 2)):
        plan = uniform(problem, method, 1920, 2)  # type: ignore[arg-type]
        found = realise(problem, plan, real)
        expected = evaluate(with_tokens(problem, real), with_replicas(plan, 0, 1, replicas))
        assert found.billed_gb_s == pytest.approx(expected.billed_gb_s, rel=1e-12)
        assert errors(problem, plan, real, 1e9).payload.any() == (method == "direct")


def test_a_retried_call_is_billed_until_it_runs_out_of_memory() -> None:
    """By hand, `storage`: 2 replicas fail when 30 tokens of input are there; then 4 run as if foreseen, later."""
    problem = tight_problem()
    plan = uniform(problem, "storage", 128, 2)
    real = np.full((2, 4), 40.0)
    real[1, 2] = 60
    p, layer = problem.platform, problem.layers[1]
    bandwidth = float(p.storage_bandwidths[0])
    head_s = 50 * MB / bandwidth + p.storage_delay_s + p.warm_start_s
    failed_s = head_s + p.storage_delay_s + 30 * layer.token_in_bytes / bandwidth
    foreseen, retried = (realise(problem, plan, real, how) for how in ("foreseen", "retry"))  # type: ignore[arg-type]
    assert retried.billed_gb_s - foreseen.billed_gb_s == pytest.approx(2 * failed_s * 128 / 1024, rel=1e-9)
    # The expert is done that much later than the 4 were; the others (20 tokens in 2 replicas) may be slower.
    x = chosen(with_tokens(problem, real), 1, with_replicas(plan, 1, 2, 4).layers[1])
    result = cost_model.outcome(p, with_tokens(problem, real).layers[1], x, "storage")
    others = float(np.delete(result.finish_s, 2).max())
    later = max(result.floor_s, others, float(result.finish_s[2]) + failed_s)
    before = max(result.floor_s, float(result.finish_s.max()))
    assert retried.latency_s - foreseen.latency_s == pytest.approx(later - before, rel=1e-9)


def test_a_refused_payload_is_free_and_a_response_too_large_is_not() -> None:
    problem = tight_problem(payload_limit_bytes=600_000)
    plan = uniform(problem, "direct", 1920, 1)
    for tokens, billed in ((100, False), (40, True)):  # 1 MB in: refused; 0.4 MB in, 0.8 MB out: computed first
        real = np.zeros((2, 4))
        real[0, 0] = tokens
        foreseen, retried = (realise(problem, plan, real, how) for how in ("foreseen", "retry"))  # type: ignore[arg-type]
        assert (retried.billed_gb_s > foreseen.billed_gb_s) == billed


def test_a_batch_whose_token_does_not_fit_fails_and_says_so() -> None:
    problem = tight_problem()
    layer = problem.layers[0].experts[0].model_copy(update={"intermediate_bytes_per_token": 100.0 * MB})
    experts = (layer, *problem.layers[0].experts[1:])
    layers = (problem.layers[0].model_copy(update={"experts": experts}), problem.layers[1])
    problem = problem.model_copy(update={"layers": layers})
    found = realise(problem, uniform(problem, "storage", 128, 1), np.full((2, 4), 10.0))
    assert found.failed is not None
    assert "not one token" in found.failed
    assert found.billed_gb_s == np.inf


def test_a_misprediction_counts_by_replica_beyond_alpha() -> None:
    problem = with_tokens(small_problem(), np.full((2, 4), 150.0))
    plan = uniform(problem, "storage", 3072, 2)
    real = np.full((2, 4), 150.0)
    real[0, 3] = 190  # 20 tokens more in each of 2 replicas
    assert np.argwhere(errors(problem, plan, real, 19.0).misprediction).tolist() == [[0, 3]]
    assert not errors(problem, plan, real, 21.0).any


def test_the_worst_error_decides_how_long_exploration_goes_on() -> None:
    none = np.zeros((1, 2), bool)
    some = np.array([[False, True]])
    seen = errors(small_problem(), uniform(small_problem(), "storage", 3072, 1), np.full((2, 4), 150.0), 1.0)
    assert seen.rho(0.3, 0.2, 0.1) == 0
    for memory, payload, off, rho in ((some, some, some, 0.3), (none, some, some, 0.2), (none, none, some, 0.1)):
        assert replace(seen, memory=memory, payload=payload, misprediction=off).rho(0.3, 0.2, 0.1) == rho


@pytest.mark.parametrize("how", ["foreseen", "retry"])
@pytest.mark.parametrize("method", ["storage", "direct"])
def test_the_simulator_on_the_ideal_platform_bills_the_same(method: Communication, how: Overflow) -> None:
    """Tokens that the replicas share evenly, of which one expert of each layer overflows its memory."""
    problem = tight_problem(payload_limit_bytes=1e12)
    plan = uniform(problem, method, 128, 2)
    real = np.array([[40, 8, 60, 20], [48, 60, 0, 12]])
    run = simulate(problem, plan, routing=[real], serving=Serving(start="just-in-time", overflow=how))
    found = realise(problem, plan, real, how)
    assert found.billed_gb_s == pytest.approx(run.bill.billed_gb_s, rel=1e-9)
    assert run.latency_s[0] <= found.latency_s * (1 + 1e-9)
    if method == "storage":
        assert found.latency_s == pytest.approx(float(run.latency_s[0]), rel=0.02)


@pytest.mark.parametrize("predicted", ["real", "even"])
@pytest.mark.parametrize("limit_s", [55.0, 62.0])
def test_bert_4s_plans_come_to_what_the_simulator_says(limit_s: float, predicted: str) -> None:
    """All methods mixed; plans made for the real counts, and for experts that are alike."""
    problem, _, _ = reference("bert-4")
    problem = problem.with_limit(limit_s)
    real = np.array([layer.tokens for layer in problem.layers]).astype(int)
    planned_for = real if predicted == "real" else np.full_like(real, 2560)
    plan = solve(with_tokens(problem, planned_for), "ods")
    run = simulate(problem, plan, routing=[real], serving=JUST_IN_TIME)
    found = realise(problem, plan, real)
    assert found.billed_gb_s == pytest.approx(run.bill.billed_gb_s, rel=0.01)
    assert found.latency_s == pytest.approx(float(run.latency_s[0]), rel=0.01)


def with_experts(problem: DeploymentProblem, count: int) -> DeploymentProblem:
    """The problem with so many experts in each layer, all like the first."""
    layers = (x.model_copy(update={"experts": x.experts[:1] * count}) for x in problem.layers)
    return problem.model_copy(update={"layers": tuple(layers)})


def undivided(plan: StagedPlan, count: int) -> StagedPlan:
    """The plan with one lane and one replica everywhere, and the first expert's memory for each of so many."""

    def one(stage: BlocksStage | ExpertStage) -> BlocksStage | ExpertStage:
        if isinstance(stage, BlocksStage):
            return stage.model_copy(update={"lanes": 1})
        experts = (stage.layer.experts[0].model_copy(update={"replicas": 1}),) * count
        return stage.model_copy(update={"layer": stage.layer.model_copy(update={"experts": experts})})

    return plan.model_copy(update={"stages": tuple(map(one, plan.stages))})


@pytest.mark.parametrize("seed", range(6))
def test_a_plan_with_stages_takes_on_other_tokens_what_it_takes_when_played(seed: int) -> None:
    problem = with_experts(staged_problem(seed, sequences=1), 3)
    plan = undivided(random_staged_plan(seed, problem, 0.6, ("storage",)), 3)
    real = np.random.default_rng(seed).multinomial(int(problem.served_tokens), [0.2, 0.3, 0.5], 3)
    played = simulate(problem, plan, routing=[real], serving=JUST_IN_TIME)
    assert realised_latency_s(problem, plan, real) == pytest.approx(played.latency_s[0], rel=1e-9)
    as_planned = evaluate_staged(with_tokens(problem, real), plan)
    if not as_planned.violations:  # nothing overflows
        assert realised_latency_s(problem, plan, real) == pytest.approx(as_planned.latency_s, rel=1e-9)


def test_settled_gates_count_in_what_a_plan_takes_on_other_tokens() -> None:
    tokens = np.full((6, 4), 512.0)
    problem = make_problem(load_spec("minilm-moe"), tokens, load_profile(), objective="total")
    plan = uniform(problem, "storage", 3008, 1).model_copy(update={"non_moe_memory_mb": 1152})
    assert realise(problem, plan, tokens).latency_s == pytest.approx(evaluate(problem, plan).latency_s, rel=1e-12)
