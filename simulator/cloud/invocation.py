"""Phases that meet others: they wait for an event, cause one, or invoke functions. Chains, fan-out, fan-in."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import simpy

from simulator.cloud.call import Call, CallFailed, Phase, Program, Service, Steps, Then, until
from simulator.cloud.network import Link
from simulator.cloud.phases import response_bytes
from simulator.records import Record


class Latch:
    """Counts down to an event that others wait for.

    Args:
        env: the SimPy environment.
        left: calls that have not ended yet, or 1 for a signal.

    Attributes:
        ended: succeeds when all have ended well, or one has failed for good. failed: its row.
    """

    def __init__(self, env: simpy.Environment, left: int = 1) -> None:
        self.left, self.ended = left, env.event()
        self.failed: Record | None = None

    def count_down(self, last: Record | None = None) -> None:
        """One less is left; `last` is the row of a call's last attempt."""
        self.left -= 1
        if last is not None and last.status != "ok":
            self.give_up(last)
        elif self.left == 0 and not self.ended.triggered:
            self.ended.succeed()

    def give_up(self, row: Record) -> None:
        """It will not happen any more: `row` failed."""
        if not self.ended.triggered:
            self.failed = row
            self.ended.succeed()

    def wait(self, call: Call, at: float) -> Generator[simpy.Event, Any, None]:
        """Wait, from `at` on, for the end. Raises CallFailed (`upstream-failed`) where it will not come."""
        if not self.ended.processed:
            yield self.ended
        if self.failed is not None:
            raise CallFailed("upstream-failed", max(at, call.env.now))


@dataclass(slots=True)
class WaitFor(Phase):
    """Wait, billed, until something has happened and the function has seen it (`next_look_s`)."""

    alone: ClassVar[bool] = False
    latch: Latch

    def meet(self, call: Call, at: float) -> Steps:
        """Wait; no time passes if it has happened. Raises CallFailed (`upstream-failed`) where it never will."""
        yield from self.latch.wait(call, at)
        end = next_look_s(call, at, call.env.now)
        if end > at:
            call.record.add_phase("wait", at, end)
        return end


def next_look_s(call: Call, at: float, happened: float) -> float:
    """When a call that waits from `at` on sees what `happened`: at once, or at its next look into S3.

    It looks with a GET, which takes its work and the median latency, and counts, and again the platform's `poll_s`
    after the answer; 0: it is told.
    """
    platform = call.platform
    poll_s = platform.own_work.poll_s
    if happened <= at or poll_s == 0:
        return max(at, happened)
    between = poll_s + platform.storage.gets.latency.median + platform.get_work_s(call.record.memory_mb)
    looks = math.ceil((happened - at) / between)
    call.record.gets += looks
    return at + looks * between


@dataclass(slots=True)
class Signal(Phase):
    """Count a latch down."""

    alone: ClassVar[bool] = False
    latch: Latch

    def meet(self, call: Call, at: float) -> Steps:
        """Let it happen now."""
        yield from until(call.env, at)
        self.latch.count_down()
        return at


@dataclass(slots=True)
class Target:
    """A function to invoke.

    Args:
        row: what stands in its row from the start; batch and step are the caller's.
        program: what the call does; None: what the function was deployed with.
        payload_bytes: raw bytes of the request. limit_bytes: of the encoded one; None: the platform's.
        delay_s: invoked so long after the phase begins.
        then: called with the row of the last attempt.
        instead: called where that failed; what to invoke in its place, or nothing.
        repeatable: whether a call that began and failed may be tried again.
    """

    row: Record
    program: Program | None = None
    payload_bytes: float = 0.0
    limit_bytes: float | None = None
    delay_s: float = 0.0
    then: Then | None = None
    instead: Callable[[Record], tuple[Target, ...]] | None = None
    repeatable: bool = True

    def program_on(self, service: Service) -> Program:
        """What the call does there. Raises InputError: it was deployed without a program."""
        return service.program_of(self.row.function) if self.program is None else self.program


@dataclass(slots=True)
class Invoke(Phase):
    """Invoke functions, all at once.

    Args:
        targets: which.
        wait: whether the call waits, billed, for all of them; it fails (`upstream-failed`) if one fails for good.
        queued: put the requests into Lambda's asynchronous queue. Else the caller's own retries apply.
        latch: counts the ended calls down, for whoever waits elsewhere; None: one for each run of the phase.
        phase: what sending the payloads is called in the call's row.
    """

    alone: ClassVar[bool] = False
    targets: tuple[Target, ...]
    wait: bool
    queued: bool = False
    latch: Latch | None = None
    phase: str = "upload"

    def meet(self, call: Call, at: float) -> Steps:
        """Send the requests, then wait for the answers or go on. Raises CallFailed."""
        env = call.env
        yield from until(env, at)
        latch = self.latch or Latch(env, len(self.targets))
        sharing = zip(self.targets, self._payloads_s(call), strict=True)
        sent_s = max([self._send(call, target, latch, payload_s) for target, payload_s in sharing], default=at)
        if sent_s > at:
            call.record.add_phase(self.phase, at, sent_s)
        if not self.wait:
            return max(at, sent_s)
        yield from latch.wait(call, sent_s)
        if env.now > sent_s:
            call.record.add_phase("wait", sent_s, env.now)
        call.record.bytes_in += sum(response_bytes(target.program_on(call.service)) for target in self.targets)
        return max(sent_s, env.now)

    def _payloads_s(self, call: Call) -> list[float | None]:
        """What each target's payload takes where they share what the function can send; None: alone."""
        payload = call.platform.payload
        rates = payload.rates(call.record.memory_mb)
        sizes = np.array([target.payload_bytes * payload.encoding_factor for target in self.targets])
        if math.isinf(rates.function) or not sizes.any():
            return [None] * len(self.targets)
        return [float(x) for x in Link(rates, 0.0).batch(np.zeros(len(sizes)), sizes)]

    def _send(self, call: Call, target: Target, latch: Latch, payload_s: float | None = None) -> float:
        """Invoke a target; returns when the request has been sent, or now if that is later."""
        row, env = target.row.again(1, call.record.batch, call.record.step), call.env
        row.caller = call.record.function
        call.record.bytes_out += target.payload_bytes

        def ended(last: Record) -> None:
            if self.wait and not self.queued and math.isnan(call.record.ended_s):  # sent again with each attempt
                call.record.bytes_out += target.payload_bytes * (last.attempt - 1)
            instead = target.instead(last) if target.instead is not None and last.status != "ok" else ()
            if instead:
                latch.left += len(instead) - 1
                for each in instead:
                    self._send(call, each, latch)
                return
            if target.then is not None:
                target.then(last)
            latch.count_down(last)

        def send() -> float:
            return call.service.invoke(
                row,
                target.program_on(call.service),
                ended,
                repeatable=target.repeatable,
                queued=self.queued,
                payload_bytes=target.payload_bytes,
                payload_s=payload_s,
                limit_bytes=target.limit_bytes,
            )

        if target.payload_bytes > 0 and target.delay_s == 0:
            return send()
        call.service.after(target.delay_s, send)
        return env.now
