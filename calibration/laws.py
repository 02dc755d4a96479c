"""What kind of thing a constant is: how it is estimated from runs, and how far it is from runs not used for that.

A run is what was measured together, and the unit of every split and bootstrap: samples, shape (samples,), or
points (x, y), shape (points, 2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from calibration.distributions import FAMILIES, empirical, quantile_error
from calibration.regression import halving_period, theil_sen
from simulator.constant import Quantiles, Samples
from simulator.draws import quantile_at

Value: TypeAlias = float | Quantiles | Samples
Runs: TypeAlias = Sequence[np.ndarray]


@dataclass(frozen=True)
class Curve:
    """A quantity as it is drawn: measured points, and what a value predicts there; arrays (points,)."""

    x: np.ndarray
    y: np.ndarray
    predict: Callable[[Value], np.ndarray]


class Law(Protocol):
    """A kind of constant. `candidates` are tried on fitted runs, `error` chooses among them on others."""

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


class Distribution(Law):
    """A random quantity: each run has samples of it."""

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """Every family's table."""
        samples = np.concatenate(runs)
        return {name: _rounded(family(samples)) for name, family in FAMILIES.items()}

    def centre(self, runs: Runs, method: str) -> float:
        """The family's median."""
        return FAMILIES[method](np.concatenate(runs))[0.5]

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
            lambda value: np.array([quantile_at(table_of(value), p) for p in probability]),
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
            lambda value: np.array([quantile_at(table_of(value), p) for p in self.levels]),
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


class Bandwidth(Law):
    """Seconds = latency + bytes / bandwidth: points (bytes, seconds) into bytes/s."""

    def candidates(self, runs: Runs) -> dict[str, Value]:
        """Theil and Sen's line."""
        return {"Theil-Sen": self.centre(runs)}

    def centre(self, runs: Runs, method: str = "") -> float:
        """1 / slope."""
        points = np.concatenate(runs)
        return 1 / theil_sen(points[:, 0], points[:, 1]).slope

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


def _rounded(table: dict[float, float]) -> Quantiles:
    return Quantiles(quantiles={p: float(f"{x:.4g}") for p, x in table.items()})
