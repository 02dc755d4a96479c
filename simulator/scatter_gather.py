"""One forward pass of an MoE model under a deployment plan: scatter to experts, gather from them.

The functions of a model with L MoE layers are L + 1 non-MoE functions (function e computes what comes before MoE
layer e and its gate; function L is the tail) and every expert's. A pass is one chain of calls:

- `storage`: function e uploads every replica's input, then the experts download, compute, upload.
- `pipelined`: the same by minibatches; uploads of all replicas go round-robin, and each replica overlaps.
- `direct`: function e invokes every replica with its input as payload, waits for all, and hands the results on.

Source: Liu, Wang, Wu, INFOCOM 2025, section III-C, Fig. 6; what `direct` means on a real Lambda: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import simpy

from simulator.lambda_service import Call, CallFailed, Handler, LambdaService, Steps
from simulator.plan import (
    Communication,
    DeploymentPlan,
    DeploymentProblem,
    ProblemLayer,
)
from simulator.program import (
    Compute,
    Get,
    Payload,
    Pipeline,
    Put,
    Sleep,
    WaitFor,
    answered,
    note_bytes,
    payload_seconds,
)
from simulator.records import Record
from simulator.replicas import Replica, minibatches, replicas_of

Start: TypeAlias = Literal["eager", "just-in-time"]


@dataclass
class ForwardPass:
    """One batch through the model.

    Args:
        service: the Lambda service, which keeps the records.
        problem, plan: what is deployed.
        tokens: tokens of each expert of each layer, (experts,) per layer.
        replicas: calls of each expert of each layer, (experts,) per layer.
        whole_tokens: whether tokens are dealt out whole, or divided.
        start: when experts are started: with their layer, or just in time for their first input.
        batch: number of the batch.
        step: 0 for the pass over the batch's tokens, then the number of the decode step.
        memory_kills: whether a replica that needs more than its memory is killed, or runs all the same.
    """

    service: LambdaService
    problem: DeploymentProblem
    plan: DeploymentPlan
    tokens: list[np.ndarray]
    replicas: list[np.ndarray]
    whole_tokens: bool
    start: Start
    batch: int
    step: int = 0
    memory_kills: bool = False

    def __post_init__(self) -> None:
        self.env = self.service.env
        self.platform = self.service.platform
        self.ended = self.env.event()
        self.failed: Record | None = None
        self._calls = [
            replicas_of(self.problem, e, layer, self.tokens[e], self.replicas[e], self.whole_tokens)
            for e, layer in enumerate(self.plan.layers)
        ]

    def run(self) -> simpy.Event:
        """Start the pass; the event succeeds when the tail has ended, or a call has `failed` for good."""
        self._start_non_moe(0, Arrival(), self.problem.head_s)
        return self.ended

    # -- non-MoE functions --------------------------------------------------------------------------------

    def _start_non_moe(self, e: int, arrival: Arrival, load_s: float) -> None:
        """Invoke non-MoE function e, which loads for `load_s` and then takes what arrives."""
        record = Record(
            batch=self.batch,
            step=self.step,
            layer=e,
            role="non-moe",
            function=non_moe_function(e),
            memory_mb=non_moe_memory_mb(self.problem, e),
            tokens=self.problem.served_tokens,
        )
        handler = self._non_moe_handler(e, arrival, load_s)
        self.service.invoke(record, handler, self._check, repeatable=False)

    def _non_moe_handler(self, e: int, arrival: Arrival, load_s: float) -> Handler:
        def handler(call: Call) -> Steps:
            yield from self._load(call, load_s)
            if arrival.results is not None:
                yield from WaitFor(arrival.results).run(call)
            if arrival.gather_bytes:
                yield from Get(arrival.gather_bytes, "gather", exchange=arrival.from_experts).run(call)
            here = e
            while here < len(self.problem.layers):
                yield from Compute(self.problem.layers[here].non_moe_s).run(call)
                if self._calls[here]:
                    yield from self._moe_layer(call, here)
                    return
                here += 1  # no token reaches the layer: this function goes on with the next
            yield from Compute(self.problem.tail_s).run(call)
            if self.failed is None:
                self.ended.succeed()

        return handler

    def _load(self, call: Call, load_s: float) -> Steps:
        """Download the function's parameters.

        The problem gives the load as a time on the closed form's platform. There it is taken as it stands
        (the start of the call is in it); elsewhere it says how many bytes there are to download.
        """
        constants = self.problem.platform
        if self.platform.is_ideal:
            yield from Sleep(max(0.0, load_s - constants.warm_start_s), "parameter_download").run(call)
            return
        seconds = load_s - constants.warm_start_s - constants.storage_delay_s
        if seconds > 0:
            yield from Get([seconds * constants.gate_bandwidth], "parameter_download").run(call)

    # -- one MoE layer, seen from its gate ----------------------------------------------------------------

    def _moe_layer(self, call: Call, e: int) -> Steps:
        layer, calls = self.problem.layers[e], self._calls[e]
        method: Communication = self.plan.layers[e].communication
        if method == "direct":
            yield from self._direct(call, e, layer, calls)
        else:
            yield from self._through_storage(call, e, layer, calls, method)

    def _through_storage(
        self, call: Call, e: int, layer: ProblemLayer, calls: list[Replica], method: Communication
    ) -> Steps:
        """Experts and the next function start with the layer; the gate's function uploads the inputs."""
        beta = self.plan.layers[e].minibatch_tokens
        results = self.env.event()
        parts = [minibatches(c.tokens, beta) if beta else np.array([c.tokens]) for c in calls]
        out_bytes = (np.concatenate(parts) * layer.token_out_bytes).tolist()
        self._start_non_moe(e + 1, Arrival(results, out_bytes, from_experts=True), layer.next_load_s)
        if method == "storage":
            published = self.env.event()
            handlers = [self._storage_expert(c, layer, published) for c in calls]
            first_s = _first_input_s(call, sum(c.tokens for c in calls) * layer.token_in_bytes)
            self._start_experts(calls, handlers, first_s, results)
            yield from Put([c.tokens * layer.token_in_bytes for c in calls], exchange=True).run(call)
            published.succeed()
            return
        assert beta is not None
        available, upload_ends = yield from self._upload_minibatches(call, parts, layer.token_in_bytes)
        handlers = [
            self._pipelined_expert(c, layer, when, part)
            for c, when, part in zip(calls, available, parts, strict=True)
        ]
        first_s = _first_input_s(call, sum(float(part[0]) for part in parts) * layer.token_in_bytes)
        self._start_experts(calls, handlers, first_s, results)
        began = self.env.now
        yield self.env.timeout(upload_ends - began)
        call.record.add_phase("upload", began, self.env.now)

    def _upload_minibatches(
        self, call: Call, parts: list[np.ndarray], token_in_bytes: float
    ) -> Generator[simpy.Event, Any, tuple[list[np.ndarray], float]]:
        """When each minibatch of each replica is in S3, and the end of the upload.

        Requests overlap; bytes go one object after the other: by minibatch, then expert, then replica.
        """
        counts = np.array([len(part) for part in parts])
        owner = np.repeat(np.arange(len(parts)), counts)
        order = np.lexsort((owner, np.concatenate([np.arange(count) for count in counts])))
        sizes = np.concatenate(parts) * token_in_bytes
        through = np.empty(len(sizes))
        through[order] = call.instance.outbound.stream(self.env.now, sizes[order])
        available = through + (yield from answered(call, self.platform.storage.puts, through, exchange=True))
        note_bytes(call, 0.0, float(sizes.sum()), exchange=True)
        return np.split(available, np.cumsum(counts)[:-1]), float(available.max())

    def _direct(self, call: Call, e: int, layer: ProblemLayer, calls: list[Replica]) -> Steps:
        """Invoke every replica with its input, wait for all, hand the results on to the next function."""
        returned = self.env.event()
        began = self.env.now
        handlers = [self._direct_expert(c, layer) for c in calls]
        sizes = [c.tokens * layer.token_in_bytes for c in calls]
        call.record.bytes_out += sum(sizes)
        delays = [payload_seconds(call, size) for size in sizes]
        self._invoke(calls, handlers, delays, returned)
        call.record.add_phase("upload", began, began + max(delays))
        yield from WaitFor(returned).run(call)
        out_bytes = sum(c.tokens for c in calls) * layer.token_out_bytes
        call.record.bytes_in += out_bytes
        if self.platform.is_ideal:
            arrival = Arrival()
        elif out_bytes * self.platform.payload_encoding_factor <= self.platform.payload_limit_bytes:
            yield from Payload(out_bytes).run(call)
            arrival = Arrival()
        else:
            yield from Put([out_bytes]).run(call)
            arrival = Arrival(None, [out_bytes])
        self._start_non_moe(e + 1, arrival, layer.next_load_s)

    def _check(self, last: Record) -> None:
        """A call that failed for good ends the pass."""
        if last.status != "ok" and self.failed is None:
            self.failed = last
            if not self.ended.triggered:
                self.ended.succeed()

    # -- experts ------------------------------------------------------------------------------------------

    def _start_experts(
        self, calls: list[Replica], handlers: list[Handler], first_s: float, results: simpy.Event
    ) -> None:
        """Start every replica with the layer, or so that its head ends when its first input is there."""
        delays = [0.0] * len(calls)
        if self.start == "just-in-time":
            delays = [max(0.0, first_s - self._expected_head_s(c)) for c in calls]
        self._invoke(calls, handlers, delays, results)

    def _expected_head_s(self, replica: Replica) -> float:
        """T_h of a replica on this platform, by medians, s."""
        rates = self.platform.link_rates(replica.memory_mb)
        download = replica.parameter_bytes / min(rates.function, rates.connection)
        return self.platform.warm_start.median + self.platform.get_latency.median + download

    def _invoke(
        self, calls: list[Replica], handlers: list[Handler], delays: list[float], all_ended: simpy.Event
    ) -> None:
        """Call every replica after its delay; `all_ended` succeeds with the last of them."""
        left = len(calls)

        def ended(last: Record) -> None:
            nonlocal left
            left -= 1
            self._check(last)
            if left == 0 and self.failed is None:
                all_ended.succeed()

        def begin(replica: Replica, handler: Handler) -> Callable[[simpy.Event], None]:
            return lambda _: self.service.invoke(self._record(replica), handler, ended)

        for replica, handler, delay in zip(calls, handlers, delays, strict=True):
            timeout = self.env.timeout(delay)
            assert timeout.callbacks is not None
            timeout.callbacks.append(begin(replica, handler))

    def _record(self, replica: Replica) -> Record:
        return Record(
            batch=self.batch,
            step=self.step,
            layer=replica.layer,
            role="expert",
            function=expert_function(replica.layer, replica.expert),
            memory_mb=replica.memory_mb,
            expert=replica.expert,
            replica=replica.number,
            tokens=replica.tokens,
        )

    def _check_memory(self, replica: Replica) -> None:
        """Runtime.OutOfMemory: the sandbox is killed; it is billed until then."""
        if self.memory_kills and not replica.fits:
            raise CallFailed("out-of-memory")

    def _storage_expert(self, replica: Replica, layer: ProblemLayer, published: simpy.Event) -> Handler:
        """Eq. 8's steps: head, download, compute, upload."""

        def handler(call: Call) -> Steps:
            yield from Get([replica.parameter_bytes], "parameter_download").run(call)
            yield from WaitFor(published).run(call)
            yield from Get([replica.tokens * layer.token_in_bytes], "input_download", exchange=True).run(call)
            self._check_memory(replica)
            yield from Compute(replica.compute_s).run(call)
            yield from Put([replica.tokens * layer.token_out_bytes], exchange=True).run(call)

        return handler

    def _pipelined_expert(
        self, replica: Replica, layer: ProblemLayer, available: np.ndarray, parts: np.ndarray
    ) -> Handler:
        """Eq. 6's steps: head, then minibatches."""
        pipeline = Pipeline(
            available_s=available,
            tokens=parts,
            seconds_per_call=replica.seconds_per_call,
            seconds_per_token=replica.seconds_per_token,
            token_in_bytes=layer.token_in_bytes,
            token_out_bytes=layer.token_out_bytes,
        )

        def handler(call: Call) -> Steps:
            yield from Get([replica.parameter_bytes], "parameter_download").run(call)
            self._check_memory(replica)
            yield from pipeline.run(call)

        return handler

    def _direct_expert(self, replica: Replica, layer: ProblemLayer) -> Handler:
        """Eq. 10's steps: head, compute, response; the input came with the invocation."""

        def handler(call: Call) -> Steps:
            call.record.bytes_in += replica.tokens * layer.token_in_bytes
            yield from Get([replica.parameter_bytes], "parameter_download").run(call)
            self._check_memory(replica)
            yield from Compute(replica.compute_s).run(call)
            yield from Payload(replica.tokens * layer.token_out_bytes).run(call)

        return handler


@dataclass(frozen=True)
class Arrival:
    """How a non-MoE function gets its input: after which event, and which objects it downloads."""

    results: simpy.Event | None = None
    gather_bytes: tuple[float, ...] | list[float] = ()
    from_experts: bool = False


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


def _first_input_s(call: Call, size: float) -> float:
    """When `size` bytes that are uploaded first are in S3, by medians, s from now."""
    return call.platform.put_latency.median + size / call.instance.outbound.rates.function
