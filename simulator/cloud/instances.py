"""Instances of functions: how many may run, which one serves a call, and what becomes of it."""

from __future__ import annotations

import simpy

from simulator.cloud.call import Function, Instance
from simulator.cloud.network import Link
from simulator.cloud.platform import Platform


class Instances:
    """Instances of all functions of one service, within the account's concurrency.

    An idle instance is reused most recently used first and is gone after its keep-alive, which is looked up when
    it is next wanted. Reserved concurrency and that of provisioned instances are set aside from the account's.

    Args:
        env: the SimPy environment.
        platform: constants and random streams.
    """

    def __init__(self, env: simpy.Environment, platform: Platform) -> None:
        self._env, self._platform = env, platform
        self._unreserved_running = 0
        self._unreserved_limit = platform.concurrency.account

    def deploy(self, function: Function, warm: int, done: tuple[str, ...]) -> None:
        """Set a function's concurrency aside; so many warm instances, which have `done` first calls, and its
        provisioned ones are idle."""
        self._unreserved_limit -= max(function.reserved or 0, function.provisioned)
        for _ in range(warm):
            instance = self._new(function)
            instance.initialised, instance.done = True, done
            instance.expires_s = self._env.now + self._platform.start.keep_alive.next()
            self._rest(function, instance)
        for _ in range(function.provisioned):
            function.provisioned_init_s += self._init_s(function)
            self._provision(function)

    def take(self, function: Function, now: float) -> Instance | None:
        """The instance of one more call of a function: an idle one, or a new one; None: a limit is reached."""
        instance = self._idle(function, now)
        if not self._admits(function, instance, now):
            if instance is not None:
                self._rest(function, instance)
            return None
        if instance is None:
            instance = self._new(function)
        instance.stays_s = self._platform.start.keep_alive.next()
        self._count(function, instance, 1)
        return instance

    def give_back(self, function: Function, instance: Instance, broken: bool) -> None:
        """Its call is over: the instance is idle, or gone where the call broke it."""
        now = self._env.now
        self._count(function, instance, -1)
        if instance.provisioned:
            if broken:
                self._replace_provisioned(function)
            else:
                self._rest(function, instance)
        elif not broken and now - instance.born_s < self._platform.start.instance_age_s:
            instance.expires_s = now + instance.stays_s
            self._rest(function, instance)

    def _idle(self, function: Function, now: float) -> Instance | None:
        """The idle instance that serves the next call, taken out."""
        return function.take_idle(now)

    def _rest(self, function: Function, instance: Instance) -> None:
        """An instance is idle from now on."""
        function.idle.append(instance)

    def _count(self, function: Function, instance: Instance, more: int) -> None:
        """So many more calls are under way."""
        function.running += more
        if function.reserved is None and not instance.provisioned:
            self._unreserved_running += more

    def _admits(self, function: Function, instance: Instance | None, now: float) -> bool:
        """Whether the concurrency limits let one more call of the function run; takes from its scaling bucket."""
        if instance is not None and instance.provisioned:
            return True
        if function.reserved is not None:
            if function.running >= function.reserved:
                return False
        elif self._unreserved_running >= self._unreserved_limit:
            return False
        if instance is not None:
            return True
        limits = self._platform.concurrency
        refill = (now - function.refilled_s) * limits.scaling_per_s
        function.new_instances = min(limits.scaling_burst, function.new_instances + refill)
        function.refilled_s = now
        if function.new_instances < 1:
            return False
        function.new_instances -= 1
        return True

    def _new(self, function: Function) -> Instance:
        function.started += 1
        platform, memory_mb, now = self._platform, function.memory_mb, self._env.now
        slowdown = platform.failures.straggler_factor if platform.failures.stragglers.next() else 1.0
        slowdown *= function.package.slowness.next()
        factor = platform.compute.instance.next()
        down, up = function.link, function.link
        if down is None or up is None:
            down, up = platform.network.rates(memory_mb), platform.network.upload_rates(memory_mb)
        return Instance(
            f"{function.name}/{function.started}",
            Link(down.slower(factor), now),
            Link(up.slower(factor), now),
            now,
            slowdown=slowdown * factor,
        )

    def _provision(self, function: Function) -> None:
        """One more provisioned instance is idle."""
        instance = self._new(function)
        instance.provisioned = instance.initialised = True
        self._rest(function, instance)

    def _replace_provisioned(self, function: Function) -> None:
        """A provisioned instance is gone: another one is there after provisioning and INIT."""
        init_s = self._init_s(function)
        function.provisioned_init_s += init_s
        seconds = function.package.provisioning_s(function.package_bytes) + init_s
        self._env.timeout(seconds).callbacks.append(lambda _: self._provision(function))

    def _init_s(self, function: Function) -> float:
        return function.package.init_s(self._platform.start.init_limit_s, function.package_bytes)
