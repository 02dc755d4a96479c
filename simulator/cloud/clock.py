"""Simulated time without SimPy: for what happens seldom beside calls that need no event of their own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any


@dataclass(slots=True)
class Later:
    """An event: `callbacks` are called with it when its time has come.

    scheduled_s, serial: when it was scheduled, and in the course of what.
    """

    value: Any
    scheduled_s: float
    serial: int
    callbacks: list[Callable[[Any], object]] = field(default_factory=list)


class Clock:
    """As much of a SimPy environment as a call needs that meets nobody; whoever drives it sets `now`.

    Attributes:
        now: s. scheduled_s: when what happens now was scheduled; serial: number of the batch that it is about. Of
            two events at one time, the one that was scheduled first comes first; of two of these, by number.
    """

    def __init__(self) -> None:
        self.now = self.scheduled_s = 0.0
        self.serial = 0
        self._agenda: list[tuple[float, int, Later]] = []
        self._numbers = itertools.count()

    def timeout(self, delay: float, value: Any = None) -> Later:
        """An event after so many seconds."""
        event = Later(value, self.now, self.serial)
        heappush(self._agenda, (self.now + delay, next(self._numbers), event))
        return event

    def upcoming(self) -> tuple[float, float]:
        """When the next event is, and when it was scheduled, s; infinite where there is none."""
        if not self._agenda:
            return math.inf, math.inf
        at, _, event = self._agenda[0]
        return at, event.scheduled_s

    def step(self) -> None:
        """Let the next event happen."""
        self.now, _, event = heappop(self._agenda)
        self.scheduled_s, self.serial = event.scheduled_s, event.serial
        for callback in event.callbacks:
            callback(event)
