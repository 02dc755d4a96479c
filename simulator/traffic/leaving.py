"""Requests gathered into batches ahead of time: when each batch leaves depends on arrivals alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simulator.traffic.scenario import Batching

CHUNK = 32_768  # arrivals at a time


@dataclass
class Leaving:
    """Batches in the order in which they leave.

    Attributes:
        number: of the first. at: when each leaves, s; scheduled: when that was known; sizes: its requests; all of
            shape (batches,). arrived_s: of all their requests, shape (requests,). last: none comes after them.
    """

    number: int
    at: np.ndarray
    scheduled: np.ndarray
    sizes: np.ndarray
    arrived_s: np.ndarray
    last: bool

    def __post_init__(self) -> None:
        self.ends = np.cumsum(self.sizes)

    def arrived(self, batch: int) -> np.ndarray:
        """Arrivals of the requests of a batch, by its place here, s, shape (requests,)."""
        return self.arrived_s[self.ends[batch] - self.sizes[batch] : self.ends[batch]]


def played(times: np.ndarray, now: float) -> np.ndarray:
    """Sorted arrival times (s) as a clock comes to them that adds each gap to the time before, from `now` on."""
    before = np.concatenate([[now], times[:-1]])
    if (before + (times - before) == times).all():
        return times
    return np.array([now := now + max(0.0, at - now) for at in times.tolist()])


def leaving(blocks: Iterator[np.ndarray], policy: Batching) -> Iterator[Leaving]:
    """The batches of arrivals (s, sorted), some thousands at a time."""
    now, number = 0.0, 0
    waiting: list[float] = []
    for block, last in _chunks(blocks):
        times = played(block, now)
        if policy.max_requests == 1 and len(times):
            scheduled = np.concatenate([[now], times[:-1]])
            yield Leaving(number, times, scheduled, np.ones(len(times), int), times, last)
            number += len(times)
        elif policy.max_requests > 1:
            found, waiting = _batches(times.tolist(), waiting, now, policy, last)
            if found:
                at, known, arrived = zip(*found, strict=True)
                sizes = np.array([len(each) for each in arrived])
                yield Leaving(number, np.array(at), np.array(known), sizes, np.concatenate(arrived), last)
                number += len(at)
        now = float(times[-1]) if len(times) else now


def _chunks(blocks: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
    """The same arrivals in larger pieces, and whether each is the last."""
    kept: list[np.ndarray] = []
    for block in blocks:
        kept.append(block)
        while sum(map(len, kept)) > CHUNK:
            together = np.concatenate(kept)
            yield together[:CHUNK], False
            kept = [together[CHUNK:]]
    yield np.concatenate(kept) if kept else np.empty(0), True


def _batches(
    times: list[float], waiting: list[float], now: float, policy: Batching, last: bool
) -> tuple[list[tuple[float, float, list[float]]], list[float]]:
    """Of each batch: when it leaves, when that was known, its arrivals; and who still waits. All s."""
    found = []
    for time in [*times, math.inf] if last else times:
        if waiting and waiting[0] + policy.timeout_s <= time:
            found.append((waiting[0] + policy.timeout_s, waiting[0], waiting))
            waiting = []
        if time < math.inf:
            waiting = [*waiting, time]
            if len(waiting) == policy.max_requests:
                found.append((time, now, waiting))
                waiting = []
            now = time
    return found, waiting
