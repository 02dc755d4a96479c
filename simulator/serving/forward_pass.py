"""One forward pass of an MoE model under a deployment plan: scatter to experts, gather from them.

The functions of a model with L MoE layers are L + 1 non-MoE functions (function e computes what comes before MoE
layer e and its gate; function L is the tail) and every expert's. A pass is one chain of programs:

- `storage`: function e uploads every replica's input, then the experts download, compute, upload.
- `pipelined`: the same by minibatches; uploads of all replicas go round-robin, and each replica overlaps.
- `direct`: function e invokes every replica with its input as payload, waits for all, and hands the results on.

Source: Liu, Wang, Wu, INFOCOM 2025, section III-C, Fig. 6; what `direct` means on a real Lambda: docs/formats.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeAlias

import numpy as np
import simpy

from simulator.cloud.call import Phase, Program
from simulator.cloud.invocation import Invoke, Latch, Signal, Target, WaitFor
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Allocate, Compute, FirstCall, Return, Sleep
from simulator.cloud.transfers import Get, GetAsReady, Pipeline, Put, PutInOrder, Ready
from simulator.plan import DeploymentPlan, DeploymentProblem, ProblemLayer
from simulator.records import Record
from simulator.serving.overflow import OVERFLOWS, Overflow, replicas_that_fit
from simulator.serving.rehearsal import PARAMETERS, expected_end_s
from simulator.serving.replicas import Replica, minibatches, replicas_of, split

Start: TypeAlias = Literal["eager", "just-in-time"]
Gather: TypeAlias = Literal["after-all", "as-ready"]
Reload: TypeAlias = Literal["every-invocation", "when-cold"]


@dataclass(frozen=True)
class Serving:
    """How a plan is served.

    Attributes:
        start: when experts are started: with their layer, or just in time for their first input.
        next_layer_start: when the next non-MoE function is: with the layer, or to have loaded when results come.
        gather: whether it downloads results when all are there, or each as soon as it is.
        overflow: what becomes of a replica that needs more than its memory or payload.
        reload: whether functions download their parameters at each call, or keep them in a warm instance.
        whole_tokens: whether tokens are dealt out whole, or divided.
        limits: whether memory and payload limits are enforced at all.
    """

    start: Start = "eager"
    next_layer_start: Start = "eager"
    gather: Gather = "after-all"
    overflow: Overflow = "foreseen"
    reload: Reload = "every-invocation"
    whole_tokens: bool = True
    limits: bool = True


@dataclass
class ForwardPass:
    """One batch through the model.

    Args:
        service: the Lambda service, which keeps the records.
        problem, plan: what is deployed.
        tokens: tokens of each expert of each layer, (experts,) per layer.
        replicas: calls of each expert of each layer, (experts,) per layer.
        serving: how.
        batch: number of the batch.
        step: 0 for the pass over the batch's tokens, then the number of the decode step.
    """

    service: LambdaService
    problem: DeploymentProblem
    plan: DeploymentPlan
    tokens: list[np.ndarray]
    replicas: list[np.ndarray]
    serving: Serving
    batch: int
    step: int = 0

    def __post_init__(self) -> None:
        self.env = self.service.env
        self.platform = self.service.platform
        self.ended = self.env.event()
        self.failed: Record | None = None
        self._latches: list[Latch] = []
        self._calls = [
            replicas_of(self.problem, e, layer, self.tokens[e], self.replicas[e], self.serving.whole_tokens)
            for e, layer in enumerate(self.plan.layers)
        ]

    def run(self) -> simpy.Event:
        """Start the pass; the event succeeds when the tail has ended, or a call has `failed` for good."""
        head = self._non_moe(0, (), self.problem.head_s)
        assert head.program is not None
        row = head.row.again(1, self.batch, self.step)
        self.service.invoke(row, head.program, head.then, repeatable=False)
        return self.ended

    def _check(self, last: Record) -> None:
        """A call that failed for good ends the pass: whoever waits for it is told.

        One that failed because another did leaves it to that one, which may end later.
        """
        if last.status not in ("ok", "upstream-failed") and self.failed is None:
            self.failed = last
            for latch in self._latches:
                latch.give_up(last)
            if not self.ended.triggered:
                self.ended.succeed()

    def _tail_ended(self, last: Record) -> None:
        self._check(last)
        if last.status == "ok" and self.failed is None:
            self.ended.succeed()

    def _latch(self, left: int = 1) -> Latch:
        self._latches.append(Latch(self.env, left))
        return self._latches[-1]

    # -- non-MoE functions --------------------------------------------------------------------------------

    def _non_moe(
        self, e: int, arrival: Program, load_s: float, payload_bytes: float = 0.0, delay_s: float = 0.0
    ) -> Target:
        """Non-MoE function e, which loads for `load_s`, takes what arrives, and goes on to the layers behind."""
        row = Record(
            batch=self.batch,
            layer=e,
            role="non-moe",
            function=non_moe_function(e),
            memory_mb=non_moe_memory_mb(self.problem, e),
            tokens=self.problem.served_tokens,
        )
        program: list[Phase] = [*self._load(load_s), *arrival]
        for here in range(e, len(self.problem.layers)):
            program.append(Compute(self.problem.layers[here].non_moe_s))
            if self._calls[here]:
                program += self._moe_layer(here)
                return Target(row, tuple(program), payload_bytes, None, delay_s, self._check, repeatable=False)
            # no token reaches the layer: this function goes on with the next
        program.append(Compute(self.problem.tail_s))
        return Target(row, tuple(program), payload_bytes, None, delay_s, self._tail_ended, repeatable=False)

    def _load(self, load_s: float) -> Program:
        """Download of the function's parameters.

        The problem gives the load as a time on the closed form's platform. There it is taken as it stands
        (the start of the call is in it); elsewhere it says how many bytes there are to download.
        """
        constants = self.problem.platform
        if self.platform.is_ideal:
            loading = Sleep(max(0.0, load_s - constants.warm_start_s), "parameter_download")
            return (FirstCall((loading,), PARAMETERS) if self.serving.reload == "when-cold" else loading,)
        seconds = load_s - constants.warm_start_s - constants.storage_delay_s
        return (self._parameters(seconds * constants.gate_bandwidth),) if seconds > 0 else ()

    # -- one MoE layer, seen from its gate ----------------------------------------------------------------

    def _moe_layer(self, e: int) -> Program:
        method = self.plan.layers[e].communication
        if method == "direct":
            return self._direct(e)
        return self._storage(e) if method == "storage" else self._pipelined(e)

    def _storage(self, e: int) -> Program:
        """Experts and the next function start with the layer; the gate's function uploads the inputs."""
        layer, calls = self.problem.layers[e], self._calls[e]
        published, results, ready = self._latch(), self._latch(len(calls)), _unknown(len(calls))
        upload = Put([c.tokens * layer.token_in_bytes for c in calls], exchange=True)
        programs = [self._storage_expert(c, layer, published, ready.part(k, 1)) for k, c in enumerate(calls)]

        def instead(replica: Replica, k: int) -> list[Program]:
            return [self._storage_expert(c, layer, published, ready.part(k, 1)) for c in self._split(replica)]

        first_s = self._first_input_s(e, sum(c.tokens for c in calls) * layer.token_in_bytes)
        experts = self._experts(calls, programs, instead, first_s)
        sizes = [c.tokens * layer.token_out_bytes for c in calls]
        start_next = self._start_next(e, upload, experts, results, ready, sizes)
        return (start_next, Invoke(experts, wait=False, latch=results), upload, Signal(published))

    def _pipelined(self, e: int) -> Program:
        """The same by minibatches, each of which an expert takes as soon as it is there."""
        layer, calls, beta = self.problem.layers[e], self._calls[e], self.plan.layers[e].minibatch_tokens
        assert beta is not None
        parts = [minibatches(c.tokens, beta) for c in calls]
        counts = np.array([len(part) for part in parts])
        first = np.cumsum(counts) - counts
        sizes, owner = np.concatenate(parts), np.repeat(np.arange(len(parts)), counts)
        order = np.lexsort((owner, np.concatenate([np.arange(count) for count in counts])))
        available, ready = _unknown(len(sizes)), _unknown(len(sizes))
        results = self._latch(len(calls))
        upload = PutInOrder(sizes * layer.token_in_bytes, order, available)
        programs = [
            self._pipelined_expert(c, layer, available.part(k, n), part, ready.part(k, n))
            for c, part, k, n in zip(calls, parts, first.tolist(), counts.tolist(), strict=True)
        ]

        def instead(replica: Replica, k: int) -> list[Program]:
            found, there = [], float(available.part(int(first[k]), int(counts[k])).times_s.max())
            for c in self._split(replica):
                part = minibatches(c.tokens, beta)
                found.append(self._pipelined_expert(c, layer, Ready(np.full(len(part), there)), part, None))
            return found

        first_s = self._first_input_s(e, sum(float(part[0]) for part in parts) * layer.token_in_bytes)
        experts = self._experts(calls, programs, instead, first_s)
        start_next = self._start_next(e, upload, experts, results, ready, (sizes * layer.token_out_bytes).tolist())
        return (start_next, Invoke(experts, wait=False, latch=results), upload)

    def _direct(self, e: int) -> Program:
        """Invoke every replica with its input, wait for all, hand the results on to the next function."""
        layer, calls, platform = self.problem.layers[e], self._calls[e], self.platform
        programs = [self._direct_expert(c, layer) for c in calls]

        def instead(replica: Replica, _: int) -> list[Program]:
            return [self._direct_expert(c, layer) for c in self._split(replica)]

        experts = self._experts(calls, programs, instead, payload_per_token=layer.token_in_bytes)
        invoke = Invoke(experts, wait=True, latch=self._latch(len(calls)))
        size = sum(c.tokens for c in calls) * layer.token_out_bytes
        if platform.is_ideal:
            return (invoke, Invoke((self._non_moe(e + 1, (), layer.next_load_s),), wait=False))
        if size * platform.payload.encoding_factor <= platform.payload.limit_bytes:
            return (invoke, Invoke((self._non_moe(e + 1, (), layer.next_load_s, size),), wait=False))
        following = self._non_moe(e + 1, (Get([size], "gather"),), layer.next_load_s)
        return (invoke, Put([size]), Invoke((following,), wait=False))

    def _start_next(
        self,
        e: int,
        upload: Phase,
        experts: tuple[Target, ...],
        results: Latch,
        ready: Ready,
        sizes: list[float],
    ) -> Invoke:
        """Start of the next non-MoE function, which waits for the results (objects of `sizes` bytes)."""
        arrival: Program = (WaitFor(results), Get(sizes, "gather", exchange=True))
        if self.serving.gather == "as-ready":
            arrival = (GetAsReady(ready, sizes, results),)
        load_s, delay_s = self.problem.layers[e].next_load_s, 0.0
        if self.serving.next_layer_start == "just-in-time":
            memory_mb = non_moe_memory_mb(self.problem, e + 1)
            loaded_s = expected_end_s(self.service, self._load(load_s), memory_mb)
            uploaded_s = expected_end_s(self.service, (upload,), non_moe_memory_mb(self.problem, e), begins_s=0.0)
            ends = [
                expected_end_s(self.service, x.program or (), x.row.memory_mb, x.delay_s, uploaded_s)
                for x in experts
            ]
            delay_s = max(0.0, max(ends) - loaded_s)
        return Invoke((self._non_moe(e + 1, arrival, load_s, delay_s=delay_s),), wait=False)

    def _first_input_s(self, e: int, size: float) -> float:
        """From the start of layer e until `size` bytes that its gate uploads first are in S3, by medians, s."""
        rates = self.platform.upload_rates(non_moe_memory_mb(self.problem, e))
        work_s = self.platform.put_work_s(non_moe_memory_mb(self.problem, e))
        return work_s + self.platform.storage.puts.latency.median + size / rates.function

    # -- experts ------------------------------------------------------------------------------------------

    def _experts(
        self,
        calls: list[Replica],
        programs: list[Program],
        instead: Instead,
        first_s: float = 0.0,
        payload_per_token: float = 0.0,
    ) -> tuple[Target, ...]:
        """Every replica, started with the layer, or so that its head ends when its first input is there."""
        just_in_time = self.serving.start == "just-in-time" and payload_per_token == 0
        found = []
        for k, (c, program) in enumerate(zip(calls, programs, strict=True)):
            target = partial(
                Target,
                self._record(c),
                limit_bytes=None if self.serving.limits else math.inf,
                delay_s=max(0.0, first_s - self._expected_head_s(c)) if just_in_time else 0.0,
                then=self._check,
            )

            def after(last: Record, c: Replica = c, k: int = k) -> tuple[Target, ...]:
                if self.serving.overflow != "retry" or last.status not in OVERFLOWS:
                    return ()
                return tuple(
                    Target(self._record(c), program, c.tokens * payload_per_token, then=self._check)
                    for c, program in zip(self._split(c), instead(c, k), strict=True)
                )

            found.append(target(program=program, payload_bytes=c.tokens * payload_per_token, instead=after))
        return tuple(found)

    def _split(self, replica: Replica) -> list[Replica]:
        """A replica that overflows, as the least number of replicas that fit."""
        e, i = replica.layer, replica.expert
        share = np.zeros(len(self.tokens[e]))
        share[i] = replica.tokens
        plan = self.plan.layers[e]
        fits = replicas_that_fit(self.problem, e, plan, share * plan.replicas)[i] // plan.replicas[i]
        return split(self.problem, replica, int(fits))

    def _expected_head_s(self, replica: Replica) -> float:
        """T_h of a replica on this platform, by medians, s."""
        rates = self.platform.network.rates(replica.memory_mb)
        if self.serving.reload == "when-cold":
            return self.platform.start.warm.median
        download = replica.parameter_bytes / min(rates.function, rates.connection)
        get_s = self.platform.get_work_s(replica.memory_mb) + self.platform.storage.gets.latency.median
        return self.platform.start.warm.median + get_s + download

    def _record(self, replica: Replica) -> Record:
        return Record(
            batch=self.batch,
            layer=replica.layer,
            role="expert",
            function=expert_function(replica.layer, replica.expert),
            memory_mb=replica.memory_mb,
            expert=replica.expert,
            replica=replica.number,
            tokens=replica.tokens,
        )

    def _parameters(self, size: float) -> Phase:
        download = Get([size], "parameter_download")
        return FirstCall((download,), PARAMETERS) if self.serving.reload == "when-cold" else download

    def _need_memory(self, replica: Replica) -> Program:
        return (Allocate(replica.needed_bytes),) if self.serving.limits else ()

    def _storage_expert(self, replica: Replica, layer: ProblemLayer, published: Latch, ready: Ready) -> Program:
        """Eq. 8's steps: head, download, compute, upload."""
        return (
            self._parameters(replica.parameter_bytes),
            WaitFor(published),
            Get([replica.tokens * layer.token_in_bytes], "input_download", exchange=True),
            *self._need_memory(replica),
            Compute(replica.compute_s),
            Put([replica.tokens * layer.token_out_bytes], exchange=True, ready=ready),
        )

    def _pipelined_expert(
        self, replica: Replica, layer: ProblemLayer, available: Ready, parts: np.ndarray, ready: Ready | None
    ) -> Program:
        """Eq. 6's steps: head, then minibatches."""
        pipeline = Pipeline(
            available=available,
            tokens=parts,
            seconds_per_call=replica.seconds_per_call,
            seconds_per_token=replica.seconds_per_token,
            token_in_bytes=layer.token_in_bytes,
            token_out_bytes=layer.token_out_bytes,
            ready=ready,
        )
        return (
            self._parameters(replica.parameter_bytes),
            *self._need_memory(replica),
            pipeline,
        )

    def _direct_expert(self, replica: Replica, layer: ProblemLayer) -> Program:
        """Eq. 10's steps: head, compute, response; the input came with the invocation."""
        return (
            self._parameters(replica.parameter_bytes),
            *self._need_memory(replica),
            Compute(replica.compute_s),
            Return(replica.tokens * layer.token_out_bytes, None if self.serving.limits else math.inf),
        )


class Instead(Protocol):
    """Programs of the replicas that take an overflown one's place."""

    def __call__(self, replica: Replica, k: int, /) -> list[Program]:
        """For replica number `k` of the layer's calls."""


def _unknown(objects: int) -> Ready:
    return Ready(np.full(objects, math.nan))


def non_moe_function(e: int) -> str:
    """Name of non-MoE function e."""
    return f"non-moe-{e}"


def expert_function(e: int, i: int) -> str:
    """Name of the function of expert i of layer e."""
    return f"layer-{e}-expert-{i}"


def non_moe_memory_mb(problem: DeploymentProblem, e: int) -> int:
    """Memory of non-MoE function e: its layer's, or the largest listed size; the tail has the last layer's."""
    memory = problem.layers[min(e, len(problem.layers) - 1)].non_moe_memory_mb
    return memory or problem.platform.memory_mb[-1]
