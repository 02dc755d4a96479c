"""Instances of one function as sorted arrays, and the loop over calls that each find a warm one.

Such a call needs no event. When it comes, the instances whose calls have ended by then are the idle ones, the most
recently used last; the end of the call is known at once, and puts its instance in its place among the busy ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, cast

import numpy as np
import simpy

from simulator.cloud.call import Function, Instance
from simulator.cloud.clock import Clock
from simulator.cloud.instances import Instances
from simulator.cloud.platform import Platform

KEPT, OTHER = 0, 1  # rows of the arrays: provisioned instances, which serve first, and the others


class Slots(NamedTuple):
    """Where instances are.

    Attributes:
        ends: when the last call of each ended or will end, s, sorted; since: when that call came; who: number of
            the instance; all of shape (2, places). sizes: instances of each row, and idle ones of them, (2, 2).
        slowdown, expires, born, batch: of each instance, and the batch of its last call; shape (instances,).
    """

    ends: np.ndarray
    since: np.ndarray
    who: np.ndarray
    sizes: np.ndarray
    slowdown: np.ndarray
    expires: np.ndarray
    born: np.ndarray
    batch: np.ndarray


class Calls(NamedTuple):
    """Calls in the order in which they come, and what is drawn for each, all of shape (calls,).

    Attributes:
        batch: its number. at: when each comes, s. scheduled: when that was known. work: s. warm: overhead of its
            start, s.
        jitter: factor on the work. life: of the instance under it, s. fails: its handler, at its end.
        stays: how long the instance stays idle, s.
    """

    batch: np.ndarray
    at: np.ndarray
    scheduled: np.ndarray
    work: np.ndarray
    warm: np.ndarray
    jitter: np.ndarray
    life: np.ndarray
    fails: np.ndarray
    stays: np.ndarray


class Limits(NamedTuple):
    """Of the function: reserved concurrency (inf: none), what is left of the account's, timeout and age, s.

    `busy_kept`, `busy_other`: calls under way that are not in the arrays, by row.
    """

    reserved: float
    unreserved: float
    timeout_s: float
    age_s: float
    busy_kept: int
    busy_other: int


class Ended(NamedTuple):
    """What becomes of each call: end of its program and of itself (s), instance, calls under way from then on."""

    worked: np.ndarray
    ended: np.ndarray
    who: np.ndarray
    running: np.ndarray


def serve_warm(calls: Calls, slots: Slots, limits: Limits, out: Ended) -> int:
    """Serve calls for as long as each finds an idle instance and ends well; returns how many.

    Plain loops over arrays, for numba to compile. Fills `out` and moves instances in `slots`.
    """
    ends, since, who, sizes = slots.ends, slots.since, slots.who, slots.sizes
    for n in range(len(calls.at)):
        at = calls.at[n]
        for row in range(2):
            size, idle = sizes[row, 0], sizes[row, 1]
            while idle < size and (
                ends[row, idle] < at or (ends[row, idle] == at and since[row, idle] <= calls.scheduled[n])
            ):
                idle += 1
            sizes[row, 1] = idle
        kept = sizes[0, 0] - sizes[0, 1] + limits.busy_kept
        other = sizes[1, 0] - sizes[1, 1] + limits.busy_other
        row = 0 if sizes[0, 1] > 0 else 1
        if row == 1 and (kept + other >= limits.reserved or other >= limits.unreserved):
            return n
        size, idle = sizes[row, 0], sizes[row, 1]
        place = idle - 1
        while place >= 0 and slots.expires[who[row, place]] < at:
            place -= 1
        if place < 0:
            return n
        instance = who[row, place]
        started = at + calls.warm[n]
        worked = started + calls.work[n] * (calls.jitter[n] * slots.slowdown[instance])
        if worked > started + min(limits.timeout_s, calls.life[n]) or calls.fails[n] > 0:
            return n
        ended = at + (worked - at)
        low, high = idle, size  # after all that end by then
        while low < high:
            middle = (low + high) // 2
            if ends[row, middle] <= ended:
                low = middle + 1
            else:
                high = middle
        gone = idle - place  # the instance, and those that it found expired
        for k in range(idle, low):
            ends[row, k - gone], since[row, k - gone], who[row, k - gone] = (
                ends[row, k],
                since[row, k],
                who[row, k],
            )
        ends[row, low - gone], since[row, low - gone], who[row, low - gone] = ended, at, instance
        if gone > 1:
            for k in range(low, size):
                to = k - gone + 1
                ends[row, to], since[row, to], who[row, to] = ends[row, k], since[row, k], who[row, k]
        sizes[row, 0], sizes[row, 1] = size - gone + 1, place
        slots.batch[instance] = calls.batch[n]
        if row == 1:
            old = ended - slots.born[instance] >= limits.age_s
            slots.expires[instance] = -np.inf if old else ended + calls.stays[n]
        out.worked[n], out.ended[n], out.who[n], out.running[n] = worked, ended, instance, kept + other + 1
    return len(calls.at)


@cache
def compiled() -> Callable[[Calls, Slots, Limits, Ended], int] | None:
    """`serve_warm`, compiled; None where numba is not installed."""
    try:
        from numba import njit
    except ImportError:
        return None
    made: Callable[[Calls, Slots, Limits, Ended], int] = njit(cache=True)(serve_warm)
    return made


class Pool(Instances):
    """Instances of one function, as `Instances`: what is idle, and how many are busy, stands in arrays.

    Args:
        clock: simulated time. platform: constants and random streams.

    Attributes:
        slots: the arrays. instances: by number. took: of each call that was not served by `serve_warm`: when, and
            the calls under way from then on.
    """

    def __init__(self, clock: Clock, platform: Platform) -> None:
        super().__init__(cast(simpy.Environment, clock), platform)
        self._clock = clock
        self._numbers: dict[str, int] = {}
        self._busy = [0, 0]
        self.instances: list[Instance] = []
        self.took: list[tuple[float, int]] = []
        self._inits: list[tuple[float, float]] = []
        places, each = np.zeros((2, 16)), np.zeros(16)
        self.slots = Slots(
            *(places, places.copy(), places.astype(int), np.zeros((2, 2), int)),
            *(each, each.copy(), each.copy(), each.astype(int)),
        )

    def is_kept(self, name: str) -> bool:
        """Whether an instance is provisioned, by its name; empty: none is not."""
        return name != "" and self.instances[self._numbers[name]].provisioned

    def limits(self, function: Function) -> Limits:
        """Of the function, now."""
        reserved = function.reserved
        return Limits(
            math.inf if reserved is None else float(reserved),
            float(self._unreserved_limit) if reserved is None else math.inf,
            function.timeout_s,
            self._platform.start.instance_age_s,
            *self._busy,
        )

    def _idle(self, function: Function, now: float) -> Instance | None:
        slots = self.slots
        found = None
        for row in (KEPT, OTHER):
            self._pass(row, now)
            while found is None and slots.sizes[row, 1] > 0:
                number = self._take_out(row)
                if slots.expires[number] >= now:
                    found = self.instances[number]
                    found.expires_s = slots.expires[number].item()
        kept, other = (slots.sizes[:, 0] - slots.sizes[:, 1]).tolist()
        function.running = kept + other + sum(self._busy)
        self._unreserved_running = 0 if function.reserved is not None else other + self._busy[OTHER]
        return found

    def _rest(self, function: Function, instance: Instance) -> None:
        number, row = self._numbers[instance.name], KEPT if instance.provisioned else OTHER
        self._pass(row, self._clock.now)
        self._grow()
        size, idle = self.slots.sizes[row].tolist()
        values = self._clock.now, -math.inf, number
        for array, value in zip((self.slots.ends, self.slots.since, self.slots.who), values, strict=True):
            array[row, idle + 1 : size + 1] = array[row, idle:size]
            array[row, idle] = value
        self.slots.sizes[row] += 1
        self.slots.expires[number] = math.inf if instance.provisioned else instance.expires_s

    def forget_after(self, function: Function, at_s: float) -> None:
        """What happened later than that never did: provisioned instances that were replaced."""
        later = [init_s for at, init_s in self._inits if at > at_s]
        function.provisioned_init_s = min([function.provisioned_init_s, *later])

    def _replace_provisioned(self, function: Function) -> None:
        self._inits.append((self._clock.now, function.provisioned_init_s))
        super()._replace_provisioned(function)

    def _count(self, function: Function, instance: Instance, more: int) -> None:
        super()._count(function, instance, more)
        self._busy[KEPT if instance.provisioned else OTHER] += more
        if more > 0:
            self.took.append((self._clock.now, function.running))

    def _pass(self, row: int, now: float) -> None:
        """Time has come to `now`: what ended by then is idle."""
        slots = self.slots
        size, idle = slots.sizes[row].tolist()
        ends, known = slots.ends[row], (self._clock.scheduled_s, self._clock.serial)
        while idle < size and (
            ends[idle] < now
            or (ends[idle] == now and (slots.since[row, idle], slots.batch[slots.who[row, idle]]) <= known)
        ):
            idle += 1
        slots.sizes[row, 1] = idle

    def _take_out(self, row: int) -> int:
        """The number of the most recently used idle instance, taken out."""
        size, idle = self.slots.sizes[row].tolist()
        number = int(self.slots.who[row, idle - 1])
        for array in (self.slots.ends, self.slots.since, self.slots.who):
            array[row, idle - 1 : size - 1] = array[row, idle:size]
        self.slots.sizes[row] -= 1
        return number

    def _new(self, function: Function) -> Instance:
        instance, number = super()._new(function), len(self.instances)
        if number == len(self.slots.born):
            longer = {
                name: _longer(getattr(self.slots, name)) for name in ("slowdown", "expires", "born", "batch")
            }
            self.slots = self.slots._replace(**longer)
        self.slots.slowdown[number], self.slots.born[number] = instance.slowdown, instance.born_s
        self.instances.append(instance)
        self._numbers[instance.name] = number
        return instance

    def _grow(self) -> None:
        """Room for one more instance."""
        if self.slots.sizes[:, 0].max() == self.slots.ends.shape[1]:
            longer = {name: _longer(getattr(self.slots, name)) for name in ("ends", "since", "who")}
            self.slots = self.slots._replace(**longer)


def _longer(array: np.ndarray) -> np.ndarray:
    """Twice the places along the last axis."""
    return np.concatenate([array, np.empty_like(array)], axis=-1)
