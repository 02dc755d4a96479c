"""Laws with a few constants, fitted so that a few odd points do not move them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TOLD = 0.05  # a bound is told by values that are so much worse described without it: mean |log ratio|


class Line(NamedTuple):
    """y = intercept + slope x."""

    slope: float
    intercept: float


class TokenBucket(NamedTuple):
    """A link that moves `burst_bytes` at `burst_bytes_per_s`, then `sustained_bytes_per_s` for ever."""

    burst_bytes_per_s: float
    burst_bytes: float
    sustained_bytes_per_s: float


def theil_sen(x: np.ndarray, y: np.ndarray, by_distance: bool = False) -> Line:
    """The median of the slopes between all pairs of points, and the median of what is left.

    Args:
        x, y: the points, shape (points,), with at least two different x.
        by_distance: a pair counts by how far apart its x are: what is noisy in y tells less of near ones.
    """
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] != x[i]
    slopes, weights = (y[j] - y[i])[apart] / (x[j] - x[i])[apart], np.abs(x[j] - x[i])[apart]
    slope = _weighted_median(slopes, weights) if by_distance else float(np.median(slopes))
    return Line(slope, float(np.median(y - slope * x)))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def token_bucket(until_s: np.ndarray, moved_bytes: np.ndarray, settled_s: float) -> TokenBucket:
    """A bucket from bytes moved over time: bytes = burst_bytes + sustained t, once the bucket is empty.

    Args:
        until_s: ends of intervals, s, shape (intervals,). moved_bytes: since the start, same shape.
        settled_s: from when the bucket is empty for sure, s.
    """
    late = until_s >= settled_s
    sustained, bucket = theil_sen(until_s[late], moved_bytes[late])
    return TokenBucket(burst_rate(until_s, moved_bytes, bucket), bucket, sustained)


def burst_rate(until_s: np.ndarray, moved_bytes: np.ndarray, bucket_bytes: float) -> float:
    """Bytes/s while the first three quarters of a bucket are used."""
    early = moved_bytes <= 0.75 * bucket_bytes
    return theil_sen(until_s[early], moved_bytes[early]).slope


def halving_period(idle_s: np.ndarray, warm_share: np.ndarray) -> tuple[float, float]:
    """The least and the greatest period T (whole s) by which a warm share 0.5^floor(idle / T) fits best.

    Args:
        idle_s: shape (points,). warm_share: of the instances, in [0, 1], same shape. Best: least absolute error.
    """
    periods = np.arange(min(30.0, idle_s.max() / 10), idle_s.max() + 1.0)
    left = 0.5 ** np.floor(idle_s / periods[:, None])
    error = np.abs(left - warm_share).sum(axis=1)
    best = periods[error <= error.min() + 1e-9]
    return float(best[0]), float(best[-1])


def least_bounds(units: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Factors f of values = min over bounds of units x f, so that a few odd values do not move them.

    Each bound is the median of what it explains, in turns, from the least factors that no value exceeds.

    Args:
        units: what each bound is proportional to, shape (points, bounds). values: shape (points,); both above 0.

    Returns:
        Shape (bounds,); NaN for a bound without which the values are described as well.
    """
    every = list(range(units.shape[1]))
    found, errors = _bounds(units, values)
    active = np.argmin(units * found, axis=1)
    told = np.full(len(every), np.nan)
    for k in set(active.tolist()):
        others = [j for j in every if j != k]
        without = _bounds(units[:, others], values)[1] if others else np.full(len(values), np.inf)
        if (without - errors)[active == k].mean() > TOLD:
            told[k] = found[k]
    return told


def _bounds(units: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors, and the |log ratio| that they leave of each value: the best of three starts."""
    best = np.full(units.shape[1], np.inf), np.full(len(values), np.inf)
    for level in (1.0, 0.9, 0.75):
        factors = np.quantile(values[:, None] / units, level, axis=0)
        for _ in range(50):
            active = np.argmin(units * factors, axis=1)
            before = factors.copy()
            for k in range(len(factors)):
                if (active == k).any():
                    factors[k] = np.median(values[active == k] / units[active == k, k])
            if np.allclose(before, factors, rtol=1e-9):
                break
        errors = np.abs(np.log((units * factors).min(axis=1) / values))
        best = min(best, (factors, errors), key=lambda each: each[1].mean())
    return best


def start_and_slope(x: np.ndarray, y: np.ndarray) -> Line:
    """y = a + b x with a and b >= 0, by relative errors: small y count as much as large ones.

    Args:
        x, y: the points, shape (points,), y above 0, at least two different x.
    """
    from scipy.optimize import least_squares

    slope, intercept = theil_sen(x, y)
    start = np.log([max(intercept, 1e-3 * y.min()), max(slope, 1e-3 * float(y.max() / x.max()))])

    def residuals(logs: np.ndarray) -> np.ndarray:
        a, b = np.exp(logs)
        return np.log((a + b * x) / y)

    a, b = np.exp(least_squares(residuals, start, loss="soft_l1", f_scale=0.05).x)
    return Line(float(b), float(a))


def used_up(sizes: np.ndarray, began_s: np.ndarray, ended_s: np.ndarray, sustained: float) -> np.ndarray:
    """Bytes of a full token bucket that are gone before each of a row of transfers, shape (transfers,).

    Args:
        sizes: bytes, in order. began_s, ended_s: s. All of shape (transfers,). sustained: refill, bytes/s.
    """
    gone, last_s, found = 0.0, float(began_s[0]) if len(began_s) else 0.0, []
    for size, began, ended in zip(sizes.tolist(), began_s.tolist(), ended_s.tolist(), strict=True):
        gone = max(0.0, gone - sustained * (began - last_s))
        found.append(gone)
        gone = max(0.0, gone + size - sustained * (ended - began))
        last_s = ended
    return np.array(found)
