"""What kind of thing a constant is: how it is estimated from runs, and how far it is from runs not used for that.

A run is what was measured together, and the unit of every split and bootstrap: samples, shape (samples,), or
points (x, y), shape (points, 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from scipy.special import ndtri

from calibration.fitting.distributions import (
    FAMILIES,
    JUDGED,
    JUDGED_BY,
    LEVELS,
    empirical,
    known_levels,
    ks_distance,
    quantile_error,
)
from calibration.fitting.regression import halving_period, theil_sen
from simulator.draws import quantile_at, quantiles_at
from simulator.profiles.constant import Quantiles, Samples

Value: TypeAlias = float | Quantiles | Samples
Runs: TypeAlias = Sequence[np.ndarray]
THINNED = (np.arange(99) + 0.5) / 99  # probabilities by which many samples are stood for
MANY, MOST_APART = 700, 0.02  # samples from which on a family is held against them, and how near it has to be
LEAST_S = 1e-6
LEAST_S_PER_BYTE = 1e-14


@dataclass(frozen=True)
class Curve:
    """A quantity as it is drawn: measured points, and what a value predicts there; arrays (points,)."""

    x: np.ndarray
    y: np.ndarray
    predict: Callable[[Value], np.ndarray]


class Law(Protocol):
    """A kind of constant. `candidates` are tried on fitted runs, `error` chooses among them on others.

    Attributes:
        tail: whether `centre` estimates a tail, not the value or its median.
    """

    tail: bool = False

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """Values by the name of their family or estimator."""

    def centre(self, runs: Runs, method: str) -> float:
        """What a candidate estimates, of a distribution the median: a bootstrap repeats it."""

    def number(self, value: Value) -> float:
        """The number of a value that `centre` estimates."""
        return quantile_at(table_of(value), 0.5)

    def error(self, value: Value, runs: Runs) -> float:
        """Relative error of a value on runs."""

    def curve(self, runs: Runs) -> Curve:
        """What a picture shows."""

    def misfits(self, value: Value, runs: Runs) -> bool:
        """Whether the runs that a value was fitted to show that it is of the wrong kind."""
        return False


class Distribution(Law):
    """A random quantity: each run has samples of it."""

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """Every family's table."""
        samples = np.concatenate(runs)
        return {name: _rounded(family(samples)) for name, family in FAMILIES.items()}

    def misfits(self, value: Value, runs: Runs) -> bool:
        """Whether many samples are farther from the table than chance takes them (Kolmogorov and Smirnov)."""
        samples = np.concatenate(runs)
        if len(samples) < MANY:
            return False
        least = max(MOST_APART, ks_distance(empirical(samples), samples))
        return ks_distance(table_of(value), samples) > least + 1e-3  # the tables are rounded

    def centre(self, runs: Runs, method: str) -> float:
        """The samples' median, whatever the family."""
        return float(np.median(np.concatenate(runs)))

    def error(self, value: Value, runs: Runs) -> float:
        """Mean relative distance of quantiles."""
        samples = np.concatenate(runs)
        return quantile_error(table_of(value), samples)

    def curve(self, runs: Runs) -> Curve:
        """Sorted samples over their probability."""
        samples = np.sort(np.concatenate(runs))
        probability = (np.arange(len(samples)) + 0.5) / len(samples)
        return Curve(
            probability,
            samples,
            lambda value: quantiles_at(table_of(value), probability),
        )


@dataclass(frozen=True)
class Published(Law):
    """Quantiles that others published without the samples: taken as they are.

    Attributes:
        levels: probabilities of the run's values, the median first.
    """

    levels: tuple[float, ...]

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """The published table."""
        return {"published quantiles": _rounded(dict(zip(self.levels, runs[0].tolist(), strict=True)))}

    def centre(self, runs: Runs, method: str = "") -> float:
        """The median."""
        return float(runs[0][0])

    def error(self, value: Value, runs: Runs) -> float:
        """Mean relative distance of quantiles."""
        return float(np.abs(self.curve(runs).predict(value) / runs[0] - 1).mean())

    def curve(self, runs: Runs) -> Curve:
        """Quantiles over their probability."""
        return Curve(
            np.array(self.levels),
            runs[0],
            lambda value: quantiles_at(table_of(value), np.array(self.levels)),
        )


