"""What kind of thing a constant is: how it is estimated from runs, and how far it is from runs not used for that.

A run is what was measured together, and the unit of every split and bootstrap: samples, shape (samples,), or
points (x, y), shape (points, 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

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
from calibration.fitting.regression import likely_periods, theil_sen
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

    def value(self, runs: Runs, method: str) -> Value:
        """One of the candidates."""
        return self.candidates(runs)[method]

    def centre(self, runs: Runs, method: str) -> float:
        """What a candidate estimates, of a distribution the median; of one run, what that says by itself."""

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

    def value(self, runs: Runs, method: str) -> Value:
        """One family's table."""
        return _rounded(FAMILIES[method](np.concatenate(runs)))

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


class Around(Distribution):
    """A random factor around 1: what is to be known of it is not its median, but its 99% quantile."""

    tail = True

    def centre(self, runs: Runs, method: str) -> float:
        """The 99% quantile of a lognormal: few samples of a run tell their spread better than their tail."""
        return float(np.exp(ndtri(0.99) * np.log(np.concatenate(runs)).std()))

    def number(self, value: Value) -> float:
        """The 99% quantile."""
        return quantile_at(table_of(value), 0.99)


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


class Beneath(Law):
    """A random quantity that is seen only together with another one: samples of their sum, and of the other alone.

    A constant, or a least value plus a lognormal so that the sum's quantiles come near. A run has points
    (sum, other), shape (samples, 2): two rows of samples, of which none belongs to another (`side_by_side`).
    """

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """Each family's table."""
        middle = self.centre(runs)
        return {
            "constant beneath": float(f"{middle:.6g}"),
            "shifted lognormal beneath": self._shifted_lognormal(np.concatenate(runs), middle),
        }

    def value(self, runs: Runs, method: str) -> Value:
        """One of them."""
        return self.centre(runs) if method.startswith("constant") else self.candidates(runs)[method]

    def centre(self, runs: Runs, method: str = "") -> float:
        """The median difference of a sum and a value of the other quantity."""
        sums, other = np.concatenate(runs).T
        differences = _thinned(sums)[:, None] - _thinned(other)
        return max(float(np.median(differences)), LEAST_S)

    def error(self, value: Value, runs: Runs) -> float:
        """Mean relative distance of the sums' quantiles."""
        sums, other = np.concatenate(runs).T
        levels = known_levels(JUDGED, len(sums), JUDGED_BY)
        return float(np.abs(np.log(_summed(table_of(value), other, levels) / np.quantile(sums, levels))).mean())

    def curve(self, runs: Runs) -> Curve:
        """Sorted sums over their probability."""
        sums, other = np.concatenate(runs).T
        probability = (np.arange(len(sums)) + 0.5) / len(sums)
        return Curve(
            probability, np.sort(sums), lambda value: _summed(table_of(value), other, probability.tolist())
        )

    def _shifted_lognormal(self, points: np.ndarray, middle: float) -> Quantiles:
        from scipy.optimize import minimize

        sums, other = points.T
        levels = known_levels(JUDGED, len(sums), JUDGED_BY)
        wanted, z = np.log(np.quantile(sums, levels)), ndtri(np.array(LEVELS))

        def table(x: np.ndarray) -> dict[float, float]:
            """Of the logarithms of median, spread and least value."""
            values = np.exp(min(x[2], 7.0)) + np.exp(np.clip(x[0] + np.exp(min(x[1], 1.0)) * z, -25.0, 10.0))
            return dict(zip(LEVELS, values.tolist(), strict=True))

        def error(x: np.ndarray) -> float:
            return float(np.abs(np.log(_summed(table(x), other, levels)) - wanted).mean())

        start = np.array([math.log(middle / 2), -1.5, math.log(middle / 2)])
        return _rounded(table(minimize(error, start, method="Nelder-Mead", options={"maxiter": 250}).x))


class Idle(Law):
    """Which share of instances is still there after an idle time: points (idle s, warm share, instances).

    The law of a period that is likeliest; all periods within `LIKELY` of it are as good.
    """

    said: ClassVar[str]

    def left(self, idle_s: np.ndarray, period_s: np.ndarray) -> np.ndarray:
        """Share of instances that an idle time leaves."""
        raise NotImplementedError

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """The middle of what is likely."""
        return {f"{self.said}, maximum likelihood": self.centre(runs)}

    def centre(self, runs: Runs, method: str = "") -> float:
        """The middle of what is likely; where it has no end, its beginning."""
        low, high = self.between(runs)
        return low if high == math.inf else (low + high) / 2

    def between(self, runs: Runs) -> tuple[float, float]:
        """The least and the greatest likely period, s; the second is inf where no idle time was too long."""
        low, high, _ = likely_periods(np.concatenate(runs), self.left)
        return low, high

    def likelihood(self, runs: Runs) -> float:
        """Its logarithm, of the likeliest period."""
        return likely_periods(np.concatenate(runs), self.left)[2]

    def error(self, value: Value, runs: Runs) -> float:
        """Mean distance of the shares: they are relative already."""
        curve = self.curve(runs)
        return float(np.abs(curve.predict(value) - curve.y).mean())

    def curve(self, runs: Runs) -> Curve:
        """Warm share over idle time."""
        points = np.concatenate(runs)
        x, y = points[np.argsort(points[:, 0], kind="stable")].T[:2]
        return Curve(x, y, lambda value: self.left(x, np.array(quantile_at(table_of(value), 0.5))))


class Expiry(Idle):
    """Instances stay while they are idle for less than a period."""

    said = "expiry"

    def left(self, idle_s: np.ndarray, period_s: np.ndarray) -> np.ndarray:
        """All or none."""
        return np.asarray(idle_s <= period_s, float)


class Halving(Idle):
    """Each idle period halves the instances."""

    said = "halving"

    def left(self, idle_s: np.ndarray, period_s: np.ndarray) -> np.ndarray:
        """Half of them for each period that is over."""
        return np.asarray(0.5 ** np.floor(idle_s / period_s))


def table_of(value: Value) -> dict[float, float]:
    """A value as a table of quantiles."""
    if isinstance(value, Quantiles):
        return value.quantiles
    return empirical(value.draws_from) if isinstance(value, Samples) else {0.5: value}


def side_by_side(sums: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Samples of a sum, beside as many quantiles of the other quantity alone: a run of `Beneath`."""
    return np.column_stack([np.sort(sums), np.quantile(other, (np.arange(len(sums)) + 0.5) / len(sums))])


def _summed(table: dict[float, float], other: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Quantiles of the sum of a quantity that has the table's, and the other."""
    own = quantiles_at(table, THINNED)
    return np.quantile(own[:, None] + _thinned(other), levels)


def _thinned(samples: np.ndarray) -> np.ndarray:
    return np.quantile(samples, THINNED) if len(samples) > len(THINNED) else samples


def _rounded(table: dict[float, float]) -> Quantiles:
    return Quantiles(quantiles={p: float(f"{x:.4g}") for p, x in table.items()})
