"""Communication methods: how the inputs of an MoE layer get from its gate to its experts, and the results on.

Each is a function: from a layer, and what starts the next non-MoE function, to what the gate's function does.
Another method is another function, with its name in `METHODS` and in `simulator.plan.Communication`.

- `storage`: the gate's function uploads every replica's input, then the experts download, compute, upload.
- `pipelined`: the same by minibatches; uploads of all replicas go round-robin, and each replica overlaps.
- `direct`: the gate's function invokes every replica with its input as payload, waits for all, hands results on.

Source: Liu, Wang, Wu, INFOCOM 2025, section III-C, Fig. 6; what `direct` means on a real Lambda: docs/formats.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from simulator.cloud.call import Phase, Program
from simulator.cloud.invocation import Invoke, Latch, Signal, Target, WaitFor
from simulator.cloud.phases import Compute, Return
from simulator.cloud.transfers import Get, GetAsReady, Pipeline, Put, PutInOrder, Ready
from simulator.plan import Communication, handed_on_as_payload, non_moe_memory_mb
from simulator.serving.layer import Layer, loading
from simulator.serving.rehearsal import expected_end_s
from simulator.serving.replicas import Replica, minibatches


class Following(Protocol):
    """The next non-MoE function, which takes what arrives and goes on to the layers behind."""

    def __call__(self, arrival: Program, *, payload_bytes: float = 0.0, delay_s: float = 0.0) -> Target:
        """As a target, invoked so long after the phase begins."""


Method: TypeAlias = Callable[[Layer, Following], Program]


def storage(layer: Layer, following: Following) -> Program:
    """Experts and the next function start with the layer; the gate's function uploads the inputs."""
    sizes, calls = layer.sizes, layer.calls
    published, results, ready = layer.latch(1), layer.latch(len(calls)), _unknown(len(calls))
    upload = Put([c.tokens * sizes.token_in_bytes for c in calls], exchange=True)

    def expert(replica: Replica, k: int) -> Program:
        """Eq. 8's steps: head, download, compute, upload."""
        return (
            layer.head(replica),
            WaitFor(published),
            Get([replica.tokens * sizes.token_in_bytes], "input_download", exchange=True),
            *layer.need_memory(replica),
            Compute(replica.compute_s),
            Put([replica.tokens * sizes.token_out_bytes], exchange=True, ready=ready.part(k, 1)),
        )

    first_s = _uploaded_s(layer, sum(c.tokens for c in calls) * sizes.token_in_bytes)
    experts = layer.experts(expert, expert, first_s)
    outputs = [c.tokens * sizes.token_out_bytes for c in calls]
    start_next = _start_next(layer, following, upload, experts, results, ready, outputs)
    return (start_next, Invoke(experts, wait=False, latch=results), upload, Signal(published))


def pipelined(layer: Layer, following: Following) -> Program:
    """The same by minibatches, each of which an expert takes as soon as it is there."""
    sizes, calls, beta = layer.sizes, layer.calls, layer.plan.minibatch_tokens
    assert beta is not None
    parts = [minibatches(c.tokens, beta) for c in calls]
    counts = [len(part) for part in parts]
    first = (np.cumsum(counts) - counts).tolist()
    tokens, owner = np.concatenate(parts), np.repeat(np.arange(len(parts)), counts)
    order = np.lexsort((owner, np.concatenate([np.arange(count) for count in counts])))
    available, ready = _unknown(len(tokens)), _unknown(len(tokens))
    results = layer.latch(len(calls))
    upload = PutInOrder(tokens * sizes.token_in_bytes, order, available)

    def program(replica: Replica, available: Ready, part: np.ndarray, ready: Ready | None) -> Program:
        """Eq. 6's steps: head, then minibatches."""
        pipeline = Pipeline(
            available=available,
            tokens=part,
            seconds_per_call=replica.seconds_per_call,
            seconds_per_token=replica.seconds_per_token,
            token_in_bytes=sizes.token_in_bytes,
            token_out_bytes=sizes.token_out_bytes,
            ready=ready,
        )
        return (layer.head(replica), *layer.need_memory(replica), pipeline)

    def expert(replica: Replica, k: int) -> Program:
        mine = first[k], counts[k]
        return program(replica, available.part(*mine), parts[k], ready.part(*mine))

    def again(replica: Replica, k: int) -> Program:
        part = minibatches(replica.tokens, beta)
        there = float(available.part(first[k], counts[k]).times_s.max())
        return program(replica, Ready(np.full(len(part), there)), part, None)

    first_s = _uploaded_s(layer, sum(float(part[0]) for part in parts) * sizes.token_in_bytes)
    experts = layer.experts(expert, again, first_s)
    outputs = (tokens * sizes.token_out_bytes).tolist()
    start_next = _start_next(layer, following, upload, experts, results, ready, outputs)
    return (start_next, Invoke(experts, wait=False, latch=results), upload)


