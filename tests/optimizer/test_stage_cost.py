"""What a stage of whole blocks costs and takes: if these fail, no shape can be compared with another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.evaluation import evaluate
from optimizer.stage_cost import front_itself, front_usd_per_s, gets_usd, stage_costs
from optimizer.staged_evaluation import evaluate_staged, with_staged_evaluation
from simulator.plan import MB, DeploymentPlan, DeploymentProblem
from simulator.stage_rules import handover_gets, lane_sequences, sources_of_lanes
from simulator.staged_plan import BlocksStage, ExpertStage, StagedPlan
from simulator.stages import Blocks
from tests.optimizer.random_problems import random_problem
from tests.optimizer.staged_problems import random_staged_plan, staged_problem


def test_a_lane_by_lane_sum_is_the_closed_form() -> None:
    """Two stages of three layers, lane for lane with a calculator's steps."""
    problem = staged_problem(3, reload="every-invocation", front="client", input_bytes_per_token=4.0)
    blocks, p = problem.blocks, problem.platform
    assert blocks is not None
    plan = StagedPlan(
        solver="hand",
        stages=(
            BlocksStage(first_layer=0, last_layer=0, memory_mb=3008, lanes=2, handover="storage"),
            BlocksStage(first_layer=1, last_layer=2, memory_mb=10240, lanes=3, handover="payload"),
        ),
    )
    bandwidths = blocks.storage_bandwidth_bytes_per_s or (p.storage_bandwidths[1], *p.storage_bandwidths[[2, 2]])
    token, hidden = problem.served_tokens / 7, problem.layers[1].token_in_bytes
    gb_s, latency, head = [0.0, 0.0], [0.0, 0.0], blocks.head_bytes
    for s, (j, of_lanes, layers) in enumerate(((1, (4, 3), [0]), (2, (3, 2, 2), [1, 2]))):
        here = [blocks.layers[e] for e in layers]
        tail = (blocks.tail_seconds_per_token or (0.0,) * 3)[j] * (s == 1)
        loaded = sum(x.parameter_bytes for x in here) + head * (
            s == 0 or blocks.tail_seconds_per_token is not None
        )
        for sequences in of_lanes:
            r = sequences * token
            t = p.warm_start_s + loaded / bandwidths[j] + p.storage_delay_s
            t += sum((x.seconds_per_call or (0.0,) * 3)[j] + r * x.seconds_per_token[j] for x in here) + r * tail
            moved = p.storage_delay_s + r * hidden / bandwidths[j]
            answered = r * blocks.result_bytes_per_token / p.direct_bandwidth_bytes_per_s
            t += moved + (answered if s == 1 else 0.0)
            asked = r * 4 / p.direct_bandwidth_bytes_per_s if s == 0 else 0.0
            gb_s[s] += t * blocks.memory_mb[j] / 1024
            latency[s] = max(latency[s], asked + t)
    # each lane: its call, and a GET of its parameters; 2 PUTs; the 3 lanes hold sequences 0-2, 3-4, 5-6 and read
    # of the lanes with 0-3 and 4-6: 1 + 2 + 1 GETs
    usd = sum(gb_s) * p.price_per_gb_s + 5 * (2e-7 + 4e-7) + 2 * 5e-6 + 4 * 4e-7
    found = evaluate_staged(problem, plan)
    assert found.total_cost_usd == pytest.approx(usd, rel=1e-12)
    assert found.billed_gb_s == pytest.approx(sum(gb_s), rel=1e-12)
    assert found.run_latency_s == pytest.approx(latency, rel=1e-12)
    assert (found.functions, found.peak_concurrency, found.fits_account) == (2, 3, True)


BERT_LAYER_FLOPS = 8 * 768**2 + 4 * 768 * 128 + 2 * 768 * 4 + 4 * 768 * 3072
"""Of a token: projections, scores over 128 tokens, gate, one expert: 14.56 million."""


