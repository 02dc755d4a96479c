"""What a function does: a program, which is a short row of phases, each plain data that nobody changes.

A phase that depends on nobody else says when it ends as soon as it begins (`run`); so a row of them is one event.
A phase that meets others (it waits for an event, or causes one: `invocation`) takes part in simulated time
(`meet`). Phases that move bytes are in `transfers`; the MoE layer (`simulator.serving`) is made of these three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import simpy

from moe.errors import InputError
from simulator.draws import Chances
from simulator.records import Record

if TYPE_CHECKING:
    from simulator.cloud.lambda_service import LambdaService
    from simulator.cloud.platform import Platform
    from simulator.functions import Function, Instance

MB = 2**20
Steps: TypeAlias = Generator[simpy.Event, Any, float]
Then: TypeAlias = Callable[[Record], None]


class CallFailed(Exception):
    """Raised by a phase: the call ends at `at_s`, billed until then, with this status."""

    def __init__(self, status: str, at_s: float) -> None:
        super().__init__(status)
        self.status, self.at_s = status, at_s


@dataclass(slots=True)
class Call:
    """One attempt of a call: what runs where, and how it ended. A phase sees it as what it is part of.

    Attributes:
        service, platform: where it runs. function, record, program: what runs, and its row.
        then: called with the row of the last attempt.
        repeatable: whether work that began and failed may be done again; a throttled call always is.
        payload_bytes: raw bytes of the request. payload_s: what they take to be transferred, beside the
            overhead; None: what they take alone. limit_bytes: of the encoded request.
        queued_s: when the request was put into the asynchronous queue, s; None: a caller waits for the response.
        errors: attempts that ran and failed. status: how this one ended.
        instance: where it runs, once it does.
        deadline_s: when it is broken off, with the status `deadline`.
        billed_before_s: what is billed from before it started.
    """

    service: LambdaService
    platform: Platform
    function: Function
    record: Record
    program: Program
    then: Then | None = None
    repeatable: bool = True
    payload_bytes: float = 0.0
    payload_s: float | None = None
    limit_bytes: float = math.inf
    queued_s: float | None = None
    errors: int = 0
    status: str = "ok"
    instance: Instance = field(init=False)
    deadline_s: float = math.inf
    deadline: str = "timeout"
    billed_before_s: float = 0.0

    @property
    def env(self) -> simpy.Environment:
        """The SimPy environment."""
        return self.service.env

    def again(self) -> Call:
        """The next attempt, with a fresh row."""
        return replace(self, record=self.record.again(), status="ok", deadline="timeout", billed_before_s=0.0)


class Phase:
    """One step of a program: `run` where it depends on nobody else; `meet`, with `alone` False, where it does."""

    __slots__ = ()
    alone: ClassVar[bool] = True

    def run(self, call: Call, at: float) -> float:
        """Do it, from `at` (s) on; returns when it ends. Raises CallFailed."""
        raise TypeError(f"{type(self).__name__} meets others: it cannot be reckoned ahead")

    def meet(self, call: Call, at: float) -> Steps:
        """The same, for a phase that waits for others or that others wait for."""
        yield from ()
        return self.run(call, at)


Program: TypeAlias = tuple[Phase, ...]


def meets_others(program: Program) -> bool:
    """Whether a program takes part in simulated time before its end."""
    for phase in program:  # noqa: SIM110 -- any() with a generator takes three times as long
        if not phase.alone:
            return True
    return False


def run_ahead(program: Program, call: Call, at: float) -> float:
    """When a program ends that meets nobody. Raises CallFailed."""
    for phase in program:
        at = phase.run(call, at)
        if at > call.deadline_s:
            raise CallFailed(call.deadline, call.deadline_s)
    return at


def run_through(program: Program, call: Call, at: float) -> Steps:
    """A program as SimPy's steps; its value is when it ends. Raises CallFailed."""
    for phase in program:
        at = phase.run(call, at) if phase.alone else (yield from phase.meet(call, at))
        if at > call.deadline_s:
            raise CallFailed(call.deadline, call.deadline_s)
    return at


def until(env: simpy.Environment, at: float) -> Generator[simpy.Event, Any, None]:
    """Let simulated time come to `at`."""
    if at > env.now:
        yield env.timeout(at - env.now)


# -- phases that depend on nobody -------------------------------------------------------------------------


@dataclass(slots=True)
class Sleep(Phase):
    """Take a time that does not depend on the function.

    Args:
        times: each attempt takes `seconds` times the next of these; None: once.
    """

    seconds: float
    phase: str = "wait"
    times: Iterator[float] | None = None

    def run(self, call: Call, at: float) -> float:
        """Take `seconds`."""
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
        times: each attempt does this work times the next of these; None: once.
    """

    seconds: float = 0.0
    vcpu_s: float = 0.0
    flops: float = 0.0
    threads: int | None = None
    times: Iterator[float] | None = None

    def run(self, call: Call, at: float) -> float:
        """Take the time."""
        platform, seconds = call.platform, self.seconds
        if self.vcpu_s or self.flops:
            vcpus = platform.speed(call.record.memory_mb, self.threads)
            seconds += (self.vcpu_s + self.flops / platform.flops_per_vcpu) / vcpus
        if self.times is not None:
            seconds *= next(self.times)
        end = at + seconds * platform.jitter.next() * call.instance.slowdown
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

    An instance that was warm or provisioned from the start has done its INIT, not these.

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
        limit = call.platform.payload_limit_bytes if self.limit_bytes is None else self.limit_bytes
        if self.size * call.platform.payload_encoding_factor > limit:
            raise CallFailed("response-too-large", at)
        end = at + call.platform.payload_seconds(self.size, call.record.memory_mb)
        call.record.bytes_out += self.size
        call.record.add_phase("upload", at, end)
        return end


def response_bytes(program: Program) -> float:
    """Raw bytes that a program returns."""
    return sum(phase.size for phase in program if isinstance(phase, Return))
