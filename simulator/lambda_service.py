"""AWS Lambda: functions and their instances, cold and warm starts, keep-alive, billing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

import simpy

from simulator.network import Link
from simulator.platform import Platform
from simulator.records import Record

Steps: TypeAlias = Generator[simpy.Event, Any, None]


@dataclass
class Instance:
    """One sandbox of a function: serves one call at a time, keeps its network links."""

    name: str
    inbound: Link
    outbound: Link
    idle_since: float = 0.0


@dataclass(frozen=True)
class Call:
    """What a handler sees of the call that it serves."""

    env: simpy.Environment
    platform: Platform
    instance: Instance
    record: Record


Handler: TypeAlias = Callable[[Call], Steps]


class LambdaService:
    """Runs handlers on instances and bills them.

    An idle instance is reused most recently used first, and is gone after the keep-alive; without one, the call
    starts an instance: provisioning, then INIT. Every call leaves one row in `records`.

    Args:
        env: the SimPy environment.
        platform: constants and random streams.
    """

    def __init__(self, env: simpy.Environment, platform: Platform) -> None:
        self.env = env
        self.platform = platform
        self.records: list[Record] = []
        self._idle: defaultdict[str, list[Instance]] = defaultdict(list)
        self._started: defaultdict[str, int] = defaultdict(int)

    def prewarm(self, function: str, memory_mb: int, count: int) -> None:
        """Have `count` initialised, idle instances of a function from now on."""
        self._idle[function] += [self._new_instance(function, memory_mb) for _ in range(count)]

    def call(self, record: Record, handler: Handler) -> simpy.Process:
        """Invoke a function: `record` says which and with how much memory, `handler` what it does."""
        self.records.append(record)
        return self.env.process(self._serve(record, handler))

    def _serve(self, record: Record, handler: Handler) -> Steps:
        env, platform = self.env, self.platform
        record.requested_s = env.now
        billed_from = env.now
        instance = self._take_idle(record.function)
        yield env.timeout(platform.warm_start.next())
        record.add_phase("queue", record.requested_s, env.now)
        billed_init_s = 0.0
        if instance is None:
            instance = self._new_instance(record.function, record.memory_mb)
            billed_init_s = yield from self._start(record)
        if not platform.prices.warm_start_is_billed:
            billed_from = env.now
        record.instance = instance.name
        record.started_s = billed_from
        yield from handler(Call(env, platform, instance, record))
        record.ended_s = env.now
        self._charge(record, billed_init_s + env.now - billed_from)
        instance.idle_since = env.now
        self._idle[record.function].append(instance)

    def _start(self, record: Record) -> Generator[simpy.Event, Any, float]:
        """Provisioning and INIT of a new instance; returns the seconds of INIT that are billed."""
        record.cold = True
        for phase, draws in (("provisioning", self.platform.provisioning), ("init", self.platform.init)):
            start = self.env.now
            yield self.env.timeout(draws.next())
            record.add_phase(phase, start, self.env.now)
        start, end = record.phases["init"]
        return end - start if self.platform.prices.init_is_billed else 0.0

    def _charge(self, record: Record, duration_s: float) -> None:
        prices = self.platform.prices
        record.billed_s = prices.billed_s(duration_s)
        record.billed_gb_s = record.billed_s * record.memory_mb / 1024
        record.compute_cost_usd = record.billed_gb_s * prices.gb_s
        record.exchange_cost_usd = record.exchange_puts * prices.put + record.exchange_gets * prices.get
        record.request_cost_usd = prices.invocation + record.puts * prices.put + record.gets * prices.get

    def _take_idle(self, function: str) -> Instance | None:
        """The most recently used idle instance; if that has expired, all have."""
        idle = self._idle[function]
        if not idle:
            return None
        instance = idle.pop()
        if self.env.now - instance.idle_since > self.platform.keep_alive_s:
            idle.clear()
            return None
        return instance

    def _new_instance(self, function: str, memory_mb: int) -> Instance:
        self._started[function] += 1
        rates = self.platform.link_rates(memory_mb)
        name = f"{function}/{self._started[function]}"
        return Instance(name, Link(self.env, rates), Link(self.env, rates), self.env.now)
