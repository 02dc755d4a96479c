"""Processor sharing behind a token bucket, event by event: the slow, plain way to ask a link."""

from __future__ import annotations

import math
from heapq import heappop, heappush

import numpy as np
import simpy

from simulator.cloud.network import SMALL, LinkRates


class SharedLink:
    """A link that many transfers share, event by event: what `simulator.cloud.network.Link` must agree with.

    All transfers under way get the same rate: min(connection cap, link rate / their number). The link's rate is
    the function's cap while its bucket holds tokens (bytes), then the sustained rate, at which the bucket also
    refills. Since rates are equal, a transfer ends when the *service* given to each since its start equals its
    size: a heap by that mark gives the next one to end.

    Args:
        env: the SimPy environment.
        rates: the link's rates, bytes/s.
    """

    def __init__(self, env: simpy.Environment, rates: LinkRates) -> None:
        self.env = env
        self.rates = rates
        self.bytes_moved = 0.0
        self._tokens = rates.burst_bytes
        self._at = env.now
        self._service = 0.0
        self._active: list[tuple[float, int, simpy.Event]] = []
        self._count = 0
        self._version = 0

    def transfer(self, size: float) -> simpy.Event:
        """Start moving `size` bytes now; the event succeeds when they are through."""
        self._advance()
        done = self.env.event()
        self._count += 1
        self.bytes_moved += size
        heappush(self._active, (self._service + size, self._count, done))
        self._schedule()
        return done

    def _rate(self) -> float:
        """Rate of each transfer now, bytes/s."""
        total = self.rates.function if self._tokens > 0 else min(self.rates.function, self.rates.sustained)
        return min(self.rates.connection, total / len(self._active))

    def _refill(self, seconds: float) -> None:
        """The bucket after `seconds` without transfers."""
        if seconds > 0 and self._tokens < self.rates.burst_bytes:
            self._tokens = min(self.rates.burst_bytes, self._tokens + self.rates.sustained * seconds)

    def _advance(self) -> None:
        """Bring service and bucket to the present."""
        seconds = self.env.now - self._at
        self._at = self.env.now
        if not self._active:
            self._refill(seconds)
            return
        rate = self._rate()
        self._service += rate * seconds
        if self.rates.burst_bytes < np.inf:
            net = self.rates.sustained - rate * len(self._active)
            left = self._tokens + net * seconds
            self._tokens = min(self.rates.burst_bytes, left) if left > SMALL else 0.0

    def _schedule(self) -> None:
        """Wake up when the next transfer ends or the bucket runs dry, unless something changes before."""
        self._version += 1
        if not self._active:
            self._service = 0.0
            return
        rate = self._rate()
        wait = max(0.0, self._active[0][0] - self._service) / rate
        drain = rate * len(self._active) - self.rates.sustained
        if 0 < self._tokens < np.inf and drain > 0:
            wait = min(wait, self._tokens / drain)
        timeout = self.env.timeout(wait, self._version)
        timeout.callbacks.append(self._wake)

    def _wake(self, timeout: simpy.Event) -> None:
        if timeout.value != self._version:
            return
        self._advance()
        slack = self._slack()
        while self._active and self._active[0][0] <= self._service + slack:
            heappop(self._active)[2].succeed()
        self._schedule()

    def _slack(self) -> float:
        """Bytes below the resolution of the clock and of the service."""
        return 4 * (self.rates.function * math.ulp(self.env.now) + math.ulp(self._service))
