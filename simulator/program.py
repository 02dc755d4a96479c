"""What a function does: phases, each a small description that runs on a call.

A handler is a generator that runs phases one after the other; the MoE layer (`simulator.scatter_gather`) is made
of these and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import simpy

from simulator.draws import Draws
from simulator.lambda_service import Call, Steps
from simulator.network import Link


@dataclass(frozen=True)
class Sleep:
    """Take a fixed time."""

    seconds: float
    phase: str

    def run(self, call: Call) -> Steps:
        """Wait `seconds`."""
        start = call.env.now
        yield call.env.timeout(self.seconds)
        call.record.add_phase(self.phase, start, call.env.now)


@dataclass(frozen=True)
class Compute:
    """Compute for `seconds` (at the function's memory), times the platform's jitter."""

    seconds: float

    def run(self, call: Call) -> Steps:
        """Take the time."""
        start = call.env.now
        yield call.env.timeout(self.seconds * call.platform.jitter.next())
        call.record.add_phase("compute", start, call.env.now)


@dataclass(frozen=True)
class WaitFor:
    """Wait, billed, until something has happened."""

    event: simpy.Event

    def run(self, call: Call) -> Steps:
        """Wait for the event; no time passes if it has happened."""
        start = call.env.now
        if not self.event.processed:
            yield self.event
        if call.env.now > start:
            call.record.add_phase("wait", start, call.env.now)


@dataclass(frozen=True)
class Get:
    """Download objects from S3, all at once: each waits its latency, then shares the function's bandwidth."""

    sizes: Sequence[float]
    phase: str
    exchange: bool = False

    def run(self, call: Call) -> Steps:
        """Download them."""
        start, record = call.env.now, call.record
        record.gets += len(self.sizes)
        record.exchange_gets += len(self.sizes) * self.exchange
        record.bytes_in += sum(self.sizes)
        yield from _move(call, call.instance.inbound, call.platform.get_latency, self.sizes)
        record.add_phase(self.phase, start, call.env.now)


@dataclass(frozen=True)
class Put:
    """Upload objects to S3, all at once: each waits its latency, then shares the function's bandwidth."""

    sizes: Sequence[float]
    phase: str = "upload"
    exchange: bool = False

    def run(self, call: Call) -> Steps:
        """Upload them."""
        start, record = call.env.now, call.record
        record.puts += len(self.sizes)
        record.exchange_puts += len(self.sizes) * self.exchange
        record.bytes_out += sum(self.sizes)
        yield from _move(call, call.instance.outbound, call.platform.put_latency, self.sizes)
        record.add_phase(self.phase, start, call.env.now)


@dataclass(frozen=True)
class Payload:
    """Move a payload of `size` bytes out of the function, encoded, within an invocation."""

    size: float
    phase: str = "upload"

    def run(self, call: Call) -> Steps:
        """Move it; the platform's payload bandwidth is that of one invocation."""
        start = call.env.now
        call.record.bytes_out += self.size
        yield call.env.timeout(payload_seconds(call, self.size))
        call.record.add_phase(self.phase, start, call.env.now)


@dataclass(frozen=True)
class Pipeline:
    """Minibatches: download and compute one while the result of the one before is uploaded (Eq. 6).

    The function's links are its own, so the whole pipeline is one event. Each step ends when both halves have.

    Args:
        available_s: when each minibatch is in S3, s, shape (minibatches,).
        tokens: of each minibatch, shape (minibatches,).
        seconds_per_call, seconds_per_token: compute of a minibatch.
        token_in_bytes, token_out_bytes: D_in and D_o.
    """

    available_s: np.ndarray
    tokens: np.ndarray
    seconds_per_call: float
    seconds_per_token: float
    token_in_bytes: float
    token_out_bytes: float
    phases: tuple[str, str, str] = field(default=("input_download", "compute", "upload"))

    def run(self, call: Call) -> Steps:
        """Take the time of all steps, and note when downloads, compute and uploads began and ended."""
        platform, record, count = call.platform, call.record, len(self.tokens)
        inbound, outbound = call.instance.inbound, call.instance.outbound
        get_s, put_s = platform.get_latency.many(count).tolist(), platform.put_latency.many(count).tolist()
        work = (self.seconds_per_call + self.tokens * self.seconds_per_token) * platform.jitter.many(count)
        size_in, size_out = self.tokens * self.token_in_bytes, self.tokens * self.token_out_bytes
        available, work_s, in_bytes, out_bytes = (x.tolist() for x in (self.available_s, work, size_in, size_out))
        now = began = call.env.now
        first_compute = first_upload = downloaded = now
        for k in range(count):
            uploaded = outbound.alone(now + put_s[k - 1], out_bytes[k - 1]) if k else now
            downloaded = inbound.alone(max(now, available[k]) + get_s[k], in_bytes[k])
            first_compute = downloaded if k == 0 else first_compute
            computed = downloaded + work_s[k]
            now = max(uploaded, computed)
            first_upload = now if k == 0 else first_upload
        last_compute = now
        now = outbound.alone(now + put_s[-1], out_bytes[-1])
        yield call.env.timeout(now - began)
        record.gets += count
        record.puts += count
        record.exchange_gets += count
        record.exchange_puts += count
        record.bytes_in += float(size_in.sum())
        record.bytes_out += float(size_out.sum())
        spans = ((began, downloaded), (first_compute, last_compute), (first_upload, now))
        for phase, (start, end) in zip(self.phases, spans, strict=True):
            record.add_phase(phase, start, end)


def payload_seconds(call: Call, size: float) -> float:
    """Overhead and transfer of an invocation's payload of `size` raw bytes, s."""
    platform = call.platform
    encoded = size * platform.payload_encoding_factor
    return platform.payload_overhead.next() + encoded / platform.payload_bytes_per_s


def _move(call: Call, link: Link, latency: Draws, sizes: Sequence[float]) -> Steps:
    """Move objects over a link, all requested now; returns when the last is through."""
    env = call.env
    if len(sizes) == 1:
        yield env.timeout(latency.next())
        yield link.transfer(sizes[0])
        return
    left, done = len(sizes), env.event()

    def through(_: simpy.Event) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.succeed()

    def begin(request: simpy.Event) -> None:
        transfer = link.transfer(float(request.value or 0.0))
        assert transfer.callbacks is not None
        transfer.callbacks.append(through)

    for size, wait in zip(sizes, latency.many(len(sizes)).tolist(), strict=True):
        request = env.timeout(wait, size)
        assert request.callbacks is not None
        request.callbacks.append(begin)
    if left:
        yield done