def _bert(reload: str) -> DeploymentProblem:
    """Bert MoE, 12 x 4, 10,240 tokens in 80 sequences, functions of 10,240 MB of 5.79 vCPU; 45 GFLOP/s each."""
    vcpus, flops = 10240 / 1769, 45e9
    layer = {
        "parameter_bytes": 4 * (4 * 768**2 + 768 * 4 + 4 * 2 * 768 * 3072),
        "bytes_per_token": 4 * (3072 + 4 * 768 + 12 * 128),
        "seconds_per_token": (BERT_LAYER_FLOPS / flops / vcpus,),
        "seconds_per_call": (0.0,),
    }
    base = staged_problem(0)
    platform = base.platform.model_copy(
        update={"warm_start_s": 0.01, "storage_delay_s": 0.03, "payload_limit_bytes": 6291456.0}
    )
    blocks = Blocks.model_validate(
        {
            "memory_mb": (10240,),
            "sequences": 80,
            "reload": reload,
            "runtime_bytes": 66060288,
            "result_bytes_per_token": 4,
            "head_bytes": 30522 * 768 * 4,
            "storage_bandwidth_bytes_per_s": (100e6,),
            "layers": [layer] * 12,
        }
    )
    layers = tuple(base.layers[k % 3].model_copy(update={"token_in_bytes": 3072.0}) for k in range(12))
    return base.model_copy(update={"platform": platform, "layers": layers, "batch_tokens": 10240.0}).with_blocks(
        blocks
    )


@pytest.mark.parametrize(
    ("lanes", "reload", "usd", "latency_s"),
    [(1, "when-cold", 0.00115, 6.9), (8, "when-cold", 0.00116, 0.87), (1, "every-invocation", 0.0030, 18.0)],
)
def test_bert_in_one_function_as_by_hand(lanes: int, reload: str, usd: float, latency_s: float) -> None:
    """10,240 tokens x 12 layers x 14.56 MFLOP are 1.79 TFLOP: 6.9 s on 5.79 vCPU of 45 GFLOP/s, 68.7 GB-s, 0.00115
    USD. Eight lanes cost the same and take an eighth. 0.91 GB of experts, 0.11 of attention and 0.09 of embedding
    at 100 MB/s take 11.1 s more, which cost 0.0019."""
    assert round(BERT_LAYER_FLOPS * 12 * 10240 / 1e12, 2) == 1.79
    stage = BlocksStage(first_layer=0, last_layer=11, memory_mb=10240, lanes=lanes, handover="payload")
    found = evaluate_staged(_bert(reload), StagedPlan(solver="hand", stages=(stage,)))
    assert found.total_cost_usd == pytest.approx(usd, rel=0.02)
    assert found.latency_s == pytest.approx(latency_s, rel=0.02)
    assert found.feasible
    assert (found.functions, found.peak_concurrency) == (1, lanes)


@given(st.integers(0, 10**6), st.integers(1, 4))
@settings(max_examples=40)
def test_expert_functions_alone_cost_and_take_what_they_did(seed: int, layers: int) -> None:
    """A plan/2 without blocks is the plan/1 of the same layers."""
    problem = staged_problem(seed, layers).with_blocks(None)
    if seed % 2:
        problem = random_problem(seed)
    plan = random_staged_plan(seed, staged_problem(seed, len(problem.layers)), experts=1.0)
    plan = random_staged_plan(seed, problem, experts=1.0) if not seed % 2 else _of_listed_sizes(problem, plan)
    stages = [stage for stage in plan.stages if isinstance(stage, ExpertStage)]
    old, new = evaluate(problem, DeploymentPlan(solver="", layers=tuple(x.layer for x in stages))), None
    new = evaluate_staged(problem, plan)
    for name in ("total_cost_usd", "full_cost_usd", "billed_gb_s", "latency_s", "violations"):
        assert getattr(new, name) == getattr(old, name), name


