"""When requests arrive: Poisson, bursty (MMPP), diurnal, or as a file says. Times are drawn in blocks.

Each process is a model of the scenario file (`scenario`) that gives its arrival times, s from 0, as an endless
(the trace's: finite) row of sorted arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from pydantic import Field, model_validator

from moe.errors import InputError
from moe.files import FileModel
from simulator.traffic.trace_file import Unit, read_trace

BLOCK = 4096
TOO_LONG = 100  # a trace so many times longer than said is taken to be in milliseconds


class Poisson(FileModel):
    """Independent arrivals at a constant rate."""

    rate_per_s: float = Field(gt=0)

    @property
    def mean_rate_per_s(self) -> float:
        """Arrivals/s in the long run."""
        return self.rate_per_s

    def blocks(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Arrival times, s."""
        last = 0.0
        while True:
            times = last + np.cumsum(rng.exponential(1 / self.rate_per_s, BLOCK))
            last = float(times[-1])
            yield times


class MMPP(FileModel):
    """Bursts: a Markov-modulated Poisson process of two states, each with its rate and mean sojourn.

    Source: Fischer and Meier-Hellstern, The Markov-modulated Poisson process (MMPP) cookbook, 1993.
    """

    rates_per_s: tuple[float, float]
    mean_sojourns_s: tuple[float, float]

    @model_validator(mode="after")
    def _possible(self) -> MMPP:
        if min(self.rates_per_s) < 0 or max(self.rates_per_s) == 0:
            raise ValueError(
                f"rates_per_s: expected two rates >= 0, one of them > 0, got {list(self.rates_per_s)}"
            )
        if min(self.mean_sojourns_s) <= 0:
            raise ValueError(f"mean_sojourns_s: expected two times > 0, got {list(self.mean_sojourns_s)}")
        return self

    @property
    def mean_rate_per_s(self) -> float:
        """Arrivals/s in the long run."""
        return float(np.average(self.rates_per_s, weights=self.mean_sojourns_s))

    @property
    def limit_of_dispersion(self) -> float:
        """Variance over mean of the arrivals in a long interval: 1 + 2 p0 p1 (r0 - r1)^2 / ((1/s0 + 1/s1) r)."""
        (r0, r1), (s0, s1) = self.rates_per_s, self.mean_sojourns_s
        p0 = s0 / (s0 + s1)
        return 1 + 2 * p0 * (1 - p0) * (r0 - r1) ** 2 / ((1 / s0 + 1 / s1) * self.mean_rate_per_s)

    def blocks(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Arrival times, s: an array a sojourn, in which arrivals are uniform; starts in the long run."""
        s0, s1 = self.mean_sojourns_s
        state, began = int(rng.random() >= s0 / (s0 + s1)), 0.0
        while True:
            length = rng.exponential(self.mean_sojourns_s[state])
            count = rng.poisson(self.rates_per_s[state] * length)
            yield began + np.sort(rng.random(count)) * length
            began, state = began + length, 1 - state


class Diurnal(FileModel):
    """A rate that goes up and down: mean x (1 + (peak_to_mean - 1) sin(2 pi t / period)), by thinning.

    Source: Lewis and Shedler, Simulation of nonhomogeneous Poisson processes by thinning, 1979.
    """

    mean_rate_per_s: float = Field(gt=0)
    peak_to_mean: float = Field(ge=1, le=2)
    period_s: float = Field(86400.0, gt=0)

    def rate_at(self, t: np.ndarray) -> np.ndarray:
        """Arrivals/s at times t (s)."""
        swing = (self.peak_to_mean - 1) * np.sin(2 * math.pi * t / self.period_s)
        return self.mean_rate_per_s * (1 + swing)

    def blocks(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Arrival times, s."""
        peak = self.mean_rate_per_s * self.peak_to_mean
        for times in Poisson(rate_per_s=peak).blocks(rng):
            yield times[rng.random(BLOCK) * peak < self.rate_at(times)]


class Trace(FileModel):
    """Arrival times out of a file: one a line, or a column of a CSV with a header; sorted.

    `rate_per_s` is the mean rate that the file should have: it is only held against the file.
    """

    file: str
    column: str | None = Field(None, description="of the times; none: the one whose name says so")
    unit: Unit | None = Field(None, description="of the times; none: seconds")
    from_first: bool | None = Field(None, description="count from the first time, and not from 0")
    rate_per_s: float | None = Field(None, gt=0)

    def times(self) -> np.ndarray:
        """Arrival times, s. Raises InputError."""
        return read_trace(self.file, self.column, self.unit, self.from_first)

    @property
    def mean_rate_per_s(self) -> float:
        """Arrivals/s over the whole file."""
        times = self.times()
        return len(times) / float(times[-1]) if times[-1] > 0 else math.inf

    def blocks(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Arrival times, s; nothing is drawn."""
        yield self.times()

    def check(self, duration_s: float | None) -> None:
        """Raise InputError for a file that cannot be used, or is obviously in milliseconds.

        That is one at least 100 times as long as the scenario lasts, or with a median gap at least 100 times that
        of Poisson arrivals of `rate_per_s` (milliseconds make it 1,000 times).
        """
        times = self.times()
        hint = "looks like milliseconds: expected seconds, or unit: ms"
        if duration_s is not None and times[-1] >= TOO_LONG * duration_s:
            raise InputError(
                f"{self.file}: {hint}; its last time is {times[-1]:g}, and duration_s is {duration_s:g} "
                "(if these are seconds, give requests instead of duration_s)"
            )
        if self.rate_per_s is not None and len(times) > 1:
            gap = float(np.median(np.diff(times)))
            if gap >= TOO_LONG * math.log(2) / self.rate_per_s:
                raise InputError(
                    f"{self.file}: {hint}; its median gap is {gap:g}, and rate_per_s {self.rate_per_s:g}"
                )


class Arrivals(FileModel):
    """How requests arrive: exactly one of the processes."""

    poisson: Poisson | None = None
    mmpp: MMPP | None = None
    diurnal: Diurnal | None = None
    trace: Trace | None = None

    @model_validator(mode="after")
    def _one(self) -> Arrivals:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"arrivals: expected one of poisson, mmpp, diurnal, trace, got {given or 'none'}")
        return self

    @property
    def process(self) -> Poisson | MMPP | Diurnal | Trace:
        """The one that is given."""
        given = self.poisson or self.mmpp or self.diurnal or self.trace
        assert given is not None
        return given


def limited(blocks: Iterator[np.ndarray], duration_s: float | None, requests: int | None) -> Iterator[np.ndarray]:
    """The blocks up to a time (excluded) or a number of arrivals, whichever comes first; None: no limit."""
    left = math.inf if requests is None else requests
    for times in blocks:
        within = times if duration_s is None else times[: np.searchsorted(times, duration_s)]
        if len(within) >= left:
            yield within[: int(left)]
            return
        yield within
        if len(within) < len(times):
            return
        left -= len(within)
