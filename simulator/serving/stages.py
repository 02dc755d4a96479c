"""One batch through a plan with stages: lanes of whole blocks side by side, stage after stage (docs/formats.md).

Whoever is in front of the lanes, the client or a function, goes through one program: it invokes a stage's lanes
with what they are sent, waits for their answers, and goes on to the next stage; a run of expert functions is a
forward pass of its own (`simulator.serving.forward_pass`).
"""

from __future__ import annotations

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
from simulator.plan import DeploymentProblem, Reload
from simulator.records import Record
from simulator.serving.decode import Decode, Generate, Generated
from simulator.serving.forward_pass import ForwardPass
from simulator.serving.layer import Serving
from simulator.serving.overflow import OVERFLOWS, replicas_run
from simulator.serving.rehearsal import PARAMETERS
from simulator.stage_rules import (
    StageSizes,
    cache_bytes,
    decode_step_s,
    input_handover,
    lane_sequences,
    lanes_that_fit,
    needed_lane_bytes,
    plan_of_run,
    run_problem,
    sources_of_lanes,
    stage_sizes,
)
from simulator.staged_plan import BlocksStage, ExpertStage, Runs, StagedPlan, blocks_of, runs_of
from simulator.stages import Handover

FRONT = "front"
CLIENT_MB = 2**30  # a client sends to all lanes at once, each as fast as a connection goes


