"""Bandwidth of a function: shared by its transfers, with a token bucket.

One rule (processor sharing behind a token bucket), three ways to ask it, none of which takes an event: `batch`
(objects that share the link), `stream` (one after the other over many connections), `alone` (one object, one
connection). All three agree.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from simulator.plan import ProblemPlatform
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile

SMALL = 1e-3  # bytes: a bucket with less is dry


@dataclass(frozen=True)
class LinkRates:
    """Bandwidth of one function, one way, bytes/s: its cap, that of a connection, and its token bucket."""

    function: float
    connection: float = math.inf
    burst_bytes: float = math.inf
    sustained: float = math.inf

    def slower(self, factor: float) -> LinkRates:
        """Those of an instance on which everything takes so many times longer."""
        return self if factor == 1.0 else replace(self, function=self.function / factor)


@dataclass(frozen=True)
class Network:
    """Bandwidth of functions, by their memory (MB): what comes in, and what goes out."""

    rates: Callable[[int], LinkRates]
    upload_rates: Callable[[int], LinkRates]

    @classmethod
    def of(cls, profile: PlatformProfile) -> Network:
        """A profile's."""
        network, storage = profile.network, profile.storage
        upload = network.function_upload_bytes_per_s_per_mb or network.function_bytes_per_s_per_mb
        upload_connection = storage.put_connection_bytes_per_s or storage.connection_bytes_per_s
        return cls(
            _rates_by_memory(profile, network.function_bytes_per_s_per_mb, storage.connection_bytes_per_s),
            _rates_by_memory(profile, upload, upload_connection),
        )

    @classmethod
    def ideal(cls, constants: ProblemPlatform) -> Network:
        """The ideal platform's: B_s."""
        bandwidth = dict(zip(constants.memory_mb, constants.storage_bandwidths.tolist(), strict=True))

        def rates(memory_mb: int) -> LinkRates:
            return LinkRates(bandwidth.get(memory_mb, constants.gate_bandwidth))

        return cls(rates, rates)


def _rates_by_memory(
    profile: PlatformProfile, bytes_per_s_per_mb: Constant, connection: Constant
) -> Callable[[int], LinkRates]:
    """Rates of a function of each memory size (MB), up to the profile's burst and what a process can take."""
    network, per_mb, each = profile.network, bytes_per_s_per_mb.median, connection.median
    most, burst_bytes = network.burst_bytes_per_s.median, network.burst_bytes.median
    if network.process_bytes_per_s is not None:
        most = min(most, network.process_bytes_per_s.median)

    def rates(memory_mb: int) -> LinkRates:
        return LinkRates(min(memory_mb * per_mb, most), each, burst_bytes, network.sustained_at(memory_mb))

    return rates


