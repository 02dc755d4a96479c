"""Phases that move bytes: between a function and S3, one object or many, at once or in a pipeline.

A function serves one call at a time and a program one phase at a time, so a phase has the function's link for
itself: what shares the link is the phase's own objects (`simulator.cloud.network`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from simulator.cloud.call import Call, CallFailed, Phase, Steps
from simulator.cloud.invocation import Latch, next_look_s
from simulator.cloud.network import Link
from simulator.cloud.storage import Requests, StorageError


@dataclass(slots=True)
class Get(Phase):
    """Download objects from S3, all at once: each waits its latency, then shares the function's bandwidth.

    A large object is downloaded in parts where the platform does so, each by a request of its own; `parts`: over
    how many connections at most, instead of the platform's. `at_once`: connections of all objects together, each
    of which asks for the next object or part once it is through; None: as many as there are.
    """

    sizes: Sequence[float]
    phase: str
    exchange: bool = False
    parts: int | None = None
    at_once: int | None = None

    def run(self, call: Call, at: float) -> float:
        """Download them. Raises CallFailed (`s3-error`) where S3 refuses a request too often."""
        storage, link = call.platform.storage, call.instance.inbound
        if len(self.sizes) == 1 and (self.parts or storage.parts) == 1:
            total = self.sizes[0]
            sent_s = at + call.platform.get_work_s(call.record.memory_mb)
            end = link.alone(sent_s + _first_byte_s(call, storage.gets, sent_s, total, self.exchange), total)
        else:
            parts, _ = storage.parts_of(self.sizes, self.parts)
            total, work_s = float(parts.sum()), call.platform.get_work_s(call.record.memory_mb)
            end = _moved(call, link, storage.gets, parts, at, work_s, self)
        note_bytes(call, total, 0.0, self.exchange)
        call.record.add_phase(self.phase, at, end)
        return end


@dataclass(slots=True)
class List(Phase):
    """List keys in S3: so many requests one after the other, each of up to 1,000 keys.

    One takes the latency of a GET, and counts as a PUT, whose price it has (Amazon S3 pricing).
    """

    requests: int = 1

    def run(self, call: Call, at: float) -> float:
        """Ask, and ask for the rest. Raises CallFailed (`s3-error`) where S3 refuses a request too often."""
        begin, record = at, call.record
        for _ in range(self.requests):
            at += call.platform.get_work_s(record.memory_mb)
            at += _first_byte_s(call, call.platform.storage.gets, at, 0.0, False)
            record.gets, record.puts = record.gets - 1, record.puts + 1
        record.add_phase("wait", begin, at)
        return at


@dataclass(slots=True)
class GetAsReady(Phase):
    """Download objects from S3, each as soon as it is there; until the first is there the call waits, billed.

    Args:
        ready: when each object is there; one of which nobody told, when all are.
        sizes: bytes of each, shape (objects,).
        all_ready: what tells that all are.
    """

    alone: ClassVar[bool] = False
    ready: Ready
    sizes: Sequence[float]
    all_ready: Latch
    phase: str = "gather"
    exchange: bool = True

    def meet(self, call: Call, at: float) -> Steps:
        """Download them: reckoned when the last is there, which is before any end that matters."""
        yield from self.all_ready.wait(call, at)
        times_s = self.ready.times_s
        sent = np.maximum(at, np.where(np.isnan(times_s), call.env.now, times_s))
        sizes = np.asarray(self.sizes, float)
        sent = sent + call.platform.get_work_s(call.record.memory_mb)
        begins = sent + _first_bytes_s(call, call.platform.storage.gets, sent, sizes, self.exchange)
        end = max(_last(call.instance.inbound, begins, sizes, at), call.env.now)
        note_bytes(call, float(sizes.sum()), 0.0, self.exchange)
        if sent.min() > at:
            call.record.add_phase("wait", at, float(sent.min()))
        call.record.add_phase(self.phase, float(sent.min()), end)
        return end


@dataclass(frozen=True)
class Ready:
    """When each of some objects is in S3, s, shape (objects,); NaN until it is known, inf for never.

    Its writer fills it in.
    """

    times_s: np.ndarray

    def part(self, first: int, count: int) -> Ready:
        """Those of `count` objects from number `first` on, shared with the whole."""
        return Ready(self.times_s[first : first + count])


@dataclass(slots=True)
class Put(Phase):
    """Upload objects to S3, all at once: each waits its latency, then shares the function's bandwidth.

    A large object is uploaded in parts where the platform does so: a request that creates the upload, one for each
    part, and when all bytes are there one that completes it. `ready` is told when the objects are in S3.
    `parts`, `at_once`: as in `Get`.
    """

    sizes: Sequence[float]
    phase: str = "upload"
    exchange: bool = False
    ready: Ready | None = None
    parts: int | None = None
    at_once: int | None = None

    def run(self, call: Call, at: float) -> float:
        """Upload them. Raises CallFailed (`s3-error`) where S3 refuses a request too often."""
        storage, link = call.platform.storage, call.instance.outbound
        if len(self.sizes) == 1 and (self.parts or storage.parts) == 1:
            total = self.sizes[0]
            sent_s = at + call.platform.put_work_s(call.record.memory_mb)
            end = link.alone(sent_s + _first_byte_s(call, storage.puts, sent_s, total, self.exchange), total)
        else:
            parts, uploads = storage.parts_of(self.sizes, self.parts)
            total, begin = float(parts.sum()), at
            empty = np.zeros(uploads)
            if uploads:
                begin += float(_first_bytes_s(call, storage.puts, empty + at, empty, self.exchange).max())
            work_s = call.platform.put_work_s(call.record.memory_mb)
            end = _moved(call, link, storage.puts, parts, begin, work_s, self)
            if uploads:
                end += float(_first_bytes_s(call, storage.puts, empty + end, empty, self.exchange).max())
        note_bytes(call, 0.0, total, self.exchange)
        call.record.add_phase(self.phase, at, end)
        if self.ready is not None:
            self.ready.times_s[:] = end
        return end


@dataclass(slots=True)
class PutInOrder(Phase):
    """Upload objects to S3 one after the other; their requests overlap.

    Args:
        sizes: bytes of each object, shape (objects,).
        order: in which they are uploaded, shape (objects,).
        ready: told when each is in S3.
    """

    sizes: np.ndarray
    order: np.ndarray
    ready: Ready
    exchange: bool = True

    def run(self, call: Call, at: float) -> float:
        """Upload them. Raises CallFailed (`s3-error`) where S3 refuses a request too often."""
        sizes = self.sizes[self.order]
        through = call.instance.outbound.stream(at, sizes)
        work_s = call.platform.put_work_s(call.record.memory_mb)
        if work_s:
            through = through + work_s * np.arange(1, len(through) + 1)
        self.ready.times_s[:] = np.inf  # never, if S3 refuses one too often
        ready = through + _first_bytes_s(call, call.platform.storage.puts, through, sizes, self.exchange)
        self.ready.times_s[self.order] = ready
        note_bytes(call, 0.0, float(self.sizes.sum()), self.exchange)
        end = float(ready.max())
        call.record.add_phase("upload", at, end)
        return end


@dataclass(slots=True)
class Pipeline(Phase):
    """Minibatches: download and compute one while the result of the one before is uploaded (Eq. 6).

    Each step ends when both halves have; where the function's own CPU moves bytes, they take turns.

    Args:
        available: when each minibatch is in S3.
        tokens: of each minibatch, shape (minibatches,).
        seconds_per_call, seconds_per_token: compute of a minibatch.
        token_in_bytes, token_out_bytes: D_in and D_o.
        ready: told when each result is in S3.
    """

    available: Ready
    tokens: np.ndarray
    seconds_per_call: float
    seconds_per_token: float
    token_in_bytes: float
    token_out_bytes: float
    ready: Ready | None = None
    phases: tuple[str, str, str] = field(default=("input_download", "compute", "upload"))

    def run(self, call: Call, at: float) -> float:
        """Take the time of all steps, and note when downloads, compute and uploads began and ended.

        Raises CallFailed: `s3-error` where S3 refuses a request too often, `upstream-failed` where a minibatch
        never comes.
        """
        if np.isinf(self.available.times_s).any():
            raise CallFailed("upstream-failed", at)
        storage = call.platform.storage
        with _asking(call, storage.gets, True), _asking(call, storage.puts, True):
            spans = self._spans(call, at)
        total = float(self.tokens.sum())
        note_bytes(call, total * self.token_in_bytes, total * self.token_out_bytes, True)
        for phase, (start, end) in zip(self.phases, spans, strict=True):
            call.record.add_phase(phase, start, end)
        return spans[-1][1]

    def _spans(self, call: Call, began: float) -> list[tuple[float, float]]:
        """When downloads, compute and uploads begin and end, s, if they begin at `began`. Raises StorageError."""
        platform, storage, count = call.platform, call.platform.storage, len(self.tokens)
        get, put = storage.gets.one, storage.puts.one
        get_work_s, put_work_s = (
            work(call.record.memory_mb) for work in (platform.get_work_s, platform.put_work_s)
        )
        download, upload = call.instance.inbound.alone, call.instance.outbound.alone
        work = (self.seconds_per_call + self.tokens * self.seconds_per_token) * platform.compute.jitter.many(count)
        work *= call.instance.slowdown
        in_bytes = (self.tokens * self.token_in_bytes).tolist()
        out_bytes = (self.tokens * self.token_out_bytes).tolist()
        now, sent_bytes, first_compute, first_upload = began, -1.0, began, began
        uploads = []
        for available, work_s, size_in, size_out in zip(
            self.available.times_s.tolist(), work.tolist(), in_bytes, out_bytes, strict=True
        ):
            asked = now if now > available else next_look_s(call, now, available)
            asked += get_work_s
            downloaded = download(asked + get(asked, size_in), size_in)
            computed = downloaded + work_s
            if sent_bytes < 0:  # nothing to upload yet
                first_compute, first_upload, now = downloaded, computed, computed
            else:
                uploaded = upload(now + put_work_s + put(now + put_work_s, sent_bytes), sent_bytes)
                uploads.append(uploaded)
                if platform.own_work.moved_by_cpu:
                    now = computed + (uploaded - now)
                else:
                    now = uploaded if uploaded > computed else computed
            sent_bytes = size_out
        ended = upload(now + put_work_s + put(now + put_work_s, sent_bytes), sent_bytes)
        if self.ready is not None:
            self.ready.times_s[:] = [*uploads, ended]
        return [(began, downloaded), (first_compute, now), (first_upload, ended)]


def note_bytes(call: Call, bytes_in: float, bytes_out: float, exchange: bool) -> None:
    """Count bytes from and to S3 in the call's row, and what they cost by themselves (S3 Express)."""
    record, storage = call.record, call.platform.storage
    record.bytes_in += bytes_in
    record.bytes_out += bytes_out
    if storage.charges_bytes:
        usd = bytes_in * storage.get_usd_per_byte + bytes_out * storage.put_usd_per_byte
        record.request_cost_usd += usd
        record.exchange_cost_usd += usd * exchange


