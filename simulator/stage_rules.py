"""What stages hold and need: sizes of stages of blocks, lanes, hand-overs, runs of expert functions as problems.

What a plan must keep (memory of a lane, payloads) stands here, because the simulator needs it at run time; the
costs stand in `optimizer.stage_cost`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.plan import MB, DeploymentPlan, DeploymentProblem, Violation, constraint_violations
from simulator.staged_plan import (
    AnyPlan,
    BlocksStage,
    ExpertStage,
    StagedPlan,
    blocks_of,
    check_staged_plan_fits,
    layer_of,
    runs_of,
)
from simulator.stages import Handover

ACCOUNT_CONCURRENCY = 1000
"""Concurrent executions of an account that has not asked for more (AWS Lambda quotas)."""


@dataclass(frozen=True)
class StageSizes:
    """Sizes and times of stages of blocks; arrays of shape (stages,), with memory (stages, sizes).

    Attributes:
        parameter_bytes: of its layers, and of embedding and head.
        token_bytes: what a lane holds of each of its tokens: hidden state, scores, activations of one layer.
        seconds_per_call, seconds_per_token: of all its layers, and of the head.
        in_bytes, out_bytes: of a token that comes and goes: hidden states, at the model's ends IDs and results.
        is_first, is_last: whether it has the model's first, last layer.
    """

    parameter_bytes: np.ndarray
    token_bytes: np.ndarray
    seconds_per_call: np.ndarray
    seconds_per_token: np.ndarray
    in_bytes: np.ndarray
    out_bytes: np.ndarray
    is_first: np.ndarray
    is_last: np.ndarray


def stage_sizes(problem: DeploymentProblem, first: np.ndarray, end: np.ndarray) -> StageSizes:
    """Of the stages of layers first..end-1, both of shape (stages,) int. Raises InputError: no `blocks`."""
    blocks, layers = blocks_of(problem), len(problem.layers)
    sizes = len(blocks.memory_mb)
    is_first, is_last = first == 0, end == layers
    tail = np.zeros(sizes) if blocks.tail_seconds_per_token is None else np.array(blocks.tail_seconds_per_token)
    with_head = is_first if blocks.tail_seconds_per_token is None else is_first | is_last
    hidden = np.array([layer.token_in_bytes for layer in problem.layers])
    held = np.array([layer.bytes_per_token for layer in blocks.layers]) + hidden
    largest = np.array([np.maximum.accumulate(np.where(np.arange(layers) < i, 0.0, held)) for i in range(layers)])
    cut = np.append(hidden, 0.0)  # bytes of a token's hidden state before each layer

    def summed(values: list[Any]) -> np.ndarray:
        """Sums over each stage's layers."""
        table = np.asarray(values, float)
        through = np.concatenate([np.zeros((1, *table.shape[1:])), np.cumsum(table, axis=0)])
        return through[end] - through[first]

    return StageSizes(
        parameter_bytes=summed([x.parameter_bytes for x in blocks.layers]) + with_head * blocks.head_bytes,
        token_bytes=largest[first, end - 1],
        seconds_per_call=summed([x.seconds_per_call or (0.0,) * sizes for x in blocks.layers]),
        seconds_per_token=summed([x.seconds_per_token for x in blocks.layers]) + np.outer(is_last, tail),
        in_bytes=np.where(is_first, blocks.input_bytes_per_token, cut[first]),
        out_bytes=np.where(is_last, blocks.result_bytes_per_token, cut[end]),
        is_first=is_first,
        is_last=is_last,
    )


def block_bandwidths(problem: DeploymentProblem) -> np.ndarray:
    """B_s of a stage's function of each memory size, bytes/s, shape (sizes,): the problem's own, else the
    platform's of the same size, or of the next smaller one that it lists."""
    blocks, platform = blocks_of(problem), problem.platform
    if blocks.storage_bandwidth_bytes_per_s is not None:
        return np.array(blocks.storage_bandwidth_bytes_per_s)
    smaller = np.searchsorted(platform.memory_mb, blocks.memory_mb, side="right") - 1
    return platform.storage_bandwidths[np.maximum(smaller, 0)]


