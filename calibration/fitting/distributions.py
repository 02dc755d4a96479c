"""Families of distributions, fitted to samples and written as tables of quantiles, which the simulator draws from.

Fitting a table and not parameters means that what is judged is what a simulation will draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import ndtr, ndtri

from simulator.draws import quantile_at, quantiles_at

LEVELS = (0.05, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Probabilities of a table."""
JUDGED = (*np.round(np.arange(0.05, 0.96, 0.05), 2).tolist(), 0.99)
"""Probabilities at which a table is held against samples."""
TOLD_BY, JUDGED_BY = 2, 5  # samples beyond a quantile, from which on it is estimated, and judged
EM_STEPS, MOST_IN_EM = 100, 400  # more samples are thinned to so many of their quantiles
LEAST_SIGMA = 1e-6


def known_levels(levels: tuple[float, ...], count: int, beyond: int) -> list[float]:
    """The probabilities beyond which so many of `count` samples lie; the median always."""
    return [p for p in levels if p == 0.5 or round(min(p, 1 - p) * count, 9) >= beyond]


def empirical(samples: np.ndarray) -> dict[float, float]:
    """The samples' own quantiles."""
    levels = known_levels(LEVELS, len(samples), TOLD_BY)
    return dict(zip(levels, np.quantile(samples, levels).tolist(), strict=True))


def lognormal(samples: np.ndarray) -> dict[float, float]:
    """By maximum likelihood: mean and standard deviation of the logarithms."""
    logs = np.log(samples)
    return _table(np.exp(logs.mean() + max(logs.std(), LEAST_SIGMA) * ndtri(np.array(LEVELS))))


def shifted_lognormal(samples: np.ndarray) -> dict[float, float]:
    """A least value plus a lognormal. The shift makes the 5% and 95% quantiles symmetric in the logarithm."""
    low, middle, high = np.quantile(samples, [0.05, 0.5, 0.95])
    skew = low + high - 2 * middle
    shift = (low * high - middle**2) / skew if skew > 0 else 0.0
    shift = float(np.clip(shift, 0.0, samples.min() * (1 - 1e-6)))
    rest = np.log(samples - shift)
    middle, sigma = (
        np.median(rest),
        max(float(np.subtract(*np.quantile(rest, [0.95, 0.05])) / (2 * ndtri(0.95))), 1e-6),
    )
    return _table(shift + np.exp(middle + sigma * ndtri(np.array(LEVELS))))


def mixture(samples: np.ndarray) -> dict[float, float]:
    """Two lognormals, by expectation and maximisation from the lower and the upper half."""
    count = min(len(samples), MOST_IN_EM)
    logs = np.quantile(np.log(samples), (np.arange(count) + 0.5) / count)
    halves = np.array_split(logs, 2)
    mean = np.array([half.mean() if len(half) else logs.mean() for half in halves])
    least = max(0.02 * float(logs.std()), LEAST_SIGMA)  # else one part may shrink to a single sample
    sigma = np.array([max(float(half.std()) if len(half) else 0.0, least) for half in halves])
    weight = np.array([0.5, 0.5])
    for _ in range(EM_STEPS):
        density = weight / sigma * np.exp(-0.5 * ((logs[:, None] - mean) / sigma) ** 2) + 1e-300
        share = density / density.sum(axis=1, keepdims=True)
        total = share.sum(axis=0) + 1e-300
        weight, mean = total / len(logs), (share * logs[:, None]).sum(axis=0) / total
        sigma = np.maximum(np.sqrt((share * (logs[:, None] - mean) ** 2).sum(axis=0) / total), least)
    grid = np.linspace((mean - 5 * sigma).min(), (mean + 5 * sigma).max(), 20_001)
    cumulative = (weight * ndtr((grid[:, None] - mean) / sigma)).sum(axis=1)
    return _table(np.exp(np.interp(LEVELS, cumulative, grid)))


def quantile_error(table: Mapping[float, float], samples: np.ndarray) -> float:
    """Mean distance of the table's quantiles from the samples', |log ratio|: about their mean relative error."""
    levels = known_levels(JUDGED, len(samples), JUDGED_BY)
    drawn = np.array([quantile_at(table, p) for p in levels])
    return float(np.abs(np.log(drawn / np.quantile(samples, levels))).mean())


def ks_distance(table: Mapping[float, float], samples: np.ndarray) -> float:
    """The largest difference between the table's distribution function and the samples' (Kolmogorov, Smirnov)."""
    z = np.linspace(-4.0, 4.0, 2001)
    values = np.maximum.accumulate(quantiles_at(table, ndtr(z)))
    ordered = np.sort(samples)
    below, above = (np.searchsorted(ordered, values, side) / len(ordered) for side in ("left", "right"))
    return float(np.maximum(ndtr(z) - below, above - ndtr(z)).clip(0).max())


FAMILIES: dict[str, Callable[[np.ndarray], dict[float, float]]] = {
    "empirical": empirical,
    "lognormal": lognormal,
    "shifted lognormal": shifted_lognormal,
    "mixture of two lognormals": mixture,
}
"""Positive samples, shape (samples,), into a table of quantiles."""


def _table(values: np.ndarray) -> dict[float, float]:
    return dict(zip(LEVELS, np.maximum.accumulate(values).tolist(), strict=True))
