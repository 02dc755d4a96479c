"""AWS Lambda: functions and their instances, concurrency, cold and warm starts, failures, retries, billing.

A call takes one simulated event where its work is a duration, and a process where its work is a program: the start
of an instance is drawn and added up at once, an idle instance's expiry is looked up when it is next wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import simpy

from simulator.network import Link
from simulator.platform import Platform
from simulator.records import Record

Steps: TypeAlias = Generator[simpy.Event, Any, None]


class CallFailed(Exception):
    """Raised inside a handler: the call ends, billed until now, with this status."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


@dataclass(slots=True)
class Instance:
    """One sandbox of a function: serves one call at a time, keeps its network links."""

    name: str
    inbound: Link
    outbound: Link
    born_s: float
    expires_s: float


@dataclass(frozen=True)
class Call:
    """What a handler sees of the call that it serves."""

    env: simpy.Environment
    platform: Platform
    instance: Instance
    record: Record


Handler: TypeAlias = Callable[[Call], Steps]
Work: TypeAlias = float | Handler
Then: TypeAlias = Callable[[Record], None]


@dataclass
class Function:
    """A deployed function: its limits, and its instances.

    Attributes:
        name, memory_mb: what is deployed.
        timeout_s: a call is ended after so long, and billed for it.
        reserved: concurrency set aside for it, which is also its limit; None: it shares the account's.
        running: calls under way. idle: instances, most recently used last. started: instances so far.
        new_instances, refilled_s: the token bucket of instances that may still be started, and when it was so.
    """

    name: str
    memory_mb: int
    timeout_s: float
    reserved: int | None = None
    running: int = 0
    idle: list[Instance] = field(default_factory=list)
    started: int = 0
    new_instances: float = 0.0
    refilled_s: float = 0.0


@dataclass(slots=True)
class Attempt:
    """One attempt of a call: what runs where, how it ended, and what is billed from before its handler started."""

    function: Function
    record: Record
    work: Work
    then: Then | None
    repeatable: bool
    instance: Instance | None
    billed_before_s: float = 0.0
    status: str = "ok"


