"""AWS Lambda: functions and their instances, concurrency, cold and warm starts, failures, retries, billing.

A call whose program meets nobody takes one simulated event, any other a process: the start of an instance is drawn
and added up at once, an idle instance's expiry is looked up when it is next wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import simpy

from moe.errors import InputError
from simulator.network import Link
from simulator.platform import Platform
from simulator.program import (
    Call,
    CallFailed,
    Program,
    Steps,
    Target,
    Then,
    meets_others,
    run_ahead,
    run_through,
    until,
)
from simulator.records import Record

BROKEN = ("timeout", "instance-lost", "out-of-memory")  # the instance is gone


@dataclass(slots=True)
class Instance:
    """One sandbox of a function: serves one call at a time, keeps its network links.

    `slowdown` is how many times slower it computes than others; a `provisioned` one never expires.
    """

    name: str
    inbound: Link
    outbound: Link
    born_s: float
    expires_s: float
    slowdown: float = 1.0
    provisioned: bool = False


@dataclass
class Function:
    """A deployed function: its limits, and its instances.

    Attributes:
        name, memory_mb: what is deployed.
        timeout_s: a call is ended after so long, and billed for it.
        reserved: concurrency set aside for it, which is also its limit; None: it shares the account's.
        provisioned: instances that are kept initialised for it, and charged for, since `deployed_s`.
        program: what its calls do that bring no program of their own.
        running: calls under way. idle: instances, most recently used last. started: instances so far.
        new_instances, refilled_s: the token bucket of instances that may still be started, and when it was so.
    """

    name: str
    memory_mb: int
    timeout_s: float
    reserved: int | None = None
    provisioned: int = 0
    program: Program | None = None
    deployed_s: float = 0.0
    running: int = 0
    idle: list[Instance] = field(default_factory=list)
    started: int = 0
    new_instances: float = 0.0
    refilled_s: float = 0.0


@dataclass(slots=True)
class Attempt:
    """One attempt of a call: what runs where, how it ended, and what is billed from before it started.

    `queued_s` is when the request was put into the asynchronous queue, None for a synchronous call; `errors`
    counts the attempts that ran and failed.
    """

    function: Function
    record: Record
    program: Program
    then: Then | None
    repeatable: bool
    payload_bytes: float
    limit_bytes: float
    queued_s: float | None
    errors: int = 0
    instance: Instance | None = None
    billed_before_s: float = 0.0
    status: str = "ok"

    def again(self) -> Attempt:
        """The next attempt, with a fresh row."""
        row = self.record.again()
        return Attempt(
            self.function,
            row,
            self.program,
            self.then,
            self.repeatable,
            self.payload_bytes,
            self.limit_bytes,
            self.queued_s,
            self.errors,
        )


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
        provisioned: int = 0,
        program: Program | None = None,
    ) -> Function:
        """Deploy a function; a call deploys an unknown one by itself.

        Args:
            name, memory_mb, timeout_s, reserved, program: as in `Function`.
            warm: initialised, idle instances at the start.
            provisioned: instances kept initialised. Their concurrency is set aside from the account's.
        """
        limits, now = self.platform.concurrency, self.env.now
        timeout_s = self.platform.timeout_s if timeout_s is None else timeout_s
        function = Function(
            name, memory_mb, timeout_s, reserved, provisioned, program, now, new_instances=limits.scaling_burst
        )
        function.refilled_s = now
        self._unreserved_limit -= max(reserved or 0, provisioned)
        self.functions[name] = function
        function.idle += [self._new_instance(function) for _ in range(warm)]
        for _ in range(provisioned):
            self._provision(function)
        return function

    def program_of(self, target: Target) -> Program:
        """What a call of the target does. Raises InputError."""
        if target.program is not None:
            return target.program
        function = self.functions.get(target.row.function)
        if function is None or function.program is None:
            raise InputError(f"function: no function '{target.row.function}' with a program is deployed")
        return function.program

    def call(self, record: Record, program: Program) -> simpy.Event:
        """Invoke a function; the event succeeds with the row of the last attempt."""
        done = self.env.event()
        self.invoke(record, program, lambda last: (done.succeed(last), None)[1])
        return done

    def invoke(
        self,
        record: Record,
        program: Program,
        then: Then | None = None,
        *,
        repeatable: bool = True,
        queued: bool = False,
        payload_bytes: float = 0.0,
        limit_bytes: float | None = None,
    ) -> float:
        """Invoke a function now; returns when the request has arrived.

        Args:
            record: says which function and with how much memory; each further attempt has a row of its own.
            program: what the call does.
            then: called with the row of the last attempt, whose `status` says whether it succeeded.
            repeatable: whether work that began and failed may be done again; a throttled call always is.
            queued: the request goes into the asynchronous queue, which has retries of its own.
            payload_bytes: raw bytes of the request. limit_bytes: of the encoded one; None: the platform's.
        """
        function = self.functions.get(record.function) or self.deploy(record.function, record.memory_mb)
        if limit_bytes is None:
            limits = self.platform.asynchronous.limit_bytes, self.platform.payload_limit_bytes
            limit_bytes = limits[0] if queued else limits[1]
        queued_s = self.env.now if queued else None
        return self._send(
            Attempt(function, record, program, then, repeatable, payload_bytes, limit_bytes, queued_s)
        )

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Do something when so many seconds have passed."""
        event = self.env.timeout(seconds)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: (do(), None)[1])

    def charge_provisioned(self) -> None:
        """Leave a row for each function's provisioned instances, from its deployment until now."""
        prices, now = self.platform.prices, self.env.now
        for function in self.functions.values():
            if function.provisioned:
                row = Record(0, 0, "provisioned", function.name, function.memory_mb, status="provisioned")
                row.requested_s = row.started_s = function.deployed_s
                row.ended_s = now
                step_s = prices.provisioned_step_s
                row.billed_s = math.ceil((now - function.deployed_s) / step_s - 1e-9) * step_s
                row.billed_gb_s = row.billed_s * function.provisioned * function.memory_mb / 1024
                row.compute_cost_usd = row.billed_gb_s * prices.provisioned_gb_s
                self._keep(row)

    # -- arriving -----------------------------------------------------------------------------------------

    def _send(self, attempt: Attempt) -> float:
        """A request travels to Lambda, with its payload; returns when it is there."""
        now, size = self.env.now, attempt.payload_bytes
        if size == 0:
            self._arrive(attempt)
            return now
        if size * self.platform.payload_encoding_factor > attempt.limit_bytes:
            self._refuse(attempt, "payload-too-large")
            return now
        seconds = self.platform.payload_seconds(size)
        self.after(seconds, lambda: self._arrive(attempt))
        return now + seconds

    def _arrive(self, attempt: Attempt) -> None:
        """A request is admitted, finds or starts an instance, and runs there."""
        now, function, record = self.env.now, attempt.function, attempt.record
        record.requested_s = now
        attempt.instance = self._take_idle(function, now)
        if not self._admits(function, attempt.instance, now):
            self._refuse(attempt, "throttled")
            return
        function.running += 1
        if function.reserved is None and not (attempt.instance and attempt.instance.provisioned):
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
        record.bytes_in += attempt.payload_bytes
        self._run(attempt, started)

    def _refuse(self, attempt: Attempt, status: str) -> None:
        """429 or 413: nothing runs and nothing is billed."""
        if attempt.instance is not None:
            attempt.function.idle.append(attempt.instance)
        record = attempt.record
        record.requested_s = record.started_s = record.ended_s = self.env.now
        attempt.status = status
        self._conclude(attempt)

    # -- starting -----------------------------------------------------------------------------------------

    def _admits(self, function: Function, instance: Instance | None, now: float) -> bool:
        """Whether the concurrency limits let one more call of the function run; takes from its scaling bucket."""
        limits = self.platform.concurrency
        if instance is not None and instance.provisioned:
            return True
        if function.reserved is not None:
            if function.running >= function.reserved:
                return False
        elif self._unreserved_running >= self._unreserved_limit:
            return False
        if instance is not None:
            return True
        refill = (now - function.refilled_s) * limits.scaling_per_s
        function.new_instances = min(limits.scaling_burst, function.new_instances + refill)
        function.refilled_s = now
        if function.new_instances < 1:
            return False
        function.new_instances -= 1
        return True

    def _take_idle(self, function: Function, now: float) -> Instance | None:
        """A provisioned instance, else the most recently used idle one that has not expired."""
        idle = function.idle
        if function.provisioned:
            kept = [k for k, instance in enumerate(idle) if instance.provisioned]
            if kept:
                return idle.pop(kept[-1])
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
        slowdown = self.platform.straggler_factor if self.platform.stragglers.next() else 1.0
        return Instance(
            f"{function.name}/{function.started}",
            Link(rates, now),
            Link(rates, now),
            now,
            now + self.platform.keep_alive.next(),
            slowdown,
        )

    def _provision(self, function: Function) -> None:
        """One more provisioned instance is idle."""
        instance = self._new_instance(function)
        instance.provisioned, instance.expires_s = True, math.inf
        function.idle.append(instance)

    # -- running ------------------------------------------------------------------------------------------

    def _run(self, attempt: Attempt, started: float) -> None:
        """Run the program from `started` on: at once where it meets nobody, else as a process."""
        assert attempt.instance is not None
        timeout_s, lost_s = attempt.function.timeout_s, self.platform.instance_life.next()
        deadline = "timeout" if timeout_s <= lost_s else "instance-lost"
        deadline_s = started + min(timeout_s, lost_s)
        answers = attempt.queued_s is None
        call = Call(self, self.platform, attempt.instance, attempt.record, deadline_s, deadline, answers)
        if meets_others(attempt.program):
            process = self.env.process(self._steps(attempt, call, started))
            if deadline_s < math.inf:
                end = self.env.timeout(deadline_s - self.env.now)
                end.callbacks.append(lambda _: process.interrupt() if process.is_alive else None)
            return
        try:
            ended = run_ahead(attempt.program, call, started)
            if self.platform.handler_error.next():
                attempt.status = "handler-error"
        except CallFailed as failure:
            ended, attempt.status = failure.at_s, failure.status
        if ended > deadline_s:
            ended, attempt.status = deadline_s, deadline
        over = self.env.timeout(ended - self.env.now, attempt)
        over.callbacks.append(self._on_end)

    def _on_end(self, event: simpy.Event) -> None:
        attempt: Attempt = event.value  # type: ignore[assignment]
        self._leave(attempt)
        self._conclude(attempt)

    def _steps(self, attempt: Attempt, call: Call, started: float) -> Steps:
        """The program as a process, and what its failure means for the attempt."""
        try:
            try:
                ended = yield from run_through(attempt.program, call, started)
                if self.platform.handler_error.next():
                    attempt.status = "handler-error"
            except CallFailed as failure:
                ended, attempt.status = failure.at_s, failure.status
            yield from until(self.env, ended)
        except simpy.Interrupt:
            ended, attempt.status = call.deadline_s, call.deadline
        self._leave(attempt)
        self._conclude(attempt)
        return ended

    # -- ending -------------------------------------------------------------------------------------------

    def _leave(self, attempt: Attempt) -> None:
        """The call is over: charge it; its instance is idle, or gone where the call broke it."""
        now, function, instance = self.env.now, attempt.function, attempt.instance
        assert instance is not None
        attempt.record.ended_s = now
        if attempt.status in BROKEN:
            attempt.record.end_phases(now)
        self._charge(attempt.record, attempt.billed_before_s + now - attempt.record.started_s, instance)
        function.running -= 1
        if function.reserved is None and not instance.provisioned:
            self._unreserved_running -= 1
        if attempt.status in BROKEN:
            if instance.provisioned:
                self._replace_provisioned(function)
        elif instance.provisioned:
            function.idle.append(instance)
        elif now - instance.born_s < self.platform.instance_age_s:
            instance.expires_s = now + self.platform.keep_alive.next()
            function.idle.append(instance)

    def _replace_provisioned(self, function: Function) -> None:
        """A provisioned instance is gone: another one is there after provisioning and INIT."""
        seconds = self.platform.provisioning.next() + self.platform.init.next()
        self.after(seconds, lambda: self._provision(function))

    def _conclude(self, attempt: Attempt) -> None:
        """An attempt is over: keep its row, and try again or tell the caller."""
        record = attempt.record
        record.status = attempt.status
        self._keep(record)
        wait_s = None if record.status == "ok" else self._wait_s(attempt)
        if wait_s is None:
            if attempt.then is not None:
                attempt.then(record)
            return
        again = attempt.again()
        self.after(wait_s, lambda: self._send(again))

    def _wait_s(self, attempt: Attempt) -> float | None:
        """How long until a failed attempt is made again, s; None: never."""
        status, number, retries = attempt.status, attempt.record.attempt, self.platform.retries
        ran = status != "throttled"
        if (ran and not attempt.repeatable) or status == "payload-too-large":
            return None
        if attempt.queued_s is None:
            again = number < retries.attempts and status in retries.again_after
            return retries.backoff_s(number) if again else None
        queue = self.platform.asynchronous
        attempt.errors += ran
        if attempt.errors >= queue.attempts:
            return None
        wait_s = queue.error_waits_s[attempt.errors - 1] if ran else queue.throttle_wait_s(number)
        return wait_s if self.env.now + wait_s - attempt.queued_s <= queue.age_limit_s else None

    def _charge(self, record: Record, duration_s: float, instance: Instance) -> None:
        prices = self.platform.prices
        record.billed_s = prices.billed_s(duration_s)
        record.billed_gb_s = record.billed_s * record.memory_mb / 1024
        gb_s = prices.provisioned_duration_gb_s if instance.provisioned else prices.gb_s
        record.compute_cost_usd = record.billed_gb_s * gb_s
        record.exchange_cost_usd += record.exchange_puts * prices.put + record.exchange_gets * prices.get
        record.request_cost_usd += prices.invocation + record.puts * prices.put + record.gets * prices.get