class Link:
    """One direction of a function's network (processor sharing).

    All transfers under way get the same rate: min(connection cap, link rate / their number). The link's rate is
    the function's cap while its bucket holds tokens (bytes), then the sustained rate, at which the bucket also
    refills. Since rates are equal, a transfer ends when the *service* given to each since its start equals its
    size: a heap by that mark gives the next one to end.

    Args:
        rates: the link's rates, bytes/s.
        now: when it begins to exist, s.
    """

    __slots__ = ("_at", "_tokens", "bytes_moved", "rates")

    def __init__(self, rates: LinkRates, now: float) -> None:
        self.rates = rates
        self.bytes_moved = 0.0
        self._tokens = rates.burst_bytes
        self._at = now

    def stream(self, start: float, sizes: np.ndarray) -> np.ndarray:
        """When each of a row of objects is through, moved one after the other from `start` on an idle link.

        Args:
            start: time of the first byte, s; not before the link's last use.
            sizes: bytes of each object, shape (objects,).

        Returns:
            End of each object, s, shape (objects,).
        """
        self._refill(start - self._at)
        rate, sustained = self.rates.function, self.rates.sustained
        through = np.cumsum(sizes, dtype=float)
        fast = np.inf if rate <= sustained else self._tokens * rate / (rate - sustained)
        seconds = through / rate + np.maximum(through - fast, 0.0) * (1 / sustained - 1 / rate)
        total = float(through[-1]) if len(through) else 0.0
        self.bytes_moved += total
        self._at = start + (float(seconds[-1]) if len(through) else 0.0)
        self._tokens = (
            self._tokens - total + sustained * (self._at - start) if np.isfinite(self._tokens) else np.inf
        )
        self._tokens = max(0.0, min(self._tokens, self.rates.burst_bytes))
        return start + seconds

    def alone(self, start: float, size: float) -> float:
        """When one object is through that starts at `start` and has the link for itself, over one connection."""
        rates, tokens = self.rates, self._tokens
        if start > self._at and tokens < rates.burst_bytes:
            tokens = min(rates.burst_bytes, tokens + rates.sustained * (start - self._at))
        rate, sustained = min(rates.function, rates.connection), rates.sustained
        seconds = size / rate
        if rate > sustained:
            fast = tokens * rate / (rate - sustained)
            if size > fast:
                seconds += (size - fast) * (1 / sustained - 1 / rate)
            tokens = max(0.0, tokens - size + sustained * seconds)
        elif tokens < rates.burst_bytes:
            tokens = min(rates.burst_bytes, tokens - size + sustained * seconds)
        self._tokens = tokens
        self.bytes_moved += size
        self._at = start + seconds
        return self._at

    def batch(self, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """When each of some objects is through that share the link, each over its own connection.

        Processor sharing without events: the link is the batch's own until the last is through.

        Args:
            starts: time of each object's first byte, s, shape (objects,); not before the link's last use.
            sizes: bytes of each object, shape (objects,).

        Returns:
            End of each object, s, shape (objects,).
        """
        order = np.argsort(starts)
        found = np.empty(len(order))
        found[order] = self._share(starts[order].tolist(), sizes[order].tolist())
        self.bytes_moved += float(sizes.sum())
        return found

    def pool(
        self, start: float, sizes: Sequence[float], connections: int, first_byte_s: Callable[[float, float], float]
    ) -> float:
        """When the last of some objects is through, moved in their order over so many connections.

        Args:
            start: when the first are asked for, s. sizes: bytes of each.
            first_byte_s: from asking for an object, at a time (s) and of so many bytes, to its first byte, s.
        """
        first, left = list(sizes[:connections]), iter(sizes[connections:])
        begins = [(start + first_byte_s(start, size), size) for size in first]

        def following(now: float) -> tuple[float, float] | None:
            size = next(left, None)
            return None if size is None else (now + first_byte_s(now, size), size)

        begins.sort()
        self.bytes_moved += float(sum(sizes))
        return max(self._share([at for at, _ in begins], [size for _, size in begins], following), default=start)

    def _share(
        self,
        begins: list[float],
        todo: list[float],
        following: Callable[[float], tuple[float, float] | None] | None = None,
    ) -> list[float]:
        """When each of some objects, in the order of their starts (s), is through; the link is at its end then.

        `following`: start and bytes of one more whenever one is through, until there is none.
        """
        ends, count = [0.0] * len(begins), len(begins)
        function, connection = self.rates.function, self.rates.connection
        burst, sustained = self.rates.burst_bytes, self.rates.sustained
        slow, limited, now, tokens = min(function, sustained), burst < math.inf, self._at, self._tokens
        active: list[tuple[float, int]] = []
        service, arrived, running = 0.0, 0, 0
        while arrived < count or running:
            if not running:  # idle until the next object: the bucket refills
                if tokens < burst and begins[arrived] > now:
                    tokens = min(burst, tokens + sustained * (begins[arrived] - now))
                now = max(now, begins[arrived])
                active, service, running, arrived = [(todo[arrived], arrived)], 0.0, 1, arrived + 1
                continue
            rate = (function if tokens > 0 else slow) / running
            if rate > connection:
                rate = connection
            seconds = (active[0][0] - service) / rate
            arrival = arrived < count and begins[arrived] - now < seconds
            if arrival:
                seconds = begins[arrived] - now
            if limited:
                drain = rate * running - sustained
                left = tokens - drain * seconds
                if left > SMALL:
                    tokens = left if left < burst else burst
                elif left < 0 < tokens:  # the bucket runs dry before that
                    seconds = tokens / drain
                    tokens, now, service = 0.0, now + seconds, service + rate * seconds
                    continue
                else:
                    tokens = 0.0
            now += seconds
            if arrival:
                service += rate * seconds
                heappush(active, (service + todo[arrived], arrived))
                arrived, running = arrived + 1, running + 1
            else:
                service, k = heappop(active)
                ends[k] = now
                running -= 1
                more = None if following is None else following(now)
                if more is not None:
                    place = bisect_right(begins, more[0], arrived)
                    begins.insert(place, more[0])
                    todo.insert(place, more[1])
                    ends.append(0.0)
                    count += 1
        self._at, self._tokens = now, tokens
        return ends

    def _refill(self, seconds: float) -> None:
        """The bucket after `seconds` without transfers."""
        if seconds > 0 and self._tokens < self.rates.burst_bytes:
            self._tokens = min(self.rates.burst_bytes, self._tokens + self.rates.sustained * seconds)