def direct(layer: Layer, following: Following) -> Program:
    """Invoke every replica with its input, wait for all, hand the results on to the next function."""
    sizes, calls, constants = layer.sizes, layer.calls, layer.problem.platform

    def expert(replica: Replica, _: int) -> Program:
        """Eq. 10's steps: head, compute, response; the input came with the invocation."""
        return (
            layer.head(replica),
            *layer.need_memory(replica),
            Compute(replica.compute_s),
            Return(replica.tokens * sizes.token_out_bytes, None if layer.limits else math.inf),
        )

    experts = layer.experts(expert, expert, payload_per_token=sizes.token_in_bytes)
    invoke = Invoke(experts, wait=True, latch=layer.latch(len(calls)))
    size = sum(c.tokens for c in calls) * sizes.token_out_bytes
    if layer.platform.is_ideal and not constants.direct_hands_on:
        return (invoke, Invoke((following(()),), wait=False))
    if handed_on_as_payload(constants, size):
        return (invoke, Invoke((following((), payload_bytes=size),), wait=False, phase="hand_on"))
    return (invoke, Put([size], "hand_on"), Invoke((following((Get([size], "gather"),)),), wait=False))


METHODS: dict[Communication, Method] = {"storage": storage, "pipelined": pipelined, "direct": direct}


def _start_next(
    layer: Layer,
    following: Following,
    upload: Phase,
    experts: Sequence[Target],
    results: Latch,
    ready: Ready,
    sizes: list[float],
) -> Invoke:
    """Start of the next non-MoE function, which waits for the results (objects of `sizes` bytes)."""
    arrival: Program = (WaitFor(results), Get(sizes, "gather", exchange=True))
    if layer.serving.gather == "as-ready":
        arrival = (GetAsReady(ready, sizes, results),)
    delay_s = 0.0
    if layer.serving.next_layer_start == "just-in-time":
        delay_s = max(0.0, _results_s(layer, upload, experts) - _loaded_s(layer))
    return Invoke((following(arrival, delay_s=delay_s),), wait=False)


def _loaded_s(layer: Layer) -> float:
    """From the start of the next non-MoE function until it has loaded, by medians, s."""
    load = loading(layer.problem, layer.platform, layer.serving, layer.sizes.next_load_s)
    return expected_end_s(layer.service, load, non_moe_memory_mb(layer.problem, layer.e + 1))


def _results_s(layer: Layer, upload: Phase, experts: Sequence[Target]) -> float:
    """From the start of the layer until the last of its experts ends, by medians, s."""
    memory_mb = non_moe_memory_mb(layer.problem, layer.e)
    uploaded_s = expected_end_s(layer.service, (upload,), memory_mb, begins_s=0.0)
    return max(
        expected_end_s(layer.service, x.program or (), x.row.memory_mb, x.delay_s, uploaded_s) for x in experts
    )


def _uploaded_s(layer: Layer, size: float) -> float:
    """From the start of the layer until `size` bytes that its gate uploads first are in S3, by medians, s."""
    platform, memory_mb = layer.platform, non_moe_memory_mb(layer.problem, layer.e)
    put_s = platform.put_work_s(memory_mb) + platform.storage.puts.latency.median
    return put_s + size / platform.network.upload_rates(memory_mb).function


def _unknown(objects: int) -> Ready:
    return Ready(np.full(objects, math.nan))
