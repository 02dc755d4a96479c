"""S3 as a function sees it: latency, limits on requests, refusals and the caller's retries, objects in parts.

What is assumed beyond the platform profile: a refused request (503 SlowDown, or another 5xx) is answered after the
latency of any request, moves no bytes and is not billed (Amazon S3 user guide, billing for error responses); the
caller tries again as the AWS SDK's standard mode does, each try a request of its own; its retry quota is left out.
Retries and the requests of pipelines are booked ahead: who is served first is decided in the order of booking.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import Literal, TypeAlias

import numpy as np

from simulator.cloud.streams import Streams, fixed
from simulator.draws import Chances, Draws, Retries
from simulator.plan import ProblemPlatform
from simulator.profiles.constant import Constant
from simulator.profiles.groups import SlowConstants
from simulator.profiles.schema import PlatformProfile

Times: TypeAlias = "array[float]"
HOUR_S, HOURS = 3600.0, 1024


class StorageError(Exception):
    """A request was refused as often as its caller tries; `at_s`: when the caller knows."""

    def __init__(self, at_s: float) -> None:
        super().__init__("s3-error")
        self.at_s = at_s


class RequestLimit:
    """At most so many requests in any one second, whenever the second begins; they may be booked in any order.

    Args:
        per_s: requests in a second.
    """

    def __init__(self, per_s: int) -> None:
        self.per_s = per_s
        self._served: defaultdict[int, Times] = defaultdict(lambda: array("d"))  # by whole second, sorted
        self._forget_at = 0.0

    def admits(self, at: float) -> bool:
        """Whether a request at this time (s) is served; a served one is booked."""
        second, served = int(at), self._served
        before, here, after = served[second - 1], served[second], served[second + 1]
        if len(before) + len(here) + len(after) >= self.per_s and not self._has_room(before, here, after, at):
            return False
        if here and here[-1] > at:
            insort(here, at)
        else:
            here.append(at)
        return True

    def admits_all(self, at: float, count: int) -> bool:
        """Whether so many requests at once are served whatever others are booked around; then all are booked."""
        second, served = int(at), self._served
        here = served[second]
        if len(served[second - 1]) + len(here) + len(served[second + 1]) + count > self.per_s:
            return False
        k = bisect_right(here, at)
        here[k:k] = array("d", [at]) * count
        return True

    def forget(self, now: float) -> None:
        """Drop what no request from now on can meet."""
        if now >= self._forget_at:
            self._forget_at = now + 10
            for second in [s for s in self._served if s < int(now) - 1]:
                del self._served[second]

    def _has_room(self, before: Times, here: Times, after: Times, at: float) -> bool:
        """Whether no second has more than the limit with one more request at `at`."""
        first, k, last = bisect_right(before, at - 1), bisect_right(here, at), bisect_left(after, at + 1)
        earlier, later = len(before) - first + k, len(here) - k + last
        if earlier + later < self.per_s:
            return True
        if earlier >= self.per_s or later >= self.per_s or later == 0:
            return False
        booked = np.concatenate([np.frombuffer(row) for row in (before, here, after) if row])
        now = first + earlier
        times = np.concatenate([booked[first:now], [at], booked[now : now + later]])
        return bool((times[self.per_s :] - times[: -self.per_s] >= 1.0).all())


class Drift:
    """A factor on latencies that changes every hour, for all requests of a kind alike; after 1,024 hours again."""

    def __init__(self, factors: Draws) -> None:
        self._by_hour = factors.many(HOURS).tolist()

    def at(self, at: float) -> float:
        """The factor at a time (s)."""
        found: float = self._by_hour[int(at / HOUR_S) % HOURS]
        return found


@dataclass(frozen=True)
class SlowRequests:
    """Some requests, by chance, take a while longer: by `delay` (s) from so many bytes on, below in proportion."""

    chances: Chances
    delay: Draws
    from_bytes: float

    @classmethod
    def of(cls, kind: str, slow: SlowConstants, streams: Streams) -> SlowRequests:
        """A profile's, of one kind of request."""
        chances, delay = streams.chances(f"{kind}_slow", slow.share), streams.draws(f"{kind}_delay", slow.delay_s)
        return cls(chances, delay, slow.from_bytes.median)

    def seconds(self, size: float) -> float:
        """What the next request, of so many bytes, takes besides, s."""
        return self.delay.next() * min(1.0, size / self.from_bytes) if self.chances.next() else 0.0


