"""A call of a function: where it runs, and the program that it goes through.

A program is a short row of phases, each plain data that nobody changes. A phase that depends on nobody else says
when it ends as soon as it begins (`run`, in `phases`); so a row of them is one event. A phase that meets others
(it waits for an event, or causes one: `invocation`) takes part in simulated time (`meet`). `transfers` has the
phases that move bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, TypeAlias

import simpy

from simulator.cloud.network import Link, LinkRates
from simulator.cloud.platform import Platform
from simulator.cloud.starts import Package
from simulator.records import Record

Steps: TypeAlias = Generator[simpy.Event, Any, float]
Then: TypeAlias = Callable[[Record], None]


class CallFailed(Exception):
    """Raised by a phase: the call ends at `at_s`, billed until then, with this status."""

    def __init__(self, status: str, at_s: float) -> None:
        super().__init__(status)
        self.status, self.at_s = status, at_s


@dataclass(slots=True)
class Instance:
    """One sandbox of a function: serves one call at a time, keeps its network links.

    Attributes:
        expires_s: when it is gone, if it is idle until then. stays_s: how long it stays after its call.
        slowdown: how many times slower it computes than others.
        provisioned: it never expires. initialised: its INIT is done. done: what it remembers of its first calls.
    """

    name: str
    inbound: Link
    outbound: Link
    born_s: float = 0.0
    expires_s: float = math.inf
    stays_s: float = math.inf
    slowdown: float = 1.0
    provisioned: bool = False
    initialised: bool = False
    done: tuple[str, ...] = ()


@dataclass
class Function:
    """A deployed function: its limits, and its instances.

    Attributes:
        name, memory_mb, tmp_mb: what is deployed. package: how; package_bytes: of code beyond a small one.
        timeout_s: a call is ended after so long, and billed for it.
        reserved: concurrency set aside for it, which is also its limit; None: it shares the account's.
        provisioned: instances that are kept initialised for it, and charged for, since `deployed_s`;
            provisioned_init_s: INIT of all that were.
        program: what its calls do that bring no program of their own.
        link: its network both ways; None: the platform's, of its memory.
        running: calls under way. idle: instances, most recently used last. started: instances so far.
        new_instances, refilled_s: the token bucket of instances that may still be started, and when it was so.
    """

    name: str
    memory_mb: int
    package: Package
    timeout_s: float
    package_bytes: float = 0.0
    tmp_mb: int = 512
    reserved: int | None = None
    provisioned: int = 0
    program: Program | None = None
    link: LinkRates | None = None
    deployed_s: float = 0.0
    provisioned_init_s: float = 0.0
    running: int = 0
    idle: list[Instance] = field(default_factory=list)
    started: int = 0
    new_instances: float = 0.0
    refilled_s: float = 0.0

    def take_idle(self, now: float) -> Instance | None:
        """A provisioned instance, else the most recently used idle one that has not expired."""
        idle = self.idle
        if self.provisioned:
            kept = [k for k, instance in enumerate(idle) if instance.provisioned]
            if kept:
                return idle.pop(kept[-1])
        while idle:
            instance = idle.pop()
            if instance.expires_s >= now:
                return instance
        return None


class Service(Protocol):
    """What a phase may ask of the service that its call runs on (`simulator.cloud.lambda_service`)."""

    env: simpy.Environment

    def program_of(self, function: str) -> Program:
        """What a function was deployed with. Raises InputError."""

    def invoke(
        self,
        record: Record,
        program: Program,
        then: Then | None = None,
        *,
        repeatable: bool = True,
        queued: bool = False,
        payload_bytes: float = 0.0,
        payload_s: float | None = None,
        limit_bytes: float | None = None,
    ) -> float:
        """Invoke a function now; returns when the request has arrived."""

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Do something when so many seconds have passed."""


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

    service: Service
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

    def retry_wait_s(self, now: float) -> float | None:
        """How long until this attempt, which has failed, is made again, s; None: never."""
        status, number, retries = self.status, self.record.attempt, self.platform.retries
        ran = status != "throttled"
        if (ran and not self.repeatable) or status == "payload-too-large":
            return None
        if self.queued_s is None:
            again = number < retries.attempts and status in retries.again_after
            return retries.backoff_s(number) if again else None
        queue = self.platform.asynchronous
        self.errors += ran
        if self.errors >= queue.attempts:
            return None
        wait_s = queue.error_waits_s[self.errors - 1] if ran else queue.throttle_wait_s(number)
        return wait_s if now + wait_s - self.queued_s <= queue.age_limit_s else None


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
