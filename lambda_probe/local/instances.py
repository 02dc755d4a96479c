"""The instances of all functions: concurrency limits, reuse while warm, expiry."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread

from lambda_probe.local.errors import ApiError, throttled
from lambda_probe.local.functions import Function, Functions
from lambda_probe.local.limits import cores
from lambda_probe.local.sandbox import Sandbox
from lambda_probe.local.settings import LocalSettings

_LOG = logging.getLogger(__name__)
_EXPIRY_CHECK_S = 0.1


class Instances:
    """Busy and idle instances.

    Args:
        start: makes a new sandbox of a function.
    """

    def __init__(
        self, functions: Functions, settings: LocalSettings, start: Callable[[Function], Sandbox]
    ) -> None:
        self._functions, self._settings, self._start = functions, settings, start
        self._lock, self._stopping = Lock(), Event()
        self._busy: Counter[str] = Counter()
        self._busy_vcpu, self._warned = 0.0, False
        self._alive: set[Sandbox] = set()
        self._idle: dict[str, list[Sandbox]] = {}
        Thread(target=self._expire, daemon=True).start()

    def enter(self, function: Function) -> None:
        """Take a place for a call. Raises ApiError (TooManyRequestsException) when there is none."""
        with self._lock:
            if function.reserved is not None:
                if self._busy[function.name] >= function.reserved:
                    raise throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
            else:
                shared = sum(self._busy[other.name] for other in self._functions.all() if other.reserved is None)
                if shared >= self._functions.unreserved():
                    raise throttled("ConcurrentInvocationLimitExceeded")
            self._busy[function.name] += 1
            self._busy_vcpu += self._settings.vcpu(function.memory_mb)
            self._warn_of_too_few_cores()

    def leave(self, function: Function) -> None:
        """Give the place back."""
        with self._lock:
            self._busy[function.name] -= 1
            self._busy_vcpu -= self._settings.vcpu(function.memory_mb)

    def warm(self, function: Function) -> Sandbox | None:
        """The idle instance that was used last, if there is one."""
        while True:
            with self._lock:
                idle = self._idle.get(function.name)
                if not idle:
                    return None
                sandbox = idle.pop()
            current = sandbox.function.revision == function.revision
            if current and sandbox.alive() and not self._expired(sandbox):
                return sandbox
            self.remove(sandbox)

    def new(self, function: Function) -> Sandbox:
        """A new instance, its INIT begun."""
        sandbox = self._start(function)
        with self._lock:
            self._alive.add(sandbox)
            late = self._stopping.is_set()
        if late:
            self.remove(sandbox)
            raise ApiError(500, "ServiceException", "The endpoint is stopping")
        return sandbox

    def keep(self, sandbox: Sandbox) -> None:
        """Its call is over: it waits for the next one, unless the function has changed."""
        name, revision = sandbox.function.name, sandbox.function.revision
        with suppress(ApiError):
            if self._functions.get(name).revision == revision and not self._stopping.is_set():
                with self._lock:
                    self._idle.setdefault(name, []).append(sandbox)
                return
        self.remove(sandbox)

    def remove(self, sandbox: Sandbox) -> None:
        """End an instance."""
        sandbox.close()
        with self._lock:
            self._alive.discard(sandbox)

    def retire(self, name: str) -> None:
        """End the idle instances of a function that was changed or deleted."""
        with self._lock:
            idle = self._idle.pop(name, [])
        for sandbox in idle:
            self.remove(sandbox)

    def pids(self) -> list[int]:
        """Of every instance that lives."""
        with self._lock:
            return sorted(sandbox.pid for sandbox in self._alive)

    def close(self) -> None:
        """End all."""
        self._stopping.set()
        with self._lock:
            alive = list(self._alive)
        for sandbox in alive:
            self.remove(sandbox)

    def _expired(self, sandbox: Sandbox) -> bool:
        return time.monotonic() - sandbox.idle_since > self._settings.keep_alive_s

    def _expire(self) -> None:
        while not self._stopping.wait(_EXPIRY_CHECK_S):
            with self._lock:
                over = [sandbox for idle in self._idle.values() for sandbox in idle if self._expired(sandbox)]
                for sandbox in over:
                    self._idle[sandbox.function.name].remove(sandbox)
            for sandbox in over:
                self.remove(sandbox)

    def _warn_of_too_few_cores(self) -> None:
        if self._busy_vcpu > cores() and not self._warned:
            self._warned = True
            _LOG.warning(
                "local Lambda: the busy instances ask for %.2f vCPU, this machine has %d cores: "
                "durations from here on are too long; fewer calls at once, less memory or a larger "
                "mb_per_core avoid that",
                self._busy_vcpu,
                cores(),
            )