class Requests:
    """Requests of one kind, GET or PUT.

    Args:
        latency: from sending a request to its first byte, s.
        drift: a factor on it. slow: what some requests take besides. None: neither.
        limit: on requests; None: none.
        errors: whether a request fails by itself.
        retries: what the caller does about a refusal; None: it never meets one.
        resent_bytes_per_s: at which a second request sends the bytes again, a PUT's; a GET sends none.

    Attributes:
        hedge_after_s: a request that S3 has not answered after so long, a PUT's bytes not counted, is sent again
            over another connection; the first answer counts, and both are billed.
        served: requests that S3 served, and bills. refused: requests that it answered with a 5xx.
    """

    def __init__(
        self,
        latency: Draws,
        limit: RequestLimit | None = None,
        errors: Chances | None = None,
        retries: Retries | None = None,
        drift: Drift | None = None,
        slow: SlowRequests | None = None,
        resent_bytes_per_s: float = math.inf,
    ) -> None:
        self.latency, self.limit, self.errors, self.retries = latency, limit, errors, retries
        self.drift, self.slow, self.resent_bytes_per_s = drift, slow, resent_bytes_per_s
        self.hedge_after_s = math.inf
        self.served = 0
        self.refused = 0

    def one(self, at: float, size: float = 0.0) -> float:
        """From sending a request for `size` bytes at `at` to its first byte, s, refusals and backoffs included.

        Raises:
            StorageError: it was refused as often as the caller tries.
        """
        waited, attempt = 0.0, 1
        while (found := self._try(at + waited, attempt, size)) < 0:
            waited, attempt = waited - found, attempt + 1
        return waited + found

    def many(self, at: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """`one` for each of a row of requests sent at `at` (s), in the order of their times, shapes (requests,).

        Raises:
            StorageError: of the first to fail; the others are sent all the same.
        """
        limit, together = self.limit, len(at) > 0 and at[0] == at[-1] and bool((at == at[0]).all())
        if self.errors is None and (limit is None or (together and limit.admits_all(float(at[0]), len(at)))):
            self.served += len(at)
            each = zip(at.tolist(), sizes.tolist(), strict=True)
            return np.array([self._first_answer_s(sent, self._takes_s(sent, size), size) for sent, size in each])
        first_byte, failed_s = np.empty(len(at)), math.inf
        todo = [(sent, k, 1) for k, sent in enumerate(at.tolist())]
        heapify(todo)
        while todo:
            sent, k, attempt = heappop(todo)
            try:
                found = self._try(sent, attempt, float(sizes[k]))
            except StorageError as error:
                failed_s = min(failed_s, error.at_s)
                continue
            if found < 0:
                heappush(todo, (sent - found, k, attempt + 1))
            else:
                first_byte[k] = sent + found
        if failed_s < math.inf:
            raise StorageError(failed_s)
        return first_byte - at

    def _takes_s(self, at: float, size: float) -> float:
        """From sending a request that is served to its first byte, s."""
        latency = self.latency.next()
        if self.drift is not None:
            latency *= self.drift.at(at)
        return latency if self.slow is None else latency + self.slow.seconds(size)

    def _first_answer_s(self, at: float, latency: float, size: float) -> float:
        """The latency of a request at `at` with the second one that is sent where it is slow, s; one try of it."""
        if latency <= self.hedge_after_s:
            return latency
        again = at + self.hedge_after_s
        if (self.limit is not None and not self.limit.admits(again)) or (self.errors and self.errors.next()):
            self.refused += 1
            return latency
        self.served += 1
        sent_s = self.hedge_after_s + size / self.resent_bytes_per_s
        return min(latency, sent_s + self._takes_s(again, size))

    def _try(self, at: float, attempt: int, size: float) -> float:
        """One attempt at `at`: s until its first byte; or, negative, s until the next one. Raises StorageError."""
        limit, errors = self.limit, self.errors
        latency = self._takes_s(at, size)
        if (limit is None or limit.admits(at)) and (errors is None or not errors.next()):
            self.served += 1
            return self._first_answer_s(at, latency, size)
        self.refused += 1
        if self.retries is None or attempt >= self.retries.attempts:
            raise StorageError(at + latency)
        return -max(1e-9, latency + self.retries.backoff_s(attempt))


@dataclass(frozen=True)
class Storage:
    """S3 of one simulation.

    Attributes:
        gets, puts: its requests.
        parts: connections over which an object is moved, at most; a part has at least `least_part_bytes`.
        get_usd_per_byte, put_usd_per_byte: S3 Express charges bytes besides requests.
    """

    gets: Requests
    puts: Requests
    parts: int = 1
    least_part_bytes: float = 0.0
    get_usd_per_byte: float = 0.0
    put_usd_per_byte: float = 0.0

    @property
    def charges_bytes(self) -> bool:
        """Whether bytes cost something by themselves."""
        return self.get_usd_per_byte > 0 or self.put_usd_per_byte > 0

    @classmethod
    def of(cls, profile: PlatformProfile, streams: Streams) -> Storage:
        """A profile's: the storage class that is used."""
        chosen, storage = profile.storage_class, profile.storage
        put_bytes_per_s = (storage.put_connection_bytes_per_s or storage.connection_bytes_per_s).median

        def requests(kind: Literal["get", "put"], latency: Constant, limit_per_s: float) -> Requests:
            drift, slow = chosen.beyond[kind]
            return Requests(
                latency=streams.draws(f"{kind}_latency", latency),
                limit=RequestLimit(int(limit_per_s)),
                errors=streams.chances(f"{kind}_error", storage.error) if storage.error.median else None,
                retries=streams.retries(f"{kind}_retries", profile.retries),
                drift=None if drift is None else Drift(streams.draws(f"{kind}_drift", drift)),
                slow=None if slow is None else SlowRequests.of(kind, slow, streams),
                resent_bytes_per_s=math.inf if kind == "get" else put_bytes_per_s,
            )

        return cls(
            gets=requests("get", chosen.get_latency_s, chosen.get_limit_per_s),
            puts=requests("put", chosen.put_latency_s, chosen.put_limit_per_s),
            parts=int(storage.parts.median),
            least_part_bytes=storage.least_part_bytes.median,
            get_usd_per_byte=chosen.get_usd_per_byte,
            put_usd_per_byte=chosen.put_usd_per_byte,
        )

    @classmethod
    def ideal(cls, constants: ProblemPlatform) -> Storage:
        """The ideal platform's: T_dl, and nothing is refused."""
        return cls(Requests(fixed(constants.storage_delay_s)), Requests(fixed(constants.storage_delay_s)))

    def still(self) -> Storage:
        """The same with latencies at their medians, and nothing refused."""
        gets, puts = (Requests(fixed(requests.latency.median)) for requests in (self.gets, self.puts))
        return replace(self, gets=gets, puts=puts)

    def hedged(self, after_s: float) -> Storage:
        """The same for a caller that sends a request again after so long (s): `Requests.hedge_after_s`."""
        gets, puts = copy(self.gets), copy(self.puts)
        gets.hedge_after_s = puts.hedge_after_s = after_s
        return replace(self, gets=gets, puts=puts)

    def forget(self, now: float) -> None:
        """Drop what no request from `now` (s) on can meet."""
        for limit in (self.gets.limit, self.puts.limit):
            if limit is not None:
                limit.forget(now)

    def parts_of(self, sizes: Sequence[float], most: int | None = None) -> tuple[np.ndarray, int]:
        """Bytes of each part of some objects, shape (parts,), and how many of the objects are in several parts.

        `most`: parts of an object, at most; None: the storage's.
        """
        whole, most = np.asarray(sizes, float), most or self.parts
        if most == 1:
            return whole, 0
        counts = np.clip(whole // max(1.0, self.least_part_bytes), 1, most).astype(int)
        return np.repeat(whole / counts, counts), int((counts > 1).sum())