def _of_listed_sizes(problem: DeploymentProblem, plan: StagedPlan) -> StagedPlan:
    """The plan with the problem's sizes and experts."""
    stages = []
    for layer, stage in zip(problem.layers, plan.stages, strict=True):
        assert isinstance(stage, ExpertStage)
        some = stage.layer.experts[0].model_copy(update={"memory_mb": problem.platform.memory_mb[-1]})
        stages.append(
            stage.model_copy(
                update={"layer": stage.layer.model_copy(update={"experts": (some,) * len(layer.experts)})}
            )
        )
    return plan.model_copy(update={"stages": tuple(stages)})


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_solver_that_adds_up_stages_finds_what_the_plan_costs(seed: int) -> None:
    """All stages, sizes and lanes at once, picked and added up with GETs and front, are the evaluated plan."""
    problem = staged_problem(seed, 4)
    plan = random_staged_plan(seed, problem, experts=0.0)
    stages = [stage for stage in plan.stages if isinstance(stage, BlocksStage)]
    assert problem.blocks is not None
    lanes = np.arange(1, 8)
    pairs = np.array([(i, j) for i in range(4) for j in range(i + 1, 5)])
    usd, latency_s = front_itself(problem, stages[-1].handover == "payload")
    fits = True
    before: BlocksStage | None = None
    for stage in stages:
        arrives = before.handover if before else "payload"
        costs = stage_costs(problem, pairs[:, 0], pairs[:, 1], lanes, arrives, stage.handover)
        k = pairs.tolist().index([stage.first_layer, stage.last_layer + 1])
        at = k, problem.blocks.memory_mb.index(stage.memory_mb), stage.lanes - 1
        by_storage = before.handover == "storage" if before else _input_by_storage(problem)
        gets = handover_gets(7, before.lanes if before else stage.lanes, stage.lanes) * by_storage
        usd += float(costs.total_usd[at] + gets_usd(problem, gets))
        latency_s += float(costs.latency_s[at])
        fits &= bool(costs.fits[at])
        before = stage
    found = evaluate_staged(problem, plan)
    assert found.total_cost_usd == pytest.approx(usd, rel=1e-12)
    assert found.latency_s == pytest.approx(latency_s, rel=1e-12)
    assert found.feasible == fits


def _input_by_storage(problem: DeploymentProblem) -> bool:
    assert problem.blocks is not None
    size = problem.served_tokens * problem.blocks.input_bytes_per_token * problem.platform.payload_encoding_factor
    return size > problem.platform.payload_limit_bytes


@given(st.integers(0, 10**6))
@settings(max_examples=40)
def test_seams_only_add(seed: int) -> None:
    """A mixed plan's runs and stages come to what each does alone, and moving hidden states on top."""
    problem = staged_problem(seed, 4, front="client")
    plan = random_staged_plan(seed, problem)
    found = evaluate_staged(problem, plan)
    assert found.total_cost_usd == pytest.approx(found.run_usd.sum(), rel=1e-12)
    assert found.latency_s == pytest.approx(found.run_latency_s.sum(), rel=1e-12)
    dearer = evaluate_staged(problem.with_blocks(problem.blocks.model_copy(update={"front": "function"})), plan)
    if any(isinstance(stage, BlocksStage) for stage in plan.stages):
        waits = front_usd_per_s(problem.with_blocks(problem.blocks.model_copy(update={"front": "function"})))
        assert dearer.total_cost_usd >= found.total_cost_usd + waits * found.latency_s
    else:
        assert dearer.total_cost_usd == found.total_cost_usd


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_lanes_read_what_they_hold(sequences: int, before: int, lanes: int) -> None:
    before, lanes = min(before, sequences), min(lanes, sequences)
    holds = np.repeat(np.arange(before), lane_sequences(sequences, before))
    mine = np.repeat(np.arange(lanes), lane_sequences(sequences, lanes))
    pairs = set(zip(mine.tolist(), holds.tolist(), strict=True))
    assert handover_gets(sequences, before, lanes) == len(pairs)
    found = [sum(row) for row in map(np.ndarray.tolist, sources_of_lanes(sequences, before, lanes))]
    assert found == lane_sequences(sequences, lanes).tolist()


def test_a_lane_that_does_not_fit_is_a_violation() -> None:
    """More parameters than memory; hidden states that no payload holds; a limit that is missed."""
    problem = staged_problem(5, front="client")
    assert problem.blocks is not None
    large = problem.blocks.layers[0].model_copy(update={"parameter_bytes": 3009 * MB})
    blocks = problem.blocks.model_copy(update={"layers": (large, *problem.blocks.layers[1:])})
    wide = problem.layers[1].model_copy(update={"token_in_bytes": 1e6})
    layers = (problem.layers[0], wide, problem.layers[2])
    problem = problem.model_copy(update={"layers": layers, "latency_limit_s": 1e-3}).with_blocks(blocks)
    stages = (
        BlocksStage(first_layer=0, last_layer=0, memory_mb=3008, lanes=2, handover="payload"),
        BlocksStage(first_layer=1, last_layer=2, memory_mb=10240, lanes=1, handover="payload"),
    )
    found = with_staged_evaluation(problem, StagedPlan(solver="hand", stages=stages), lower_bound=1e-9)
    assert found.violations == ((0, None, "memory"), (0, None, "payload"), (None, None, "latency"))
    assert found.feasible is False
    assert found.gap is not None
    assert 0 < found.gap < 1