@dataclass(frozen=True)
class Level(Law):
    """A number that each run estimates by itself; the median of all.

    Attributes:
        tail: the number is the 99% quantile over the median of a distribution around 1.
    """

    tail: bool = False

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """The median."""
        found = self.centre(runs)
        return {"median": Quantiles(quantiles={0.5: 1.0, 0.99: found}) if self.tail else found}

    def centre(self, runs: Runs, method: str = "") -> float:
        """The median of the runs' medians: a run counts once, however often it was measured."""
        return float(np.median([np.median(run) for run in runs]))

    def error(self, value: Value, runs: Runs) -> float:
        """Distance from the median."""
        return abs(self.number(value) / self.centre(runs) - 1)

    def curve(self, runs: Runs) -> Curve:
        """Values over the number of their run."""
        x = np.concatenate([np.full(len(run), 1.0 + k) for k, run in enumerate(runs)])
        return Curve(x, np.concatenate(runs), lambda value: np.full(len(x), self.number(value)))

    def number(self, value: Value) -> float:
        """The median, or the tail."""
        return quantile_at(table_of(value), 0.99 if self.tail else 0.5)


@dataclass(frozen=True)
class Bandwidth(Law):
    """Seconds = latency + bytes / bandwidth: points (bytes, seconds) into bytes/s.

    Attributes:
        by_distance: as in `theil_sen`.
    """

    by_distance: bool = False

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """Theil and Sen's line."""
        return {"Theil-Sen, by distance" if self.by_distance else "Theil-Sen": self.centre(runs)}

    def centre(self, runs: Runs, method: str = "") -> float:
        """1 / slope."""
        points = np.concatenate(runs)
        slope = theil_sen(points[:, 0], points[:, 1], self.by_distance).slope
        return 1 / max(slope, LEAST_S_PER_BYTE)

    def error(self, value: Value, runs: Runs) -> float:
        """Mean relative distance of predicted times, at the latency that fits them best."""
        curve = self.curve(runs)
        return float(np.abs(curve.predict(value) / curve.y - 1).mean())

    def curve(self, runs: Runs) -> Curve:
        """Seconds over bytes."""
        x, y = np.concatenate(runs).T

        def predict(value: Value) -> np.ndarray:
            moving = x / quantile_at(table_of(value), 0.5)
            return moving + np.median(y - moving)

        return Curve(x, y, predict)


@dataclass(frozen=True)
class Beneath(Law):
    """A random quantity that is seen only together with another one: samples of their sum.

    A constant, or a least value plus a lognormal so that the sum's quantiles come near.

    Attributes:
        other: samples of the other quantity alone, shape (samples,).
    """

    other: np.ndarray

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """Each family's table."""
        sums = np.concatenate(runs)
        middle = self.centre(runs, "")
        return {
            "constant beneath": float(f"{middle:.6g}"),
            "shifted lognormal beneath": self._shifted_lognormal(sums, middle),
        }

    def centre(self, runs: Runs, method: str = "") -> float:
        """The median difference of a sum and a value of the other quantity."""
        differences = _thinned(np.concatenate(runs))[:, None] - _thinned(self.other)
        return max(float(np.median(differences)), LEAST_S)

    def error(self, value: Value, runs: Runs) -> float:
        """Mean relative distance of the sums' quantiles."""
        sums = np.concatenate(runs)
        levels = known_levels(JUDGED, len(sums), JUDGED_BY)
        return float(np.abs(np.log(self._sums(table_of(value), levels) / np.quantile(sums, levels))).mean())

    def curve(self, runs: Runs) -> Curve:
        """Sorted sums over their probability."""
        sums = np.sort(np.concatenate(runs))
        probability = (np.arange(len(sums)) + 0.5) / len(sums)
        return Curve(probability, sums, lambda value: self._sums(table_of(value), probability.tolist()))

    def _sums(self, table: dict[float, float], levels: Sequence[float]) -> np.ndarray:
        """Quantiles of the sum, if the quantity has the table's."""
        own = quantiles_at(table, THINNED)
        return np.quantile(own[:, None] + _thinned(self.other), levels)

    def _shifted_lognormal(self, sums: np.ndarray, middle: float) -> Quantiles:
        from scipy.optimize import minimize

        levels = known_levels(JUDGED, len(sums), JUDGED_BY)
        wanted, z = np.log(np.quantile(sums, levels)), ndtri(np.array(LEVELS))

        def table(x: np.ndarray) -> dict[float, float]:
            """Of the logarithms of median, spread and least value."""
            values = np.exp(min(x[2], 7.0)) + np.exp(np.clip(x[0] + np.exp(min(x[1], 1.0)) * z, -25.0, 10.0))
            return dict(zip(LEVELS, values.tolist(), strict=True))

        def error(x: np.ndarray) -> float:
            return float(np.abs(np.log(self._sums(table(x), levels)) - wanted).mean())

        start = np.array([math.log(middle / 2), -1.5, math.log(middle / 2)])
        return _rounded(table(minimize(error, start, method="Nelder-Mead", options={"maxiter": 250}).x))


