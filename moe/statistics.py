"""Means, shares and how sure they are: the intervals of every table and picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
Z95 = 1.959964
"""Quantile of the normal distribution: 95% of it is within so many standard deviations."""


@dataclass(frozen=True)
class Estimate:
    """A number, and half its 95% confidence interval; None where nothing was repeated.

    Attributes:
        low, high: ends of the interval; the number itself where there is none.
    """

    mean: float
    half_width: float | None

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + (self.half_width or 0.0)


def finite(values: Sequence[float | None]) -> np.ndarray:
    """The numbers that are there, shape (numbers,): no None, no NaN, nothing infinite."""
    return np.array([value for value in values if value is not None and math.isfinite(value)], float)


def estimate(values: ArrayLike, independent: float | None = None) -> Estimate:
    """Mean of independent values, and Student's t interval. Law, Simulation Modeling and Analysis, replications.

    Args:
        values: of replications, batches, seeds, or the differences of pairs; shape (values,).
        independent: see `t_half_width`.
    """
    x = np.asarray(values, float)
    if len(x) < 2:
        return Estimate(float(x[0]) if len(x) else math.nan, None)
    return Estimate(float(x.mean()), float(t_half_width(x, independent)))


def t_half_width(
    values: np.ndarray, independent: float | None = None, confidence: float = CONFIDENCE
) -> np.ndarray:
    """Half of Student's t interval of the mean over the first axis of at least two values.

    Args:
        values: shape (values, ...).
        independent: how many values there are data for, where they are of bootstrap samples: their spread is that
            of one value, but however many are drawn, the mean is known no better than from so many.
        confidence: of the interval.
    """
    from scipy.special import stdtrit

    count = len(values) if independent is None else min(len(values), independent)
    t = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    return np.asarray(t * values.std(axis=0, ddof=1) / np.sqrt(count))


def welch(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Mean of b less mean of a, of independent values, at least two each. Welch, Biometrika 34, 1947."""
    from scipy.special import stdtrit

    change, parts = float(b.mean() - a.mean()), [float(x.var(ddof=1)) / len(x) for x in (a, b)]
    variance = sum(parts)
    if variance == 0:
        return Estimate(change, 0.0)
    freedom = variance**2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True))
    return Estimate(change, float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(variance))


def wilson(wins: float, of: float) -> tuple[float, float]:
    """95% interval of a probability that came true `wins` times `of` so many. Wilson, JASA 22, 1927."""
    p, n, z = wins / of, of, Z95
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float((middle - half) / (1 + z * z / n)), float((middle + half) / (1 + z * z / n))


def resamples(values: int, draws: int, seed: int) -> np.ndarray:
    """Bootstrap: which of so many values each draw has, with replacement; shape (draws, values)."""
    return np.random.default_rng(seed).integers(values, size=(draws, values))


def percentile_interval(drawn: ArrayLike) -> tuple[float, float]:
    """The middle 95% of draws. Of bootstrap draws: Efron's percentile interval."""
    low, high = np.quantile(np.asarray(drawn, float), [0.025, 0.975]).tolist()
    return low, high


def ratio_of_sums(part: ArrayLike, whole: ArrayLike, draws: int = 2000) -> tuple[float, float, float]:
    """Sum of part over sum of whole, and its 95% interval by the bootstrap; NaN where the whole's reaches 0."""
    pairs = np.stack([np.asarray(part, float), np.asarray(whole, float)], axis=1)
    sums = pairs[resamples(len(pairs), draws, seed=0)].sum(axis=1)
    if percentile_interval(sums[:, 1])[0] <= 0:
        return math.nan, math.nan, math.nan
    return float(pairs[:, 0].sum() / pairs[:, 1].sum()), *percentile_interval(sums[:, 0] / sums[:, 1])