@dataclass
class StagedPass:
    """One batch through the stages.

    Args:
        service: the Lambda service, which keeps the records.
        problem, plan: what is deployed; the problem is of the batch's size.
        serving: how.
        batch: number of the batch. step: 0 for its tokens, then the number of the decode step: one token of each
            sequence.
        tokens: whole tokens of each expert of each layer, (experts,) per layer; None: the problem's, divided.
        limits: whether memory and payload limits are enforced at all.
        decode: tokens that lanes generate where they are, of a plan of one stage.
    """

    service: LambdaService
    problem: DeploymentProblem
    plan: StagedPlan
    serving: Serving
    batch: int
    step: int = 0
    tokens: list[np.ndarray] | None = None
    limits: bool = False
    decode: Decode | None = None

    def __post_init__(self) -> None:
        self.ended = self.service.env.event()
        self.failed: Record | None = None
        self.generated: list[Generated] = []
        self._runs: Runs = runs_of(self.plan)
        self._lanes = [self._lanes_of(k) for k in range(len(self._runs))]
        self._forward = {
            k: self._forward_pass(run, k) for k, run in enumerate(self._runs) if not isinstance(run, BlocksStage)
        }

    @property
    def beyond_plan(self) -> int:
        """Lanes and replicas beyond the planned ones, foreseen."""
        stages = [(n, run) for n, run in zip(self._lanes, self._runs, strict=True) if isinstance(run, BlocksStage)]
        lanes = sum(max(0, n - stage.lanes) for n, stage in stages)
        return lanes + sum(each.beyond_plan for each in self._forward.values())

    def durations_s(self, began: float) -> list[float]:
        """From `began` to its end; of lanes that generate, to the last one's first token, then to each next."""
        if self.failed is not None:
            return [math.nan] * (1 + (self.decode.steps if self.decode else 0))
        if self.decode is None:
            return [self.service.env.now - began]
        ends = np.array([each.first_s for each in self.generated]).max()
        steps = np.array([each.ends_s for each in self.generated if len(each.ends_s)]).max(axis=0)
        return np.diff(np.concatenate([[began, ends], np.maximum(steps, ends)])).tolist()

    def run(self) -> simpy.Event:
        """Start the batch; the event succeeds when it has ended, or a call has `failed` for good."""
        blocks, served, service = self.problem.blocks, self.problem.served_tokens, self.service
        row = Record(self.batch, 0, "non-moe", "", CLIENT_MB, self.step, tokens=served)
        program = tuple(self._phase(k) for k in range(len(self._runs)))
        if blocks is None or len(self._forward) == len(self._runs) or blocks.front == "client":
            nowhere = Function("", CLIENT_MB, service.platform.start.package, math.inf)
            client = Call(service, service.platform, nowhere, row, program)
            service.env.process(self._as_client(client))
            return self.ended
        answered = served * blocks.result_bytes_per_token * (_leaves(self._runs[-1]) == "payload")
        asked = served * blocks.input_bytes_per_token * (input_handover(self.problem) == "payload")
        front = row.again(1)
        front.function, front.memory_mb = FRONT, blocks.memory_mb[0]
        program = (*program, Return(answered, None if self.limits else math.inf))
        limit = None if self.limits else math.inf
        self.service.invoke(
            front, program, self._front_ended, repeatable=False, payload_bytes=asked, limit_bytes=limit
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
        run = self._runs[k]
        if isinstance(run, BlocksStage):
            targets = tuple(self._lane_targets(run, k))
            return Invoke(targets, wait=True)
        return _Serve(self._forward[k], self.check)

    def _forward_pass(self, run: tuple[ExpertStage, ...], k: int) -> ForwardPass:
        """Layers of expert functions: they download what lanes before uploaded, and upload for those behind."""
        problem, plan = run_problem(self.problem, run), plan_of_run(run)
        first, end = run[0].first_layer, run[-1].last_layer + 1
        tokens = [layer.tokens for layer in problem.layers] if self.tokens is None else self.tokens[first:end]
        overflow = self.serving.overflow if self.limits else "fail"
        replicas = replicas_run(problem, plan, tokens, overflow)
        arrival: Program = (Get(self._hidden_bytes(k - 1, first), "input_download"),) if k else ()
        leaving: Program = (Put(self._hidden_bytes(k + 1, end)),) if k + 1 < len(self._runs) else ()
        return ForwardPass(
            self.service,
            problem,
            plan,
            tokens,
            replicas,
            self.serving,
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
        sequences = lane_sequences(blocks_of(self.problem).sequences, self._lanes[k])
        return (sequences * self.sequence_tokens * self.problem.layers[cut].token_in_bytes).tolist()

    # -- lanes --------------------------------------------------------------------------------------------

    @property
    def sequence_tokens(self) -> float:
        """Of each sequence of the batch."""
        return self.problem.served_tokens / blocks_of(self.problem).sequences

    def _lanes_of(self, k: int) -> int:
        """Lanes that run number k starts with: the planned ones, or where overflow is foreseen as many as fit; 0
        of expert functions."""
        stage = self._runs[k]
        if not isinstance(stage, BlocksStage):
            return 0
        sequences = blocks_of(self.problem).sequences
        lanes = min(stage.lanes, sequences)
        if not self.limits or self.serving.overflow != "foreseen":
            return lanes
        return max(lanes, lanes_that_fit(self.problem, stage, self._arrives(k), sequences))

    def _arrives(self, k: int) -> Handover:
        """How what run number k computes comes to it."""
        return _leaves(self._runs[k - 1]) if k else input_handover(self.problem)

    def _lane_targets(self, stage: BlocksStage, k: int) -> list[Target]:
        """Every lane of run number k, with what it is sent."""
        sequences, lanes = blocks_of(self.problem).sequences, self._lanes[k]
        source_lanes = (self._lanes[k - 1] if k else 0) or lanes
        sources = sources_of_lanes(sequences, source_lanes, lanes)
        generate = np.zeros(lanes, int) if self.decode is None else lane_sequences(self.decode.sequences, lanes)
        work = _Stage(self, stage, self._arrives(k))
        return [work.target(held, number, int(generate[number])) for number, held in enumerate(sources)]


@dataclass
class _Stage:
    """A stage of blocks of one pass: the programs of its lanes."""

    of: StagedPass
    stage: BlocksStage
    arrives: Handover

    def __post_init__(self) -> None:
        problem, first, end = self.of.problem, self.stage.first_layer, self.stage.last_layer + 1
        self.sizes: StageSizes = stage_sizes(problem, np.array([first]), np.array([end]))
        self.j = blocks_of(problem).memory_mb.index(self.stage.memory_mb)

    def target(self, held: np.ndarray, number: int, generating: int) -> Target:
        """A lane of the sequences that it reads of each source, (sources,), and of how many it generates on."""
        limits, token, sequences = self.of.limits, self.of.sequence_tokens, int(held.sum())
        row = Record(
            batch=0,
            layer=self.stage.first_layer,
            role="blocks",
            function=blocks_function(self.stage),
            memory_mb=self.stage.memory_mb,
            replica=number,
            tokens=sequences * token,
        )

        def instead(last: Record) -> tuple[Target, ...]:
            if self.of.serving.overflow != "retry" or last.status not in OVERFLOWS:
                return ()
            parts = lanes_that_fit(self.of.problem, self.stage, self.arrives, sequences)
            shares = (lane_sequences(n, parts).tolist() for n in (sequences, generating))
            return tuple(self.target(np.array([n]), number, more) for n, more in zip(*shares, strict=True))

        return Target(
            row,
            self._program(held * token, sequences * token, generating),
            sequences * token * float(self.sizes.in_bytes[0]) if self.arrives == "payload" else 0.0,
            limit_bytes=None if limits else math.inf,
            then=self.of.check,
            instead=instead,
        )

    def _program(self, source_tokens: np.ndarray, tokens: float, generating: int) -> Program:
        """Load, input, compute, output; input by payload came with the call."""
        of, stage, sizes = self.of, self.stage, self.sizes
        program: list[Phase] = list(self._loading())
        if self.arrives == "storage":
            program.append(Get((source_tokens * sizes.in_bytes[0]).tolist(), "input_download"))
        if of.limits:
            needed = float(needed_lane_bytes(of.problem, sizes, np.array([tokens]))[0])
            if of.decode is not None:
                needed += cache_bytes(of.problem, stage, generating * (of.sequence_tokens + of.decode.steps))
            program.append(Allocate(needed))
        if of.step:
            program.append(Compute(float(decode_step_s(of.problem, stage, tokens))))
        else:
            program.append(
                Compute(float(sizes.seconds_per_call[0, self.j] + tokens * sizes.seconds_per_token[0, self.j]))
            )
        if of.decode is not None:
            of.generated.append(Generated())
            steps = of.decode.steps if generating else 0
            program.append(Generate(steps, float(decode_step_s(of.problem, stage, generating)), of.generated[-1]))
            tokens += generating * steps
        out_bytes = tokens * float(sizes.out_bytes[0])
        if stage.handover == "storage":
            program.append(Put([out_bytes]))
        else:
            program.append(Return(out_bytes, None if of.limits else math.inf))
        return tuple(program)

    def _loading(self) -> Program:
        """Download of parameters over as many connections as the function's rate takes, as often as it is done;
        nothing where they are in its package, an image, and read as its instance starts."""
        serving, platform = self.of.serving, self.of.service.platform
        if platform.start.package_named(serving.blocks_package).is_image:
            return ()
        rates, parts = platform.network.rates(self.stage.memory_mb), None
        if not platform.is_ideal and math.isfinite(rates.connection):
            parts = math.ceil(rates.function / rates.connection)
        load = Get([float(self.sizes.parameter_bytes[0])], "parameter_download", parts=parts)
        return (
            (FirstCall((load,), PARAMETERS),)
            if blocks_reload(self.of.problem, serving) == "when-cold"
            else (load,)
        )


def blocks_reload(problem: DeploymentProblem, serving: Serving) -> Reload:
    """How often stages of blocks load; a `reload` that is asked for goes first."""
    return serving.reload if "reload" in serving.model_fields_set else blocks_of(problem).reload


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


def _leaves(run: BlocksStage | tuple[ExpertStage, ...]) -> Handover:
    """How what a run makes leaves it."""
    return run.handover if isinstance(run, BlocksStage) else "storage"


def blocks_function(stage: BlocksStage) -> str:
    """Name of a stage's function."""
    return f"blocks-{stage.first_layer}-{stage.last_layer}"