class Expiry(Law):
    """Instances stay while they are idle for less than a period: points (idle s, warm share) into s."""

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """The middle of what is possible."""
        return {"expiry, halfway between warm and gone": self.centre(runs)}

    def centre(self, runs: Runs, method: str = "") -> float:
        """Halfway between the last idle time at which most are warm and the first one at which most are gone."""
        return sum(self.between(runs)) / 2

    def between(self, runs: Runs) -> tuple[float, float]:
        """The two idle times, s; the second is inf where none are gone."""
        points = np.concatenate(runs)
        times = np.unique(points[:, 0])
        warm = np.array([points[points[:, 0] == x, 1].mean() >= 0.5 for x in times])
        gone = times[~warm]
        first_gone = float(gone[0]) if len(gone) else math.inf
        return float(times[warm & (times < first_gone)].max(initial=0.0)), first_gone

    def error(self, value: Value, runs: Runs) -> float:
        """Mean distance of the shares."""
        curve = self.curve(runs)
        return float(np.abs(curve.predict(value) - curve.y).mean())

    def curve(self, runs: Runs) -> Curve:
        """Warm share over idle time."""
        points = np.concatenate(runs)
        x, y = points[np.argsort(points[:, 0], kind="stable")].T
        return Curve(x, y, lambda value: (x <= quantile_at(table_of(value), 0.5)).astype(float))


class Halving(Law):
    """Each idle period halves the instances: points (idle s, warm share) into s."""

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """The middle of the periods that fit best."""
        return {"halving, least absolute error": self.centre(runs)}

    def centre(self, runs: Runs, method: str = "") -> float:
        """The middle of the periods that fit best."""
        points = np.concatenate(runs)
        return sum(halving_period(points[:, 0], points[:, 1])) / 2

    def error(self, value: Value, runs: Runs) -> float:
        """Mean distance of the shares: they are relative already."""
        curve = self.curve(runs)
        return float(np.abs(curve.predict(value) - curve.y).mean())

    def curve(self, runs: Runs) -> Curve:
        """Warm share over idle time."""
        points = np.concatenate(runs)
        x, y = points[np.argsort(points[:, 0], kind="stable")].T
        return Curve(x, y, lambda value: 0.5 ** np.floor(x / quantile_at(table_of(value), 0.5)))


def table_of(value: Value) -> dict[float, float]:
    """A value as a table of quantiles."""
    if isinstance(value, Quantiles):
        return value.quantiles
    return empirical(value.draws_from) if isinstance(value, Samples) else {0.5: value}


def _thinned(samples: np.ndarray) -> np.ndarray:
    return np.quantile(samples, THINNED) if len(samples) > len(THINNED) else samples


def _rounded(table: dict[float, float]) -> Quantiles:
    return Quantiles(quantiles={p: float(f"{x:.4g}") for p, x in table.items()})
