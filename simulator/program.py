"""What a function does: phases, each a small description that runs on a call.

A handler is a generator that runs phases one after the other; the MoE layer (`simulator.scatter_gather`) is made
of these and nothing else.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from simulator.lambda_service import Call, CallFailed, Steps
from simulator.network import Link
from simulator.storage import Requests, StorageError


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
    """Download objects from S3, all at once: each waits its latency, then shares the function's bandwidth.

    A large object is downloaded in parts where the platform does so, each by a request of its own.
    """

    sizes: Sequence[float]
    phase: str
    exchange: bool = False

    def run(self, call: Call) -> Steps:
        """Download them. Raises CallFailed (`s3-error`) where S3 refuses a request too often."""
        start, storage = call.env.now, call.platform.storage
        parts, _ = storage.parts_of(self.sizes)
        waits = yield from answered(call, storage.gets, np.full(len(parts), start), self.exchange)
        yield from _move(call, call.instance.inbound, start + waits, parts)
        note_bytes(call, float(parts.sum()), 0.0, self.exchange)
        call.record.add_phase(self.phase, start, call.env.now)


@dataclass(frozen=True)
class Put:
    """Upload objects to S3, all at once: each waits its latency, then shares the function's bandwidth.

    A large object is uploaded in parts where the platform does so: a request that creates the upload, one for each
    part, and when all bytes are there one that completes it.
    """

    sizes: Sequence[float]
    phase: str = "upload"
    exchange: bool = False

    def run(self, call: Call) -> Steps:
        """Upload them. Raises CallFailed (`s3-error`) where S3 refuses a request too often."""
        start, storage, env = call.env.now, call.platform.storage, call.env
        parts, uploads = storage.parts_of(self.sizes)
        if uploads:
            yield env.timeout(
                (yield from answered(call, storage.puts, np.full(uploads, start), self.exchange)).max()
            )
        now = env.now
        waits = yield from answered(call, storage.puts, np.full(len(parts), now), self.exchange)
        yield from _move(call, call.instance.outbound, now + waits, parts)
        if uploads:
            now = env.now
            yield env.timeout(
                (yield from answered(call, storage.puts, np.full(uploads, now), self.exchange)).max()
            )
        note_bytes(call, 0.0, float(parts.sum()), self.exchange)
        call.record.add_phase(self.phase, start, env.now)


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
        """Take the time of all steps, and note when downloads, compute and uploads began and ended.

        Raises CallFailed (`s3-error`) where S3 refuses a request too often.
        """
        storage, began = call.platform.storage, call.env.now
        before = storage.gets.counts, storage.puts.counts
        spans: list[tuple[float, float]] = []
        try:
            spans = self._spans(call, began)
            end = spans[-1][1]
        except StorageError as error:
            end = error.at_s
        _note_requests(call, storage.gets, before[0], True)
        _note_requests(call, storage.puts, before[1], True)
        yield call.env.timeout(max(0.0, end - began))
        if not spans:
            raise CallFailed("s3-error")
        total = float(self.tokens.sum())
        note_bytes(call, total * self.token_in_bytes, total * self.token_out_bytes, True)
        for phase, (start, end) in zip(self.phases, spans, strict=True):
            call.record.add_phase(phase, start, end)

    def _spans(self, call: Call, began: float) -> list[tuple[float, float]]:
        """When downloads, compute and uploads begin and end, s, if they begin at `began`. Raises StorageError."""
        platform, storage, count = call.platform, call.platform.storage, len(self.tokens)
        get, put = storage.gets.one, storage.puts.one
        download, upload = call.instance.inbound.alone, call.instance.outbound.alone
        work = (self.seconds_per_call + self.tokens * self.seconds_per_token) * platform.jitter.many(count)
        in_bytes = (self.tokens * self.token_in_bytes).tolist()
        out_bytes = (self.tokens * self.token_out_bytes).tolist()
        now, sent_bytes, first_compute, first_upload = began, -1.0, began, began
        for available, work_s, size_in, size_out in zip(
            self.available_s.tolist(), work.tolist(), in_bytes, out_bytes, strict=True
        ):
            asked = now if now > available else available
            downloaded = download(asked + get(asked), size_in)
            computed = downloaded + work_s
            if sent_bytes < 0:  # nothing to upload yet
                first_compute, first_upload, now = downloaded, computed, computed
            else:
                uploaded = upload(now + put(now), sent_bytes)
                now = uploaded if uploaded > computed else computed
            sent_bytes = size_out
        ended = upload(now + put(now), sent_bytes)
        return [(began, downloaded), (first_compute, now), (first_upload, ended)]


def payload_seconds(call: Call, size: float) -> float:
    """Overhead and transfer of an invocation's payload of `size` raw bytes, s."""
    platform = call.platform
    encoded = size * platform.payload_encoding_factor
    return platform.payload_overhead.next() + encoded / platform.payload_bytes_per_s


def answered(
    call: Call, requests: Requests, sent_s: np.ndarray, exchange: bool
) -> Generator[simpy.Event, Any, np.ndarray]:
    """From each request (sent at `sent_s`, shape (requests,)) to its first byte, s; the call's row counts them.

    Raises:
        CallFailed: `s3-error`, when the caller knows that S3 refused a request too often.
    """
    before = requests.counts
    call.platform.storage.forget(call.env.now)
    try:
        waits = requests.many(sent_s)
    except StorageError as error:
        _note_requests(call, requests, before, exchange)
        yield call.env.timeout(max(0.0, error.at_s - call.env.now))
        raise CallFailed("s3-error") from error
    _note_requests(call, requests, before, exchange)
    return waits


def _note_requests(call: Call, requests: Requests, before: tuple[int, int], exchange: bool) -> None:
    """Count requests in the call's row: what `requests` counted since `before`."""
    record, storage = call.record, call.platform.storage
    served, refused = (now - then for now, then in zip(requests.counts, before, strict=True))
    record.refused += refused
    if requests is storage.gets:
        record.gets += served
        record.exchange_gets += served * exchange
    else:
        record.puts += served
        record.exchange_puts += served * exchange


def note_bytes(call: Call, bytes_in: float, bytes_out: float, exchange: bool) -> None:
    """Count bytes from and to S3 in the call's row, and what they cost by themselves (S3 Express)."""
    record, storage = call.record, call.platform.storage
    record.bytes_in += bytes_in
    record.bytes_out += bytes_out
    usd = bytes_in * storage.get_usd_per_byte + bytes_out * storage.put_usd_per_byte
    record.request_cost_usd += usd
    record.exchange_cost_usd += usd * exchange


def _move(call: Call, link: Link, starts: np.ndarray, sizes: np.ndarray) -> Steps:
    """Move objects over a link, each from its start on; returns when the last is through.

    A link that nothing else uses is one event, however many objects; else each transfer is events of its own.
    """
    env = call.env
    if len(sizes) == 0:
        return
    if link.is_idle:
        if len(sizes) == 1:
            end = link.alone(float(starts[0]), float(sizes[0]))
        else:
            end = float(link.batch(starts, sizes).max())
        yield env.timeout(max(0.0, end - env.now))
        return
    transfers = [
        env.process(_transfer(env, link, *each)) for each in zip(starts.tolist(), sizes.tolist(), strict=True)
    ]
    yield env.all_of(transfers)


def _transfer(env: simpy.Environment, link: Link, start: float, size: float) -> Steps:
    """One object over a link that others use as well."""
    yield env.timeout(max(0.0, start - env.now))
    yield link.transfer(size)
