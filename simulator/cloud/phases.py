"""Phases that depend on nobody: sleep, compute, need memory, fail, load at a first call, return a response."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from moe.errors import InputError
from simulator.cloud.call import Call, CallFailed, Phase, Program, meets_others, run_ahead
from simulator.draws import Chances
from simulator.plan import MB


@dataclass(slots=True)
class Sleep(Phase):
    """Take a time that does not depend on the function.

    Args:
        times: each attempt takes `seconds` times the next of these; None: once.
        gets: S3 requests that it stands for.
    """

    seconds: float
    phase: str = "wait"
    times: Iterator[float] | None = None
    gets: int = 0

    def run(self, call: Call, at: float) -> float:
        """Take `seconds`."""
        call.record.gets += self.gets
        seconds = self.seconds if self.times is None else self.seconds * next(self.times)
        call.record.add_phase(self.phase, at, at + seconds)
        return at + seconds


@dataclass(slots=True)
class Compute(Phase):
    """Compute, times the platform's jitter, and slower on an instance that is a straggler.

    Args:
        seconds: at the function's memory, whatever that is.
        vcpu_s: work that takes one vCPU so many seconds. flops: the same in FLOPs.
        threads: that share `vcpu_s` and `flops`; None: as many as the function sees cores.
        waits_s: for something outside in between. A function that has less than its threads could use is stopped
            for part of the time, in which it may as well wait: work at full speed and waiting take no longer.
        synced_bytes: of files in /tmp, for which it waits in the same way until they are on disk (fsync).
        times: each attempt does this work times the next of these; None: once.
    """

    seconds: float = 0.0
    vcpu_s: float = 0.0
    flops: float = 0.0
    threads: int | None = None
    waits_s: float = 0.0
    synced_bytes: float = 0.0
    times: Iterator[float] | None = None

    def run(self, call: Call, at: float) -> float:
        """Take the time."""
        platform, seconds, vcpus = call.platform, self.seconds, 1.0
        if self.vcpu_s or self.flops:
            vcpus = platform.compute.vcpus(call.record.memory_mb, self.threads)
            seconds += (self.vcpu_s + self.flops / platform.compute.flops_per_vcpu) / vcpus
        if self.times is not None:
            seconds *= next(self.times)
        seconds *= platform.compute.jitter.next() * call.instance.slowdown
        waits_s = self.waits_s + self.synced_bytes / platform.compute.sync_bytes_per_s * call.instance.slowdown
        if waits_s:
            at_full_speed = vcpus / platform.compute.vcpus_unthrottled(call.record.memory_mb, self.threads)
            seconds = max(seconds, seconds * at_full_speed + waits_s)
        end = at + seconds
        call.record.add_phase("compute", at, end)
        return end


@dataclass(slots=True)
class Allocate(Phase):
    """Need memory: a function that has less is killed (Runtime.OutOfMemory), billed until then."""

    needed_bytes: float

    def run(self, call: Call, at: float) -> float:
        """Take no time. Raises CallFailed (`out-of-memory`)."""
        if self.needed_bytes > call.record.memory_mb * MB:
            raise CallFailed("out-of-memory", at)
        return at


@dataclass(slots=True)
class Fail(Phase):
    """End the call with an error of its handler, always or by chance."""

    status: str = "failed"
    chance: Chances | None = None

    def run(self, call: Call, at: float) -> float:
        """Take no time. Raises CallFailed."""
        if self.chance is None or self.chance.next():
            raise CallFailed(self.status, at)
        return at


@dataclass(slots=True)
class FirstCall(Phase):
    """Phases of an instance's first call (imports, a model's load), done again by the next one if they fail.

    An instance that was warm or provisioned from the start has done its INIT, not these unless it was deployed so.

    Args:
        program: the phases. name: what the instance remembers them by.

    Raises:
        InputError: one of them meets others.
    """

    program: Program
    name: str

    def __post_init__(self) -> None:
        if meets_others(self.program):
            raise InputError("FirstCall: expected phases that depend on nobody")

    def run(self, call: Call, at: float) -> float:
        """Take their time once. Raises CallFailed."""
        done = call.instance.done
        if self.name not in done:
            at = run_ahead(self.program, call, at)
            call.instance.done = (*done, self.name)
        return at


@dataclass(slots=True)
class Return(Phase):
    """Send a response of `size` bytes, encoded, to the caller that waits; nobody waits for that of a queued call.

    Args:
        size: raw bytes. limit_bytes: of the encoded response; None: the platform's.
    """

    size: float
    limit_bytes: float | None = None

    def run(self, call: Call, at: float) -> float:
        """Take the payload's time. Raises CallFailed (`response-too-large`)."""
        if call.queued_s is not None:
            return at
        limit = call.platform.payload.limit_bytes if self.limit_bytes is None else self.limit_bytes
        if self.size * call.platform.payload.encoding_factor > limit:
            raise CallFailed("response-too-large", at)
        end = at + call.platform.payload.seconds(self.size, call.record.memory_mb)
        call.record.bytes_out += self.size
        call.record.add_phase("upload", at, end)
        return end


def response_bytes(program: Program) -> float:
    """Raw bytes that a program returns."""
    return sum(phase.size for phase in program if isinstance(phase, Return))
