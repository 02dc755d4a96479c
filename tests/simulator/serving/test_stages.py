"""Stages of whole blocks, played: if these fail, no simulated bill of another shape means anything."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe.errors import InputError
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import MB, DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import load_profile
from simulator.profiles.walk import with_constant
from simulator.records import Record, bill
from simulator.serving.decode import Decode
from simulator.serving.lane import Lane
from simulator.serving.layer import JUST_IN_TIME, Serving
from simulator.serving.simulate import simulate
from simulator.stage_rules import peak_concurrency_of
from simulator.staged_plan import BlocksStage, ExpertStage, StagedPlan
from tests.optimizer.staged_problems import random_staged_plan, staged_problem


def _one_stage(lanes: int = 1, memory_mb: int = 10240, layers: int = 3) -> StagedPlan:
    stage = BlocksStage(first_layer=0, last_layer=layers - 1, memory_mb=memory_mb, lanes=lanes, handover="payload")
    return StagedPlan(solver="hand", stages=(stage,))


@given(st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=80)
def test_the_ideal_platform_is_the_closed_form(seed: int, layers: int) -> None:
    """Any cut, memory, lanes, hand-over, reload and front, with layers of expert functions in between."""
    problem = staged_problem(seed, layers)
    plan = random_staged_plan(seed, problem, methods=("storage",), grouped=True)
    plan = plan.model_copy(update={"reload": (None, "when-cold", "every-invocation")[seed % 3]})
    run, closed = simulate(problem, plan, serving=JUST_IN_TIME), evaluate_staged(problem, plan)
    assert run.bill.total_cost_usd == pytest.approx(closed.total_cost_usd, rel=1e-9)
    assert run.bill.billed_gb_s == pytest.approx(closed.billed_gb_s, rel=1e-9)
    assert run.mean_latency_s == pytest.approx(closed.latency_s, rel=1e-9)
    assert set(run.violations) == set(closed.violations)
    assert not run.failed


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_expert_functions_alone_are_played_as_in_plan_1(seed: int) -> None:
    problem = staged_problem(seed)
    plan = random_staged_plan(seed, problem, experts=1.0)
    layers = tuple(stage.layer for stage in plan.stages if isinstance(stage, ExpertStage))
    old = simulate(problem, DeploymentPlan(solver="", layers=layers), load_profile(), runs=2, seed=seed)
    new = simulate(problem, plan, load_profile(), runs=2, seed=seed)
    assert new.bill == old.bill
    assert new.latency_s.tolist() == old.latency_s.tolist()
    assert new.records == old.records


@given(st.integers(0, 10**6))
@settings(max_examples=25)
def test_tokens_and_bytes_are_conserved_and_rows_add_up(seed: int) -> None:
    """On the packaged profile: each stage computes each token once, what leaves one comes into the next, and the
    bill is the sum of its rows."""
    problem = staged_problem(seed, 4, front="client", input_bytes_per_token=4.0)
    problem = problem.model_copy(
        update={"platform": problem.platform.model_copy(update={"payload_limit_bytes": 6291456.0})}
    )
    plan = random_staged_plan(seed, problem, methods=("storage", "pipelined"), grouped=True)
    run = simulate(problem, plan, load_profile(), warm=bool(seed % 2), seed=seed)
    assert not run.failed
    for stage in plan.stages:
        if isinstance(stage, BlocksStage):
            rows = [row for row in run.records if row.role == "blocks" and row.layer == stage.first_layer]
            assert len(rows) == stage.lanes
            assert sum(row.tokens for row in rows) == pytest.approx(problem.served_tokens)
    assert run.bill == bill(run.records)
    assert max(_running(run.records)) <= peak_concurrency_of(problem, plan)
    for before, after in zip(plan.stages, plan.stages[1:], strict=False):
        if isinstance(before, BlocksStage) and isinstance(after, BlocksStage):
            hidden = problem.served_tokens * problem.layers[after.first_layer].token_in_bytes
            sent = sum(
                row.bytes_out for row in run.records if row.role == "blocks" and row.layer == before.first_layer
            )
            assert sent == pytest.approx(hidden)


def _running(rows: list[Record]) -> list[int]:
    """Calls under way after each start or end."""
    steps = sorted([(row.requested_s, 1) for row in rows] + [(row.ended_s, -1) for row in rows])
    return np.cumsum([step for _, step in steps]).tolist()


def test_a_cold_lane_loads_all_parameters_once_an_instance() -> None:
    """From S3 over as many connections as its function's rate takes; a warm instance keeps them, unless asked not
    to; an image has them in it, and is read in INIT."""
    problem, profile = staged_problem(2, front="client", reload="when-cold"), load_profile()
    parameters = sum(x.parameter_bytes for x in problem.blocks.layers) + problem.blocks.head_bytes
    cold = simulate(problem, _one_stage(2), profile, warm=False, runs=2, seed=0)
    loads = [row.phases["parameter_download"] for row in cold.records if "parameter_download" in row.phases]
    assert len(loads) == 2  # of two lanes, in the first batch only
    one_connection_s = parameters / profile.storage.connection_bytes_per_s.median
    assert all(0.1 * one_connection_s < end - start < one_connection_s for start, end in loads)
    assert cold.latency_s[0] > cold.latency_s[1] + max(end - start for start, end in loads) * 0.9
    again = simulate(problem, _one_stage(2), profile, serving=Serving(reload="every-invocation"), runs=2, seed=0)
    assert sum("parameter_download" in row.phases for row in again.records) == 4
    image = Serving(blocks_package="python3.12-x86_64-image")
    lazy = simulate(problem, _one_stage(2), profile, serving=image, warm=False, seed=0)
    assert not any("parameter_download" in row.phases for row in lazy.records)
    read_s = parameters / profile.start.image_bytes_per_s.median
    inits = [row.phases["init"][1] - row.phases["init"][0] for row in lazy.records]
    assert min(inits) > read_s


def test_lanes_that_overflow_run_as_more_or_fail() -> None:
    """Four sequences of a lane do not fit beside the parameters: foreseen, retried, or the batch fails."""
    problem = staged_problem(6, front="client", reload="when-cold", input_bytes_per_token=4.0)
    blocks = problem.blocks
    parameters = sum(x.parameter_bytes for x in blocks.layers) + blocks.head_bytes + blocks.runtime_bytes
    held = (10240 * MB - parameters) / (problem.served_tokens / 7 * 3.5)  # room for 3 sequences
    layers = tuple(x.model_copy(update={"bytes_per_token": held}) for x in blocks.layers)
    problem = problem.with_blocks(blocks.model_copy(update={"layers": layers}))
    experts = max(len(layer.experts) for layer in problem.layers)
    even = tuple(layer.model_copy(update={"experts": (layer.experts[0],) * experts}) for layer in problem.layers)
    problem = problem.model_copy(update={"layers": even})
    tokens = [np.full((3, experts), 1)]
    runs = {
        overflow: simulate(
            problem, _one_stage(2), load_profile(), serving=Serving(overflow=overflow), routing=tokens, seed=1
        )
        for overflow in ("foreseen", "retry", "fail")
    }
    assert sum(row.status == "ok" for row in runs["foreseen"].records) == 3  # of 3, 2 and 2 sequences
    assert runs["foreseen"].overflowed == 1
    failed = [row for row in runs["retry"].records if row.status == "out-of-memory"]
    assert [row.tokens for row in failed] == [pytest.approx(problem.served_tokens * 4 / 7)]
    assert sum(row.tokens for row in runs["retry"].records if row.status == "ok") == pytest.approx(
        problem.served_tokens
    )
    assert runs["fail"].failed == ("batch 0: blocks-0-2 out-of-memory, attempt 1",)
    large = tuple(x.model_copy(update={"parameter_bytes": 4000.0 * MB}) for x in blocks.layers)
    none = problem.with_blocks(blocks.model_copy(update={"layers": large}))
    with pytest.raises(InputError, match="but not one sequence"):
        simulate(none, _one_stage(2), load_profile(), routing=tokens)


def test_one_stage_generates_where_its_sequences_are() -> None:
    """Time to the first token is that of the batch without its answer; each step reads attention and the experts
    that its tokens use; nothing is invoked again."""
    problem = staged_problem(8, front="client", reload="when-cold", input_bytes_per_token=4.0)
    blocks = problem.blocks
    layers = tuple(x.model_copy(update={"expert_share": 0.75}) for x in blocks.layers)
    problem = problem.with_blocks(blocks.model_copy(update={"layers": layers, "result_bytes_per_token": 0.0}))
    plan = _one_stage(2)
    alone, run = simulate(problem, plan), simulate(problem, plan, decode=Decode(5, 6))
    assert run.latency_s == pytest.approx(alone.latency_s, rel=1e-12)
    assert len(run.records) == 2
    by_hand = 0.0
    for e, layer in enumerate(problem.blocks.layers):
        experts = len(problem.layers[e].experts)
        used = experts * (1 - (1 - 1 / experts) ** 3) / experts  # 3 sequences a lane, top-1
        read_s = 0.0 if layer.seconds_per_call is None else layer.seconds_per_call[2]
        by_hand += read_s * (0.25 + 0.75 * used) + 3 * layer.seconds_per_token[2]
        if e == 2 and problem.blocks.tail_seconds_per_token:
            by_hand += 3 * problem.blocks.tail_seconds_per_token[2]
    assert run.decode_s == pytest.approx(np.full((1, 5), by_hand), rel=1e-9)
    assert run.bill.billed_gb_s == pytest.approx(alone.bill.billed_gb_s + 2 * 10 * 5 * by_hand, rel=1e-9)
    assert not run.violations
    long = simulate(problem, plan, decode=Decode(400_000, 6))
    assert long.violations == ((0, None, "memory"),)  # of keys and values


def test_with_more_stages_each_step_travels() -> None:
    """Every step is a pass through all stages, and reads the weights of both."""
    problem = staged_problem(8, front="client", reload="when-cold", input_bytes_per_token=4.0)
    first = BlocksStage(first_layer=0, last_layer=1, memory_mb=3008, lanes=2, handover="storage")
    second = BlocksStage(first_layer=2, last_layer=2, memory_mb=1769, lanes=1, handover="payload")
    plan = StagedPlan(solver="hand", stages=(first, second))
    run = simulate(problem, plan, decode=Decode(3, 4))
    assert run.decode_s.shape == (1, 3)
    assert len(run.records) == 4 * 3
    computing = Lane.of(problem, first, "payload").step_s(2) + Lane.of(problem, second, "storage").step_s(4)
    moving = 2 * problem.platform.warm_start_s + 2 * problem.platform.storage_delay_s
    assert (run.decode_s > computing + moving).all()
    assert (run.decode_s < computing + moving + 0.1).all()


def test_a_failed_lane_fails_its_batch_and_says_so() -> None:
    problem = staged_problem(5, front="function", input_bytes_per_token=4.0, result_bytes_per_token=4.0)
    profile = load_profile()
    broken = with_constant(profile, ("failures", "handler_error"), 1.0)
    run = simulate(problem, _one_stage(3), broken, seed=0)
    assert len(run.failed) == 1
    assert "handler-error" in run.failed[0]
    assert math.isnan(run.latency_s[0])


def test_same_seed_same_rows() -> None:
    problem: DeploymentProblem = staged_problem(9, 4)
    plan = random_staged_plan(9, problem)
    first, second = (simulate(problem, plan, load_profile(), warm=False, runs=2, seed=4) for _ in range(2))
    assert first.records == second.records


def test_reload_is_the_plans_the_problems_or_what_is_asked_for() -> None:
    """A plan that settles it for its expert functions leaves the lanes theirs; what is asked for holds for both,
    and a resolved setting of null asks for nothing."""
    problem, profile = staged_problem(3, front="client", reload="every-invocation"), load_profile()
    plan = random_staged_plan(2, problem, methods=("storage",)).model_copy(update={"reload": "when-cold"})
    assert {stage.shape for stage in plan.stages} == {"blocks", "expert-functions"}

    def loading(serving: Serving) -> set[str]:
        run = simulate(problem, plan, profile, serving=serving, seed=0)
        return {row.role for row in run.records if "parameter_download" in row.phases}

    assert loading(Serving()) == {"blocks"}
    assert loading(Serving.model_validate(Serving().model_dump())) == {"blocks"}
    assert loading(Serving(reload="when-cold")) == set()
    assert loading(Serving(reload="every-invocation")) == {"blocks", "expert", "non-moe"}