def lane_sequences(sequences: int, lanes: int) -> np.ndarray:
    """Whole sequences of each lane, shape (lanes,): the first ones have one more where they are not even."""
    return np.full(lanes, sequences // lanes) + (np.arange(lanes) < sequences % lanes)


@functools.cache
def sources_of_lanes(sequences: int, before: int, lanes: int) -> list[np.ndarray]:
    """Sequences that each of `lanes` reads of each of the `before` lanes that hold some of its own, (sources,).

    Lanes hold sequences in order, so they are cut at the ends of both.
    """
    ends, mine = (np.cumsum(lane_sequences(sequences, n)) for n in (before, lanes))
    cuts = np.union1d(ends, mine)
    return np.split(np.diff(cuts, prepend=0), np.searchsorted(cuts, mine[:-1]) + 1)


def handover_gets(sequences: int, before: int, lanes: int) -> int:
    """GET requests with which `lanes` download what as many as `before` uploaded, one object each.

    A run of expert functions uploads one object for each lane, and downloads one of each.
    """
    return sum(map(len, sources_of_lanes(sequences, before, lanes)))


def input_handover(problem: DeploymentProblem) -> Handover:
    """How token IDs get to the first stage: in payloads where the whole batch's fit one, else through S3."""
    size = problem.served_tokens * blocks_of(problem).input_bytes_per_token
    return "payload" if fits_payload(problem, size) else "storage"


def fits_payload(problem: DeploymentProblem, size_bytes: np.ndarray | float) -> Any:
    """Whether so many raw bytes fit a payload, encoded; of any shape."""
    return size_bytes * problem.platform.payload_encoding_factor <= problem.platform.payload_limit_bytes


def needed_lane_bytes(problem: DeploymentProblem, sizes: StageSizes, tokens: np.ndarray) -> np.ndarray:
    """Memory of a lane: parameters, runtime, and what it holds of its tokens, bytes; shape of `tokens`.

    Args:
        tokens: of a lane, shape (stages, ...); trailing axes are options.
    """
    fixed, each = sizes.parameter_bytes + blocks_of(problem).runtime_bytes, sizes.token_bytes
    trailing = (1,) * (np.ndim(tokens) - 1)
    return fixed.reshape(-1, *trailing) + tokens * each.reshape(-1, *trailing)


def staged_violations(problem: DeploymentProblem, plan: StagedPlan) -> list[Violation]:
    """Constraints that the plan breaks (latency is another's to judge): a lane's memory, hand-overs that no
    payload holds, and those of layers of expert functions. Raises InputError: the plan is not for the problem."""
    check_staged_plan_fits(problem, plan)
    found: list[Violation] = []
    for k, stage in enumerate(plan.stages):
        e = stage.first_layer
        if isinstance(stage, ExpertStage):
            one = problem.model_copy(update={"layers": (layer_of(problem, stage),)})
            alone = DeploymentPlan(solver=plan.solver, layers=(stage.layer,))
            found += [(e, i, kind) for _, i, kind in constraint_violations(one, alone)]
            continue
        sizes = stage_sizes(problem, np.array([e]), np.array([stage.last_layer + 1]))
        lanes = [stage.lanes] + [x.lanes for x in plan.stages[k + 1 : k + 2] if isinstance(x, BlocksStage)]
        largest = largest_lane_tokens(problem, np.array(lanes))
        if needed_lane_bytes(problem, sizes, largest[:1])[0] > stage.memory_mb * MB:
            found.append((e, None, "memory"))
        to_experts = k + 1 < len(plan.stages) and len(lanes) == 1
        by_function = k + 1 == len(plan.stages) and blocks_of(problem).front == "function"
        tokens = problem.served_tokens if by_function else largest.max()
        if stage.handover == "payload" and (to_experts or not fits_payload(problem, sizes.out_bytes[0] * tokens)):
            found.append((e, None, "payload"))
    return found


def violations_of(problem: DeploymentProblem, plan: AnyPlan) -> list[Violation]:
    """Constraints that a plan, `/1` or `/2`, breaks, latency aside. Raises InputError: it is another problem's."""
    if isinstance(plan, StagedPlan):
        return staged_violations(problem, plan)
    return constraint_violations(problem, plan)


def largest_lane_tokens(problem: DeploymentProblem, lanes: np.ndarray) -> np.ndarray:
    """Tokens of the lane with the most sequences, of each number of lanes; shape of `lanes`."""
    sequences = blocks_of(problem).sequences
    return -(-sequences // lanes) * (problem.served_tokens / sequences)


# Runs of expert functions, and what a plan deploys


def run_problem(problem: DeploymentProblem, run: tuple[ExpertStage, ...]) -> DeploymentProblem:
    """The problem that a run of layers of expert functions is by itself.

    Between stages of blocks its first gate loads what it does in the whole model, and a function of the gates'
    size that loads nothing collects the last layer's results, in the tail's place.
    """
    first, end = run[0].first_layer, run[-1].last_layer + 1
    mine, last = [layer_of(problem, stage) for stage in run], end == len(problem.layers)
    if not last:
        mine[-1] = mine[-1].model_copy(update={"next_load_s": problem.platform.warm_start_s})
    changes = {
        "layers": tuple(mine),
        "head_s": problem.layers[first - 1].next_load_s if first else problem.head_s,
        "tail_s": problem.tail_s if last else 0.0,
        "batch_tokens": problem.served_tokens,
        "latency_limit_s": None,
        "non_moe": (),
    }
    return problem.with_blocks(None).model_copy(update=changes)


def plan_of_run(run: tuple[ExpertStage, ...]) -> DeploymentPlan:
    """The plan of a run's own problem."""
    return DeploymentPlan(solver="", objective="total", layers=tuple(stage.layer for stage in run))


def functions_of(problem: DeploymentProblem, plan: StagedPlan) -> int:
    """Functions that a plan deploys: one for each stage of blocks, the front; of each run its experts and gates,
    and the tail or who collects."""
    has_blocks = any(isinstance(run, BlocksStage) for run in runs_of(plan))
    front = has_blocks and blocks_of(problem).front == "function"
    return int(front) + sum(
        1 if isinstance(run, BlocksStage) else sum(1 + len(stage.layer.experts) for stage in run) + 1
        for run in runs_of(plan)
    )


def peak_concurrency_of(problem: DeploymentProblem, plan: StagedPlan) -> int:
    """Executions at once of one batch: a stage's lanes, or a layer's replicas with its gate and the next function;
    and the front."""
    most = has_blocks = 0
    for stage in plan.stages:
        if isinstance(stage, BlocksStage):
            most, has_blocks = max(most, stage.lanes), 1
        else:
            used = layer_of(problem, stage).tokens > 0
            most = max(most, int(stage.layer.replicas[used].sum()) + 2)
    front = has_blocks and blocks_of(problem).front == "function"
    return most + int(front)
