"""One batch through a plan with stages: lanes of whole blocks side by side, stage after stage (docs/formats.md).

Whoever is in front of the lanes, the client or a function, goes through one program: it invokes a stage's lanes
with what they are sent, waits for their answers, and goes on to the next stage; a run of expert functions is a
forward pass of its own (`simulator.serving.forward_pass`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import simpy

from simulator.cloud.call import Call, CallFailed, Function, Phase, Program, Steps, Then, run_through, until
from simulator.cloud.invocation import Invoke, Target
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Allocate, Compute, FirstCall, Return
from simulator.cloud.transfers import Get, Put
from simulator.plan import DeploymentProblem
from simulator.records import Record
from simulator.serving.decode import Decode, Generate, Generated
from simulator.serving.forward_pass import ForwardPass
from simulator.serving.lane import Lane
from simulator.serving.layer import Serving
from simulator.serving.overflow import OVERFLOWS, replicas_run
from simulator.serving.rehearsal import PARAMETERS
from simulator.stage_rules import input_handover, lane_sequences, plan_of_run, run_problem, sources_of_lanes
from simulator.staged_plan import BlocksStage, ExpertStage, Runs, StagedPlan, blocks_of, runs_of
from simulator.stages import Handover

FRONT = "front"
CLIENT_MB = 2**30  # a client sends to all lanes at once, each as fast as a connection goes


@dataclass(frozen=True)
class Stages:
    """A plan with stages, for batches of one size: what its passes have in common.

    Args:
        problem, plan: what is deployed; the problem is of the batches' size.
        serving: how.
    """

    problem: DeploymentProblem
    plan: StagedPlan
    serving: Serving

    @functools.cached_property
    def runs(self) -> Runs:
        """Its stages of blocks, and runs of expert functions."""
        return runs_of(self.plan)

    @functools.cached_property
    def lanes(self) -> list[Lane | None]:
        """A lane of each run; None of expert functions."""
        found: list[Lane | None] = []
        for k, run in enumerate(self.runs):
            arrives = _leaves(self.runs[k - 1]) if k else input_handover(self.problem)
            found.append(Lane.of(self.problem, run, arrives) if isinstance(run, BlocksStage) else None)
        return found

    @property
    def sequences(self) -> int:
        """Of a batch."""
        return blocks_of(self.problem).sequences

    @functools.cached_property
    def front(self) -> tuple[int, float, float] | None:
        """Memory of the front function, and bytes that it is asked and answers; None: the client does its work."""
        blocks, served = self.problem.blocks, self.problem.served_tokens
        if blocks is None or blocks.front == "client" or not any(self.lanes):
            return None
        asked = served * blocks.input_bytes_per_token * (input_handover(self.problem) == "payload")
        answered = served * blocks.result_bytes_per_token * (_leaves(self.runs[-1]) == "payload")
        return blocks.memory_mb[0], asked, answered


@dataclass
class StagedPass:
    """One batch through the stages.

    Args:
        service: the Lambda service, which keeps the records.
        stages: what is served, and how.
        batch: number of the batch. step: 0 for its tokens, then the number of the decode step: one token of each
            sequence.
        tokens: whole tokens of each expert of each layer, (experts,) per layer; None: the problem's, divided.
        limits: whether memory and payload limits are enforced at all.
        decode: tokens that lanes generate where they are, of a plan of one stage.
    """

    service: LambdaService
    stages: Stages
    batch: int
    step: int = 0
    tokens: list[np.ndarray] | None = None
    limits: bool = False
    decode: Decode | None = None

    def __post_init__(self) -> None:
        self.ended = self.service.env.event()
        self.failed: Record | None = None
        self.generated: list[Generated] = []
        self._most_bytes = None if self.limits else math.inf
        self._lanes = [0 if lane is None else self._lanes_of(lane) for lane in self.stages.lanes]
        self._forward = {
            k: self._forward_pass(run, k)
            for k, run in enumerate(self.stages.runs)
            if not isinstance(run, BlocksStage)
        }

    @property
    def problem(self) -> DeploymentProblem:
        """What is served."""
        return self.stages.problem

    @property
    def beyond_plan(self) -> int:
        """Lanes and replicas beyond the planned ones, foreseen."""
        pairs = zip(self._lanes, self.stages.lanes, strict=True)
        lanes = sum(max(0, n - lane.stage.lanes) for n, lane in pairs if lane is not None)
        return lanes + sum(each.beyond_plan for each in self._forward.values())

    def durations_s(self, began: float) -> list[float]:
        """From `began` to its end; of lanes that generate, to the last one's first token, then to each next."""
        if self.failed is not None:
            return [math.nan] * (1 + (self.decode.steps if self.decode else 0))
        if self.decode is None:
            return [self.service.env.now - began]
        first = np.array([each.first_s for each in self.generated]).max()
        steps = np.array([each.ends_s for each in self.generated if len(each.ends_s)]).max(axis=0)
        return np.diff(np.concatenate([[began, first], np.maximum(steps, first)])).tolist()

    def run(self) -> simpy.Event:
        """Start the batch; the event succeeds when it has ended, or a call has `failed` for good."""
        service, front = self.service, self.stages.front
        row = Record(self.batch, 0, "non-moe", "", CLIENT_MB, self.step, tokens=self.problem.served_tokens)
        program = tuple(self._phase(k) for k in range(len(self._lanes)))
        if front is None:
            nowhere = Function("", CLIENT_MB, service.platform.start.package, math.inf)
            service.env.process(self._as_client(Call(service, service.platform, nowhere, row, program)))
            return self.ended
        row.function, row.memory_mb = FRONT, front[0]
        service.invoke(
            row,
            (*program, Return(front[2], self._most_bytes)),
            self._front_ended,
            repeatable=False,
            payload_bytes=front[1],
            limit_bytes=self._most_bytes,
        )
        return self.ended

    def _as_client(self, call: Call) -> Generator[simpy.Event, Any, None]:
        """The client goes through the program as a function would, and nobody bills it."""
        try:
            at = yield from run_through(call.program, call, call.env.now)
            yield from until(call.env, at)
        except CallFailed:
            assert self.failed is not None
        self.ended.succeed()

    def _front_ended(self, last: Record) -> None:
        self.check(last)
        self.ended.succeed()

    def check(self, last: Record) -> None:
        """The first call that fails for good, and not because another did, is what failed the batch."""
        if last.status not in ("ok", "upstream-failed") and self.failed is None:
            self.failed = last

    # -- runs ---------------------------------------------------------------------------------------------

    def _phase(self, k: int) -> Phase:
        """What the front does for run number k: it waits for all of it."""
        lane = self.stages.lanes[k]
        if lane is None:
            return _Serve(self._forward[k], self.check)
        lanes = self._lanes[k]
        sources = sources_of_lanes(self.stages.sequences, (self._lanes[k - 1] if k else 0) or lanes, lanes)
        more = [0] * lanes if self.decode is None else lane_sequences(self.decode.sequences, lanes).tolist()
        targets = [self._target(lane, held.tolist(), i, more[i]) for i, held in enumerate(sources)]
        return Invoke(tuple(targets), wait=True)

    def _forward_pass(self, run: tuple[ExpertStage, ...], k: int) -> ForwardPass:
        """Layers of expert functions: they download what lanes before uploaded, and upload for those behind."""
        serving, problem, plan = self.stages.serving, run_problem(self.problem, run), plan_of_run(run)
        first, end = run[0].first_layer, run[-1].last_layer + 1
        tokens = [layer.tokens for layer in problem.layers]
        if self.tokens is not None:
            tokens = [_of_groups(mine, stage) for mine, stage in zip(self.tokens[first:end], run, strict=True)]
        replicas = replicas_run(problem, plan, tokens, serving.overflow if self.limits else "fail")
        arrival: Program = (Get(self._hidden_bytes(k - 1, first), "input_download"),) if k else ()
        leaving: Program = (Put(self._hidden_bytes(k + 1, end)),) if k + 1 < len(self.stages.runs) else ()
        return ForwardPass(
            self.service,
            problem,
            plan,
            tokens,
            replicas,
            serving,
            self.batch,
            self.step,
            whole_tokens=self.tokens is not None,
            limits=self.limits,
            first_layer=first,
            arrival=arrival,
            leaving=leaving,
        )

    def _hidden_bytes(self, k: int, cut: int) -> list[float]:
        """Hidden states before layer `cut` of each lane of run number k, bytes."""
        sequences, token = self.stages.sequences, self.problem.served_tokens / self.stages.sequences
        hidden_bytes = token * self.problem.layers[cut].token_in_bytes
        return (lane_sequences(sequences, self._lanes[k]) * hidden_bytes).tolist()

    # -- lanes --------------------------------------------------------------------------------------------

    def _lanes_of(self, lane: Lane) -> int:
        """Lanes that a stage starts with: the planned ones, or where overflow is foreseen as many as fit."""
        sequences = self.stages.sequences
        lanes = min(lane.stage.lanes, sequences)
        foreseen = self.limits and self.stages.serving.overflow == "foreseen"
        return max(lanes, lane.lanes_for(sequences)) if foreseen else lanes

    def _target(self, lane: Lane, held: list[int], number: int, generating: int) -> Target:
        """Lane number `number` of a stage.

        Args:
            held: sequences that it reads of each source. generating: of how many it generates on.
        """
        sequences, stage = sum(held), lane.stage
        tokens = sequences * lane.sequence_tokens

        def instead(last: Record) -> tuple[Target, ...]:
            if self.stages.serving.overflow != "retry" or last.status not in OVERFLOWS:
                return ()
            parts = lane.lanes_for(sequences)
            shares = (lane_sequences(n, parts).tolist() for n in (sequences, generating))
            return tuple(self._target(lane, [n], number, more) for n, more in zip(*shares, strict=True))

        return Target(
            Record(0, stage.first_layer, "blocks", lane.function, stage.memory_mb, replica=number, tokens=tokens),
            self._program(lane, held, tokens, generating),
            tokens * lane.in_bytes if lane.arrives == "payload" else 0.0,
            limit_bytes=self._most_bytes,
            then=self.check,
            instead=instead,
        )

    def _program(self, lane: Lane, held: list[int], tokens: float, generating: int) -> Program:
        """Load, input, compute, output; input by payload came with the call."""
        program, decode = [*self._loading(lane)], self.decode
        if lane.arrives == "storage":
            program.append(Get([n * lane.sequence_tokens * lane.in_bytes for n in held], "input_download"))
        if self.limits:
            kept = 0.0 if decode is None else generating * (lane.sequence_tokens + decode.steps)
            program.append(Allocate(lane.needed_bytes(tokens, kept)))
        program.append(Compute(lane.step_s(tokens) if self.step else lane.compute_s(tokens)))
        if decode is not None:
            self.generated.append(Generated())
            steps = decode.steps if generating else 0
            program.append(Generate(steps, lane.step_s(generating), self.generated[-1]))
            tokens += generating * steps
        out_bytes = tokens * lane.out_bytes
        by_storage = lane.stage.handover == "storage"
        program.append(Put([out_bytes]) if by_storage else Return(out_bytes, self._most_bytes))
        return tuple(program)

    def _loading(self, lane: Lane) -> Program:
        """Download of parameters over as many connections as the function's rate takes, as often as it is done;
        nothing where they are in its package, an image, and read as its instance starts."""
        platform = self.service.platform
        if platform.start.package_named(self.stages.serving.blocks_package).is_image:
            return ()
        rates, parts = platform.network.rates(lane.stage.memory_mb), None
        if not platform.is_ideal and math.isfinite(rates.connection):
            parts = math.ceil(rates.function / rates.connection)
        load = Get([lane.parameter_bytes], "parameter_download", parts=parts)
        kept = blocks_of(self.problem).reload == "when-cold"
        return (FirstCall((load,), PARAMETERS),) if kept else (load,)


@dataclass(slots=True)
class _Serve(Phase):
    """Serve a run of expert functions, and wait for its end."""

    alone: ClassVar[bool] = False
    run_of: ForwardPass
    check: Then

    def meet(self, call: Call, at: float) -> Steps:
        """Wait for it. Raises CallFailed (`upstream-failed`) where a call of it failed for good."""
        yield from until(call.env, at)
        yield self.run_of.run()
        if self.run_of.failed is not None:
            self.check(self.run_of.failed)
            raise CallFailed("upstream-failed", call.env.now)
        call.record.add_phase("wait", at, call.env.now)
        return call.env.now


def _of_groups(tokens: np.ndarray, stage: ExpertStage) -> np.ndarray:
    """Tokens of each of the stage's functions, of those of each expert."""
    if stage.groups is None:
        return tokens
    return np.array([tokens[list(group)].sum() for group in stage.groups])


def _leaves(run: BlocksStage | tuple[ExpertStage, ...]) -> Handover:
    """How what a run makes leaves it."""
    return run.handover if isinstance(run, BlocksStage) else "storage"