class LambdaService:
    """Runs work on instances and bills it. Every attempt of a call leaves one row.

    An idle instance is reused most recently used first and is gone after its keep-alive; without one the call
    starts an instance: provisioning, then INIT. A call beyond a concurrency limit is throttled. A failed attempt
    is tried again after a backoff, as often as the platform's retry policy says; then the call has failed.

    Args:
        env: the SimPy environment.
        platform: constants and random streams.
        keep: what becomes of a finished row; by default all are kept in `records`.
    """

    def __init__(self, env: simpy.Environment, platform: Platform, keep: Then | None = None) -> None:
        self.env = env
        self.platform = platform
        self.records: list[Record] = []
        self.functions: dict[str, Function] = {}
        self._keep = keep or self.records.append
        self._unreserved_running = 0
        self._unreserved_limit = platform.concurrency.account

    def deploy(
        self,
        name: str,
        memory_mb: int,
        *,
        timeout_s: float | None = None,
        reserved: int | None = None,
        warm: int = 0,
    ) -> Function:
        """Deploy a function, with `warm` initialised, idle instances; a call deploys an unknown one by itself."""
        limits = self.platform.concurrency
        timeout_s = self.platform.timeout_s if timeout_s is None else timeout_s
        function = Function(name, memory_mb, timeout_s, reserved, new_instances=limits.scaling_burst)
        function.refilled_s = self.env.now
        self._unreserved_limit -= reserved or 0
        self.functions[name] = function
        function.idle += [self._new_instance(function) for _ in range(warm)]
        return function

    def call(self, record: Record, handler: Handler) -> simpy.Event:
        """Invoke a function; the event succeeds with the row of the last attempt."""
        done = self.env.event()
        self.invoke(record, handler, lambda last: (done.succeed(last), None)[1])
        return done

    def invoke(self, record: Record, work: Work, then: Then | None = None, repeatable: bool = True) -> None:
        """Invoke a function now.

        Args:
            record: says which function and with how much memory; each further attempt has a row of its own.
            work: seconds of work, or a handler.
            then: called with the row of the last attempt, whose `status` says whether it succeeded.
            repeatable: whether work that began and failed may be done again; a throttled call always is.
        """
        now = self.env.now
        record.requested_s = now
        function = self.functions.get(record.function) or self.deploy(record.function, record.memory_mb)
        attempt = Attempt(function, record, work, then, repeatable, self._take_idle(function, now))
        if not self._admits(function, attempt.instance is None, now):
            self._throttle(attempt)
            return
        function.running += 1
        if function.reserved is None:
            self._unreserved_running += 1
        started = now + self.platform.warm_start.next()
        record.phases["queue"] = (now, started)
        if self.platform.prices.warm_start_is_billed:
            attempt.billed_before_s = started - now
        if attempt.instance is None:
            attempt.instance = self._new_instance(function)
            started = self._cold_start(attempt, started)
        record.instance = attempt.instance.name
        record.started_s = started
        if isinstance(work, float):
            self._run_for(attempt, work, started)
        else:
            self._run_handler(attempt, work, started)

    def _throttle(self, attempt: Attempt) -> None:
        """429: nothing runs and nothing is billed."""
        if attempt.instance is not None:
            attempt.function.idle.append(attempt.instance)
        attempt.record.started_s = attempt.record.ended_s = self.env.now
        attempt.status = "throttled"
        self._conclude(attempt)

    # -- starting -----------------------------------------------------------------------------------------

    def _admits(self, function: Function, needs_instance: bool, now: float) -> bool:
        """Whether the concurrency limits let one more call of the function run; takes from its scaling bucket."""
        limits = self.platform.concurrency
        if function.reserved is not None:
            if function.running >= function.reserved:
                return False
        elif self._unreserved_running >= self._unreserved_limit:
            return False
        if not needs_instance:
            return True
        refill = (now - function.refilled_s) * limits.scaling_per_s
        function.new_instances = min(limits.scaling_burst, function.new_instances + refill)
        function.refilled_s = now
        if function.new_instances < 1:
            return False
        function.new_instances -= 1
        return True

    def _take_idle(self, function: Function, now: float) -> Instance | None:
        """The most recently used idle instance that has not expired."""
        idle = function.idle
        while idle:
            instance = idle.pop()
            if instance.expires_s >= now:
                return instance
        return None

    def _cold_start(self, attempt: Attempt, now: float) -> float:
        """Provisioning and INIT from `now` on; returns when the handler starts.

        An INIT over the limit is broken off there, and done again as part of the first call.
        """
        platform, record = self.platform, attempt.record
        record.cold = True
        provisioned = now + platform.provisioning.next()
        init_s = platform.init.next()
        if init_s > platform.init_limit_s:
            init_s += platform.init_limit_s
        record.phases["provisioning"] = (now, provisioned)
        record.phases["init"] = (provisioned, provisioned + init_s)
        attempt.billed_before_s += init_s if platform.prices.init_is_billed else 0.0
        return provisioned + init_s

    def _new_instance(self, function: Function) -> Instance:
        function.started += 1
        rates = self.platform.link_rates(function.memory_mb)
        now = self.env.now
        links = Link(self.env, rates), Link(self.env, rates)
        return Instance(f"{function.name}/{function.started}", *links, now, now + self.platform.keep_alive.next())

    # -- running ------------------------------------------------------------------------------------------

    def _run_for(self, attempt: Attempt, seconds: float, started: float) -> None:
        """Work for a duration: how it ends is known beforehand, so it takes one event."""
        platform, timeout_s = self.platform, attempt.function.timeout_s
        seconds *= platform.jitter.next()
        lost_s = platform.instance_life.next()
        if seconds > timeout_s or seconds > lost_s:
            attempt.status = "timeout" if timeout_s <= lost_s else "instance-lost"
            seconds = min(timeout_s, lost_s)
        elif platform.handler_error.next():
            attempt.status = "handler-error"
        attempt.record.phases["compute"] = (started, started + seconds)
        end = self.env.timeout(started + seconds - self.env.now, attempt)
        end.callbacks.append(self._on_end)

    def _on_end(self, event: simpy.Event) -> None:
        attempt: Attempt = event.value  # type: ignore[assignment]
        self._leave(attempt)
        self._conclude(attempt)

    def _run_handler(self, attempt: Attempt, handler: Handler, started: float) -> None:
        """Run a handler as a process from `started` on, which a deadline may break off."""

        def begin(_: simpy.Event) -> None:
            process = self.env.process(self._guarded(attempt, handler))
            timeout_s, lost_s = attempt.function.timeout_s, self.platform.instance_life.next()
            if min(timeout_s, lost_s) < math.inf:
                cause = "timeout" if timeout_s <= lost_s else "instance-lost"
                deadline = self.env.timeout(min(timeout_s, lost_s))
                deadline.callbacks.append(lambda _: process.interrupt(cause) if process.is_alive else None)

        self.env.timeout(started - self.env.now).callbacks.append(begin)

    def _guarded(self, attempt: Attempt, handler: Handler) -> Steps:
        """The handler, and what its failure means for the attempt."""
        assert attempt.instance is not None
        try:
            yield from handler(Call(self.env, self.platform, attempt.instance, attempt.record))
            if self.platform.handler_error.next():
                attempt.status = "handler-error"
        except CallFailed as failure:
            attempt.status = failure.status
        except simpy.Interrupt as broken:
            attempt.status = str(broken.cause)
        self._leave(attempt)
        self._conclude(attempt)

    # -- ending -------------------------------------------------------------------------------------------

    def _leave(self, attempt: Attempt) -> None:
        """The call is over: charge it; its instance is idle, or gone where the call broke it."""
        now, function, instance = self.env.now, attempt.function, attempt.instance
        attempt.record.ended_s = now
        self._charge(attempt.record, attempt.billed_before_s + now - attempt.record.started_s)
        function.running -= 1
        if function.reserved is None:
            self._unreserved_running -= 1
        assert instance is not None
        survives = attempt.status not in ("timeout", "instance-lost", "out-of-memory")
        if survives and now - instance.born_s < self.platform.instance_age_s:
            instance.expires_s = now + self.platform.keep_alive.next()
            function.idle.append(instance)

    def _conclude(self, attempt: Attempt) -> None:
        """An attempt is over: keep its row, and try again or tell the caller."""
        record, retries = attempt.record, self.platform.retries
        record.status = attempt.status
        self._keep(record)
        may_repeat = attempt.repeatable or record.status == "throttled"
        if record.status == "ok" or record.attempt >= retries.attempts or not may_repeat:
            if attempt.then is not None:
                attempt.then(record)
            return
        arguments = _next_attempt(record), attempt.work, attempt.then, attempt.repeatable
        backoff = self.env.timeout(retries.backoff_s(record.attempt))
        backoff.callbacks.append(lambda _: self.invoke(*arguments))

    def _charge(self, record: Record, duration_s: float) -> None:
        prices = self.platform.prices
        record.billed_s = prices.billed_s(duration_s)
        record.billed_gb_s = record.billed_s * record.memory_mb / 1024
        record.compute_cost_usd = record.billed_gb_s * prices.gb_s
        record.exchange_cost_usd += record.exchange_puts * prices.put + record.exchange_gets * prices.get
        record.request_cost_usd += prices.invocation + record.puts * prices.put + record.gets * prices.get


def _next_attempt(record: Record) -> Record:
    """A fresh row for the next attempt of a call."""
    return Record(
        batch=record.batch,
        step=record.step,
        layer=record.layer,
        role=record.role,
        function=record.function,
        memory_mb=record.memory_mb,
        expert=record.expert,
        replica=record.replica,
        tokens=record.tokens,
        attempt=record.attempt + 1,
    )
