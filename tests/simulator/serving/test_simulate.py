"""Plans on the AWS profile with real routing: if these fail, the main job's bills are wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.report.latency_path import latency_by_phase
from moe.errors import InputError
from moe.spec import load_spec
from optimizer.problem import make_problem
from simulator.plan import (
    MB,
    Communication,
    DeploymentPlan,
    DeploymentProblem,
    ExpertPlan,
    LayerPlan,
    Reload,
    needed_memory_bytes,
    payload_bytes,
)
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.records import COLUMNS
from simulator.serving.layer import EAGER, Serving
from simulator.serving.overflow import Overflow, replicas_that_fit
from simulator.serving.simulate import Decode, simulate
from simulator.serving.timeline import chrome_trace, write_chrome_trace

PROFILE = load_profile("paper")


def small_problem(tokens: float = 512) -> DeploymentProblem:
    spec = load_spec("minilm-moe", experts=4)
    return make_problem(spec, np.full((6, 4), tokens / 4), PROFILE)


def plan_of(
    problem: DeploymentProblem, method: Communication, memory_mb: int = 1536, replicas: int = 2
) -> DeploymentPlan:
    beta = 32 if method == "pipelined" else None
    experts = (ExpertPlan(memory_mb=memory_mb, replicas=replicas),) * 4
    layer = LayerPlan(communication=method, minibatch_tokens=beta, experts=experts)
    return DeploymentPlan(solver="test", layers=(layer,) * len(problem.layers))


def with_experts(**changes: float) -> DeploymentProblem:
    """The small problem with other sizes of its experts."""
    problem = small_problem()
    experts = tuple(x.model_copy(update=changes) for x in problem.layers[0].experts)
    layer = problem.layers[0].model_copy(update={"experts": experts})
    return problem.model_copy(update={"layers": (layer,) * 6})


def routing(batches: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.multinomial(512, [0.5, 0.3, 0.15, 0.05], size=6) for _ in range(batches)]


@pytest.mark.parametrize("method", ["storage", "pipelined", "direct"])
def test_every_routed_token_is_computed_once(method: Communication) -> None:
    problem, batches = small_problem(), routing()
    run = simulate(problem, plan_of(problem, method), PROFILE, routing=batches)
    table = run.to_pandas()
    experts = table[table.role == "expert"]
    served = experts.groupby(["batch", "layer", "expert"]).tokens.sum()
    for (batch, layer, expert), tokens in served.items():
        assert tokens == batches[batch][layer, expert]
    assert (experts.tokens % 1 == 0).all()
    assert list(table.columns) == list(COLUMNS)


@pytest.mark.parametrize("method", ["storage", "pipelined", "direct"])
def test_the_same_seed_gives_the_same_rows_and_another_one_does_not(method: Communication) -> None:
    problem = small_problem()
    runs = [
        simulate(problem, plan_of(problem, method), PROFILE, runs=2, seed=seed).to_pandas() for seed in (3, 3, 4)
    ]
    assert runs[0].equals(runs[1])
    assert not runs[0].equals(runs[2])


@pytest.mark.parametrize("method", ["storage", "pipelined", "direct"])
def test_a_cold_first_batch_is_slower_and_later_ones_are_warm(method: Communication) -> None:
    problem = small_problem()
    cold = simulate(problem, plan_of(problem, method), PROFILE, runs=3, warm=False)
    table = cold.to_pandas()
    assert table[table.batch == 0].cold.all()
    assert not table[table.batch == 2].cold.any()
    assert cold.latency_s[0] > cold.latency_s[2]


@pytest.mark.parametrize("method", ["storage", "pipelined", "direct"])
def test_decoding_invokes_every_layer_again_for_each_token(method: Communication) -> None:
    problem = small_problem()
    plain = simulate(problem, plan_of(problem, method), PROFILE)
    run = simulate(problem, plan_of(problem, method), PROFILE, decode=Decode(steps=3, sequences=4))
    assert run.latency_s == pytest.approx(plain.latency_s)  # the first token is not slower for those after it
    assert run.decode_s.shape == (1, 3)
    assert (run.decode_s < run.latency_s[0]).all()
    table = run.to_pandas()
    experts = table[(table.role == "expert") & (table.step > 0)]
    assert (experts.groupby(["step", "layer"]).tokens.sum() == 4).all()
    assert run.bill.total_cost_usd > plain.bill.total_cost_usd


def test_the_three_bills_contain_each_other() -> None:
    problem = small_problem()
    run = simulate(problem, plan_of(problem, "pipelined"), PROFILE, runs=2)
    assert run.bill.billed_cost_usd < run.bill.full_cost_usd < run.bill.total_cost_usd
    # requests of page 2 of the paper's model: invocation, parameters, and 2 PUT + 2 GET for every minibatch
    minibatches = 6 * 4 * 2 * 2  # layers x experts x replicas x ceil(64 / 32)
    requests = 6 * 4 * 2 * (2e-7 + 4e-7) + minibatches * (2 * 5e-6 + 2 * 4e-7)
    assert run.bill.full_cost_usd - run.bill.billed_cost_usd == pytest.approx(requests)


def test_more_tokens_than_foreseen_overflow_into_the_least_replicas_that_fit() -> None:
    problem = with_experts(intermediate_bytes_per_token=1e6)
    layer = problem.layers[0]
    plan = plan_of(problem, "storage", memory_mb=768, replicas=1)
    real = np.array([100, 2000, 0, 700])
    found = replicas_that_fit(problem, 0, plan.layers[0], real)
    for d, g in zip(real, found, strict=True):
        assert needed_memory_bytes(layer, np.full(4, np.ceil(d / g)))[0] <= 768 * MB
        if g > 1:
            assert needed_memory_bytes(layer, np.full(4, np.ceil(d / (g - 1))))[0] > 768 * MB
    run = simulate(problem, plan, PROFILE, routing=[np.tile(real, (6, 1))])
    assert run.overflowed == 6 * int((found - 1).sum())
    assert len([r for r in run.records if r.role == "expert"]) == 6 * int(found[real > 0].sum())


def test_a_replica_out_of_memory_is_killed_and_billed_where_overflow_is_not_foreseen() -> None:
    problem = with_experts(intermediate_bytes_per_token=1e6)
    plan = plan_of(problem, "storage", memory_mb=768, replicas=1)
    real = np.tile(np.array([100, 2000, 0, 700]), (6, 1))
    run = simulate(problem, plan, PROFILE, routing=[real], serving=Serving(overflow="fail"))
    killed = [row for row in run.records if row.status == "out-of-memory"]
    assert {row.expert for row in killed} == {1}
    assert all(row.billed_s > 0 for row in killed)
    assert run.failed == ("batch 0: layer-0-expert-1 out-of-memory, attempt 1",)


def test_the_caller_tries_again_after_the_statuses_that_the_profile_names() -> None:
    problem = with_experts(intermediate_bytes_per_token=1e6)
    plan = plan_of(problem, "storage", memory_mb=768, replicas=1)
    stubborn = PROFILE.retries.model_copy(update={"again_after": ("out-of-memory",)})
    profile = PROFILE.model_copy(update={"retries": stubborn})
    real = np.tile(np.array([100, 2000, 0, 700]), (6, 1))
    run = simulate(problem, plan, profile, serving=Serving(overflow="fail"), routing=[real])
    assert [row.attempt for row in run.records if row.status == "out-of-memory"] == [1, 2, 3]


def test_a_replica_that_overflows_is_billed_and_its_tokens_run_elsewhere() -> None:
    problem = with_experts(intermediate_bytes_per_token=1e6)
    plan = plan_of(problem, "storage", memory_mb=768, replicas=1)
    real = np.tile(np.array([100, 2000, 0, 700]), (6, 1))
    ways: tuple[Overflow, ...] = ("foreseen", "retry")
    runs = {how: simulate(problem, plan, PROFILE, serving=Serving(overflow=how), routing=[real]) for how in ways}
    rows = [row for row in runs["retry"].records if row.role == "expert"]
    served = [row for row in rows if row.status == "ok"]
    assert not runs["retry"].failed
    assert sum(row.tokens for row in served) == real.sum()
    assert len([row for row in rows if row.status == "out-of-memory"]) == 6
    assert len(served) == len([row for row in runs["foreseen"].records if row.role == "expert"])
    assert runs["retry"].bill.billed_gb_s > runs["foreseen"].bill.billed_gb_s


def test_a_payload_over_the_limit_overflows_with_direct_only() -> None:
    problem = small_problem(4096)
    real = np.array([8000, 10, 10, 10])
    direct, storage = plan_of(problem, "direct", 3008, 1), plan_of(problem, "storage", 3008, 1)
    found = replicas_that_fit(problem, 0, direct.layers[0], real)
    assert found[0] > 1
    assert payload_bytes(problem.layers[0], problem.platform, np.ceil(8000 / found[:1]))[0] <= 6291456
    assert (replicas_that_fit(problem, 0, storage.layers[0], real) == 1).all()


def test_an_expert_without_room_for_a_token_is_named() -> None:
    problem = with_experts(parameter_bytes=900 * MB)
    with pytest.raises(InputError, match=r"layers\.0\.experts\.0\.memory_mb: 768 MB holds .* but not one token"):
        simulate(problem, plan_of(problem, "storage", memory_mb=768), PROFILE, routing=routing(1))


def test_routing_of_another_model_is_refused() -> None:
    problem = small_problem()
    with pytest.raises(InputError, match=r"expected \(6, 4\) layers and experts, got \(6, 8\)"):
        simulate(problem, plan_of(problem, "storage"), PROFILE, routing=[np.ones((6, 8), int)])


def test_the_trace_has_a_track_for_each_instance_and_no_phase_outside_its_call(tmp_path: Path) -> None:
    problem = small_problem()
    run = simulate(problem, plan_of(problem, "pipelined"), PROFILE)
    write_chrome_trace(run.records, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert events == chrome_trace(run.records)["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    calls = [e for e in slices if e["args"]]
    assert len(calls) == len(run.records)
    assert len({e["tid"] for e in calls}) == len({r.instance for r in run.records})
    for phase in (e for e in slices if not e["args"]):
        assert any(
            c["tid"] == phase["tid"]
            and c["ts"] - 1 <= phase["ts"]
            and phase["ts"] + phase["dur"] <= c["ts"] + c["dur"] + 1
            for c in calls
        )


@pytest.mark.parametrize("tokens", [512, 8192])  # results handed on in one payload, and through S3
def test_a_gate_of_direct_sends_waits_and_hands_on_and_each_has_its_own_time(tokens: int) -> None:
    """Where they are one phase, a batch looks as if it uploaded for seconds while its experts load and compute."""
    problem = small_problem(tokens)
    run = simulate(problem, plan_of(problem, "direct", replicas=4), PROFILE)
    for layer in range(6):
        rows = [row for row in run.records if row.layer == layer]
        gate = next(row for row in rows if row.role == "non-moe")
        sent, waited, handed = (gate.phases[name] for name in ("upload", "wait", "hand_on"))
        last = max(row.ended_s for row in rows if row.role == "expert")
        assert sent[0] < sent[1] == waited[0] < waited[1] == pytest.approx(last)
        assert handed[0] == pytest.approx(last)
        assert handed[1] <= gate.ended_s + 1e-9
    where = latency_by_phase(run.records)
    assert where is not None
    heads = [row for row in run.records if row.role == "expert" and row.layer == 0]
    least = min(end - start for row in heads for start, end in [row.phases["parameter_download"]])
    assert where["parameter_download"] >= 6 * least
    assert where["hand_on"] > 0


def test_batches_apart_are_all_cold_and_each_is_as_if_it_were_the_first() -> None:
    """Else a cold batch is compared with the mean of warm ones that served other tokens."""
    problem, batches = small_problem(), routing(3)
    plan = plan_of(problem, "storage")
    still_cold = simulate(problem, plan, PROFILE, routing=batches, warm=False, apart=True)
    assert all(row.cold for row in still_cold.records)
    warm = simulate(problem, plan, PROFILE, routing=batches)
    assert (still_cold.latency_s > warm.latency_s).all()
    assert sorted({row.batch for row in still_cold.records}) == [0, 1, 2]
    for batch in range(3):
        rows = [row for row in still_cold.records if row.batch == batch]
        assert min(row.requested_s for row in rows) == 0.0
    ideal = [simulate(problem, plan, routing=[each]).latency_s[0] for each in batches]
    assert simulate(problem, plan, routing=batches, apart=True).latency_s == pytest.approx(ideal)


@pytest.mark.parametrize("method", ["storage", "pipelined"])
def test_a_next_function_that_starts_just_in_time_waits_less_and_is_as_fast(method: Communication) -> None:
    problem = small_problem(4096)
    plan = plan_of(problem, method, memory_mb=1536)
    ways = EAGER, Serving(next_layer_start="just-in-time")
    eager, late = (simulate(problem, plan, serving=serving) for serving in ways)
    assert late.mean_latency_s == pytest.approx(eager.mean_latency_s, rel=1e-9)
    assert late.bill.waiting_usd < 0.2 * eager.bill.waiting_usd
    assert late.bill.billed_gb_s == pytest.approx(eager.bill.billed_gb_s)
    aws = [simulate(problem, plan, PROFILE, serving=serving).bill for serving in ways]
    assert aws[1].total_cost_usd < aws[0].total_cost_usd


@pytest.mark.parametrize("method", ["storage", "pipelined"])
def test_results_gathered_as_they_come_are_there_no_later_than_all_at_the_end(method: Communication) -> None:
    problem = make_problem(
        load_spec("minilm-moe", experts=4), np.tile([2000.0, 1200.0, 700.0, 100.0], (6, 1)), PROFILE
    )
    plan = plan_of(problem, method, memory_mb=1536)
    as_ready = Serving(next_layer_start="eager", gather="as-ready")
    runs = [simulate(problem, plan, serving=serving) for serving in (EAGER, as_ready)]
    assert runs[1].mean_latency_s < runs[0].mean_latency_s
    moved = [sum(row.bytes_in for row in run.records) for run in runs]
    assert moved[0] == pytest.approx(moved[1])
    assert runs[0].bill.full_cost_usd == pytest.approx(runs[1].bill.full_cost_usd)


def test_the_parts_of_a_bill_are_the_bill() -> None:
    problem = small_problem(4096)
    run = simulate(problem, plan_of(problem, "storage", memory_mb=1536), PROFILE, runs=2)
    costs = [row.compute_cost_usd + row.request_cost_usd + row.tmp_cost_usd for row in run.records]
    assert run.bill.total_cost_usd == pytest.approx(sum(costs) / 2)
    assert 0 < run.bill.waiting_usd < run.bill.non_moe_compute_usd
    assert run.bill.billed_cost_usd < run.bill.full_cost_usd < run.bill.total_cost_usd


@pytest.mark.parametrize("profile", [PROFILE, None], ids=["profile", "ideal"])
@pytest.mark.parametrize("method", ["storage", "pipelined", "direct"])
def test_parameters_kept_in_a_warm_instance_are_downloaded_once(
    method: Communication, profile: PlatformProfile | None
) -> None:
    problem = small_problem()
    plan = plan_of(problem, method)
    ways: tuple[Reload, ...] = ("every-invocation", "when-cold")
    runs = {how: simulate(problem, plan, profile, serving=Serving(reload=how), runs=3, warm=False) for how in ways}

    def downloads(how: str, batch: int) -> int:
        return sum("parameter_download" in row.phases for row in runs[how].records if row.batch == batch)

    assert downloads("every-invocation", 2) == downloads("every-invocation", 0) > 0
    assert downloads("when-cold", 0) == downloads("every-invocation", 0)
    assert downloads("when-cold", 2) < 0.1 * downloads("when-cold", 0)
    assert runs["when-cold"].bill.billed_gb_s < runs["every-invocation"].bill.billed_gb_s
    warm = simulate(problem, plan, profile, serving=Serving(reload="when-cold"))
    assert not any("parameter_download" in row.phases for row in warm.records)
