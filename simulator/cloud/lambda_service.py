"""AWS Lambda: calls of functions from arrival to end; cold and warm starts, failures, retries, billing.

A call whose program meets nobody takes one simulated event, any other a process: the start of an instance is drawn
and added up at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import simpy

from moe.errors import InputError
from simulator.cloud.billing import Meter
from simulator.cloud.call import (
    Call,
    CallFailed,
    Function,
    Program,
    Steps,
    Then,
    meets_others,
    run_ahead,
    run_through,
    until,
)
from simulator.cloud.instances import Instances
from simulator.cloud.network import LinkRates
from simulator.cloud.phases import Sleep
from simulator.cloud.platform import Platform
from simulator.records import Record

BROKEN = ("timeout", "instance-lost", "out-of-memory")  # the instance is gone


class Prewarming(Protocol):
    """A policy that starts instances before they are asked for, by calls of its own (`LambdaService.ping`)."""

    def arrived(self, service: LambdaService, function: Function) -> None:
        """Called when a call of the function arrives, whatever becomes of it; not for the policy's own."""


class LambdaService:
    """Runs work on instances and bills it. Every attempt of a call leaves one row.

    A call that finds no idle instance starts one: provisioning, then INIT. A call beyond a concurrency limit is
    throttled. A failed attempt is tried again after a backoff, as often as the platform's retry policy says; then
    the call has failed.

    Args:
        env: the SimPy environment.
        platform: constants and random streams.
        keep: what becomes of a finished row; by default all are kept in `records`.
        prewarming: a policy that starts instances ahead.
        instances, meter: instead of those of the platform.
    """

    def __init__(
        self,
        env: simpy.Environment,
        platform: Platform,
        keep: Then | None = None,
        prewarming: Prewarming | None = None,
        instances: Instances | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.env = env
        self.platform = platform
        self.records: list[Record] = []
        self.functions: dict[str, Function] = {}
        self._keep = keep or self.records.append
        self._prewarming = prewarming
        self._meter = meter or Meter(platform.prices)
        self._instances = instances or Instances(env, platform)

    def deploy(
        self,
        name: str,
        memory_mb: int,
        *,
        package: str | None = None,
        package_bytes: float = 0.0,
        tmp_mb: int = 512,
        timeout_s: float | None = None,
        reserved: int | None = None,
        warm: int = 0,
        provisioned: int = 0,
        done: tuple[str, ...] = (),
        program: Program | None = None,
        link: LinkRates | None = None,
    ) -> Function:
        """Deploy a function; a call deploys an unknown one by itself.

        Args:
            name, memory_mb, package_bytes, tmp_mb, timeout_s, reserved, program, link: as in `Function`.
            package: name of one of the platform's; None: its default.
            warm: initialised, idle instances at the start.
            provisioned: instances kept initialised. Their concurrency is set aside from the account's.
            done: what the warm ones remember of first calls.

        Raises:
            InputError: the platform has no such package.
        """
        platform, now = self.platform, self.env.now
        function = Function(
            name,
            memory_mb,
            platform.start.package_named(package),
            platform.concurrency.timeout_s if timeout_s is None else timeout_s,
            package_bytes,
            tmp_mb,
            reserved,
            provisioned,
            program,
            link,
            deployed_s=now,
            new_instances=platform.concurrency.scaling_burst,
            refilled_s=now,
        )
        self.functions[name] = function
        self._instances.deploy(function, warm, done)
        return function

    def program_of(self, function: str) -> Program:
        """What a function was deployed with. Raises InputError."""
        deployed = self.functions.get(function)
        if deployed is None or deployed.program is None:
            raise InputError(f"function: no function '{function}' with a program is deployed")
        return deployed.program

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
        """Invoke a function now; returns when the request has arrived.

        Args:
            record: says which function and with how much memory; each further attempt has a row of its own.
            program, then, repeatable, payload_bytes, payload_s: as in `Call`.
            queued: the request goes into the asynchronous queue, which has retries of its own.
            limit_bytes: of the encoded payload; None: the platform's.
        """
        platform, now = self.platform, self.env.now
        function = self.functions.get(record.function) or self.deploy(record.function, record.memory_mb)
        if limit_bytes is None:
            limit_bytes = platform.asynchronous.limit_bytes if queued else platform.payload.limit_bytes
        queued_s = now if queued else None
        call = Call(
            self,
            platform,
            function,
            record,
            program,
            then,
            repeatable,
            payload_bytes,
            payload_s,
            limit_bytes,
            queued_s,
        )
        return self._send(call, now)

    def ping(self, function: Function, hold_s: float = 0.0) -> None:
        """Call a function that does nothing for `hold_s`, to start an instance or to keep one; it is billed."""
        row = Record(-1, 0, "ping", function.name, function.memory_mb)
        self.invoke(row, (Sleep(hold_s),), repeatable=False)

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Do something when so many seconds have passed."""
        event = self.env.timeout(seconds)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: (do(), None)[1])

    def charge_provisioned(self, until_s: float | None = None) -> None:
        """Leave a row for each function's provisioned instances, from its deployment until a time (None: now)."""
        for function in self.functions.values():
            if function.provisioned:
                row = Record(-1, 0, "provisioned", function.name, function.memory_mb, status="provisioned")
                row.requested_s = row.started_s = function.deployed_s
                row.ended_s = self.env.now if until_s is None else until_s
                rates = function.package.rates
                self._meter.charge_provisioned(row, function.provisioned, rates, function.provisioned_init_s)
                self._keep(row)

    # -- arriving -----------------------------------------------------------------------------------------

    def _send(self, call: Call, now: float) -> float:
        """A request travels to Lambda, with its payload; returns when it is there."""
        size = call.payload_bytes
        if size == 0:
            self._arrive(call, now)
            return now
        if size * self.platform.payload.encoding_factor > call.limit_bytes:
            self._refuse(call, "payload-too-large", now)
            return now
        alone = call.payload_s is None
        seconds = self.platform.payload.seconds(size if alone else 0.0) + (call.payload_s or 0.0)
        self.after(seconds, lambda: self._arrive(call, self.env.now))
        return now + seconds

    def _arrive(self, call: Call, now: float) -> None:
        """A request is admitted, finds or starts an instance, and runs there."""
        function, record, platform = call.function, call.record, self.platform
        if self._prewarming is not None and record.role != "ping":
            self._prewarming.arrived(self, function)
        instance = self._instances.take(function, now)
        if instance is None:
            self._refuse(call, "throttled", now)
            return
        record.requested_s = now
        with_payload = call.payload_bytes > 0 and not platform.is_ideal  # its overhead was part of the transfer
        started = now if with_payload else now + platform.start.warm.next()
        record.phases["queue"] = (now, started)
        if platform.prices.warm_start_is_billed:
            call.billed_before_s = started - now
        if not instance.initialised:
            started = self._cold_start(call, started)
            instance.initialised = True
        call.instance = instance
        record.instance = instance.name
        record.started_s = started
        record.bytes_in += call.payload_bytes
        self._run(call, started, now)

    def _refuse(self, call: Call, status: str, now: float) -> None:
        """429 or 413: nothing runs and nothing is billed."""
        record = call.record
        record.requested_s = record.started_s = record.ended_s = now
        call.status = status
        self._conclude(call, now)

    def _cold_start(self, call: Call, now: float) -> float:
        """Provisioning and INIT from `now` on; returns when the handler starts."""
        record, package, size = call.record, call.function.package, call.function.package_bytes
        record.cold = True
        provisioned = now + package.provisioning_s(size)
        init_s = package.init_s(self.platform.start.init_limit_s, size)
        record.phases["provisioning"] = (now, provisioned)
        record.phases["init"] = (provisioned, provisioned + init_s)
        call.billed_before_s += init_s if package.init_is_billed else 0.0
        return provisioned + init_s

    # -- running ------------------------------------------------------------------------------------------

    def _run(self, call: Call, started: float, now: float) -> None:
        """Run the program from `started` on: at once where it meets nobody, else as a process."""
        timeout_s, lost_s = call.function.timeout_s, self.platform.failures.instance_life.next()
        if lost_s < timeout_s:
            call.deadline, timeout_s = "instance-lost", lost_s
        call.deadline_s = started + timeout_s
        if meets_others(call.program):
            process = self.env.process(self._steps(call, started))
            if timeout_s < math.inf:
                end = self.env.timeout(call.deadline_s - now)
                end.callbacks.append(lambda _: process.interrupt() if process.is_alive else None)
            return
        try:
            ended = run_ahead(call.program, call, started)
            if self.platform.failures.handler_error.next():
                call.status = "handler-error"
        except CallFailed as failure:
            ended, call.status = failure.at_s, failure.status
        if ended > call.deadline_s:
            ended, call.status = call.deadline_s, call.deadline
        self.env.timeout(ended - now, call).callbacks.append(self._on_end)

    def _on_end(self, event: simpy.Event) -> None:
        self._leave(event.value)  # type: ignore[arg-type]

    def _steps(self, call: Call, started: float) -> Steps:
        """The program as a process, and what its failure means for the attempt."""
        try:
            try:
                ended = yield from run_through(call.program, call, started)
                if self.platform.failures.handler_error.next():
                    call.status = "handler-error"
            except CallFailed as failure:
                ended, call.status = failure.at_s, failure.status
            yield from until(self.env, ended)
        except simpy.Interrupt:
            ended, call.status = call.deadline_s, call.deadline
        self._leave(call)
        return ended

    # -- ending -------------------------------------------------------------------------------------------

    def _leave(self, call: Call) -> None:
        """The call is over: charge it; its instance is idle, or gone where the call broke it."""
        now, function, instance, record = self.env.now, call.function, call.instance, call.record
        broken, requests = call.status in BROKEN, 1
        record.ended_s = now
        duration_s = call.billed_before_s + now - record.started_s
        if call.queued_s is not None:
            size = call.payload_bytes * self.platform.payload.encoding_factor
            requests = self.platform.prices.event_requests(size)
        rates = function.package.rates
        self._meter.charge(record, duration_s, function.tmp_mb, rates, requests, instance.provisioned)
        if broken:
            record.end_phases(now)
        self._instances.give_back(function, instance, broken)
        self._conclude(call, now)

    def _conclude(self, call: Call, now: float) -> None:
        """An attempt is over: keep its row, and try again or tell the caller."""
        record = call.record
        record.status = call.status
        self._keep(record)
        wait_s = None if call.status == "ok" else call.retry_wait_s(now)
        if wait_s is None:
            if call.then is not None:
                call.then(record)
            return
        again = call.again()
        self.after(wait_s, lambda: self._send(again, self.env.now))