@contextmanager
def _asking(call: Call, requests: Requests, exchange: bool) -> Iterator[None]:
    """Count in the call's row what `requests` serves and refuses meanwhile; a StorageError fails the call."""
    served, refused = requests.served, requests.refused
    try:
        yield
    except StorageError as error:
        raise CallFailed("s3-error", error.at_s) from error
    finally:
        _note_requests(call, requests, requests.served - served, requests.refused - refused, exchange)


def _note_requests(call: Call, requests: Requests, served: int, refused: int, exchange: bool) -> None:
    record = call.record
    record.refused += refused
    if requests is call.platform.storage.gets:
        record.gets += served
        record.exchange_gets += served * exchange
    else:
        record.puts += served
        record.exchange_puts += served * exchange


def _first_byte_s(call: Call, requests: Requests, sent_s: float, size: float, exchange: bool) -> float:
    """From one request (sent at `sent_s`) to its first byte, s; the call's row counts it. Raises CallFailed."""
    call.platform.storage.forget(call.env.now)
    with _asking(call, requests, exchange):
        return requests.one(sent_s, size)


def _first_bytes_s(
    call: Call, requests: Requests, sent_s: np.ndarray, sizes: np.ndarray, exchange: bool
) -> np.ndarray:
    """From each request (sent at `sent_s`, for `sizes` bytes, shapes (requests,)) to its first byte, s.

    Raises CallFailed.
    """
    call.platform.storage.forget(call.env.now)
    with _asking(call, requests, exchange):
        return requests.many(sent_s, sizes)


def _moved(
    call: Call, link: Link, requests: Requests, sizes: np.ndarray, at: float, work_s: float, phase: Get | Put
) -> float:
    """When the last of a phase's objects or parts is through, asked for from `at` on. Raises CallFailed."""
    connections = phase.at_once or len(sizes)
    if connections >= len(sizes):
        sent = _sent(at, len(sizes), work_s)
        return _last(link, sent + _first_bytes_s(call, requests, sent, sizes, phase.exchange), sizes, at)
    call.platform.storage.forget(call.env.now)
    with _asking(call, requests, phase.exchange):
        return link.pool(
            at, sizes.tolist(), connections, lambda now, size: work_s + requests.one(now + work_s, size)
        )


def _sent(at: float, count: int, work_s: float) -> np.ndarray:
    """When each of some requests is sent that the function's vCPU prepares one after the other, s, (count,)."""
    return at + work_s * np.arange(1, count + 1) if work_s else np.full(count, at)


def _last(link: Link, starts: np.ndarray, sizes: np.ndarray, at: float) -> float:
    """When the last of some objects is through, that share a link from their starts on; `at` if there is none."""
    if len(sizes) == 0:
        return at
    return float(link.batch(starts, sizes).max())
