"""S3 as a function sees it: latency, limits on requests, refusals and the caller's retries, objects in parts.

What is assumed beyond the platform profile: a refused request (503 SlowDown, or another 5xx) is answered after the
latency of any request, moves no bytes and is not billed (Amazon S3 user guide, billing for error responses); the
caller tries again as the AWS SDK's standard mode does, each try a request of its own; its retry quota is left out.
Retries and the requests of pipelines are booked ahead: who is served first is decided in the order of booking.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.draws import Chances, Draws

if TYPE_CHECKING:
    from simulator.platform import Retries


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
        self._served: defaultdict[int, list[float]] = defaultdict(list)  # by whole second, sorted
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
        here[k:k] = [at] * count
        return True

    def forget(self, now: float) -> None:
        """Drop what no request from now on can meet."""
        if now >= self._forget_at:
            self._forget_at = now + 10
            for second in [s for s in self._served if s < int(now) - 1]:
                del self._served[second]

    def _has_room(self, before: list[float], here: list[float], after: list[float], at: float) -> bool:
        """Whether no second has more than the limit with one more request at `at`."""
        if not after and (not here or here[-1] <= at):
            return len(here) + len(before) - bisect_right(before, at - 1) < self.per_s
        near = [t for t in (*before, *here, *after) if at - 1 < t < at + 1]
        if len(near) < self.per_s:
            return True
        insort(near, at)
        times = np.array(near)
        return bool((times[self.per_s :] - times[: -self.per_s] >= 1.0).all())


class Requests:
    """Requests of one kind, GET or PUT.

    Args:
        latency: from sending a request to its first byte, s.
        limit: on requests; None: none.
        errors: whether a request fails by itself.
        retries: what the caller does about a refusal; None: it never meets one.

    Attributes:
        served: requests that S3 served, and bills. refused: requests that it answered with a 5xx.
    """

    def __init__(
        self,
        latency: Draws,
        limit: RequestLimit | None = None,
        errors: Chances | None = None,
        retries: Retries | None = None,
    ) -> None:
        self.latency, self.limit, self.errors, self.retries = latency, limit, errors, retries
        self.served = 0
        self.refused = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Requests served and refused so far."""
        return self.served, self.refused

    def one(self, at: float) -> float:
        """From sending a request at `at` to its first byte, s, refusals and backoffs included.

        Raises:
            StorageError: it was refused as often as the caller tries.
        """
        waited, attempt = 0.0, 1
        while True:
            latency = self.latency.next()
            limit, errors = self.limit, self.errors
            if (limit is None or limit.admits(at + waited)) and (errors is None or not errors.next()):
                self.served += 1
                return waited + latency
            self.refused += 1
            waited += latency
            if self.retries is None or attempt >= self.retries.attempts:
                raise StorageError(at + waited)
            waited += self.retries.backoff_s(attempt)
            attempt += 1

    def many(self, at: np.ndarray) -> np.ndarray:
        """`one` for each of a row of requests sent at `at` (s), shape (requests,).

        Raises:
            StorageError: of the first to fail; the others are sent all the same.
        """
        limit, together = self.limit, len(at) > 0 and at[0] == at[-1] and bool((at == at[0]).all())
        if self.errors is None and (limit is None or (together and limit.admits_all(float(at[0]), len(at)))):
            self.served += len(at)
            return self.latency.many(len(at))
        waits, failed_s = [], math.inf
        for sent in at.tolist():
            try:
                waits.append(self.one(sent))
            except StorageError as error:
                failed_s = min(failed_s, error.at_s)
        if failed_s < math.inf:
            raise StorageError(failed_s)
        return np.array(waits)


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

    def forget(self, now: float) -> None:
        """Drop what no request from `now` (s) on can meet."""
        for limit in (self.gets.limit, self.puts.limit):
            if limit is not None:
                limit.forget(now)

    def parts_of(self, sizes: Sequence[float]) -> tuple[np.ndarray, int]:
        """Bytes of each part of some objects, shape (parts,), and how many of the objects are in several parts."""
        whole = np.asarray(sizes, float)
        if self.parts == 1:
            return whole, 0
        counts = np.clip(whole // self.least_part_bytes, 1, self.parts).astype(int)
        return np.repeat(whole / counts, counts), int((counts > 1).sum())
