"""Laws with a few constants, fitted so that a few odd points do not move them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

STRAY = 0.01  # share of instances that go, or stay, against any law
LIKELY = 1.92  # of a log likelihood: half the 95% quantile of chi-squared with one degree of freedom
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


def likely_periods(
    points: np.ndarray, left: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[float, float, float]:
    """The least and the greatest likely period, s (inf: no end is seen), and the log likelihood of the likeliest.

    Counts are binomial; `STRAY` of the instances do otherwise than the law says, so that one that is gone early
    does not rule a period out.

    Args:
        points: idle time (s), share of instances still there, instances; shape (points, 3).
        left: share that an idle time leaves, by the period.
    """
    idle_s, share, count = points.T
    periods = np.union1d(np.arange(1.0, idle_s.max() + 1.0), [*idle_s, idle_s.min() / 2])
    expected = STRAY + (1 - 2 * STRAY) * left(idle_s, np.append(periods, np.inf)[:, None])
    log = (count * (share * np.log(expected) + (1 - share) * np.log(1 - expected))).sum(axis=1)
    likely = np.flatnonzero(log >= log.max() - LIKELY)
    low = float(periods[min(likely[0], len(periods) - 1)]) if likely[0] else 0.0
    high = float(np.append(periods, np.inf)[min(likely[-1] + 1, len(periods))])
    return low, high, float(log.max())


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


def used_up(
    sizes: np.ndarray, began_s: np.ndarray, ended_s: np.ndarray, first_byte_s: np.ndarray, sustained: float
) -> np.ndarray:
    """Bytes of a full token bucket that are gone before each of a row of transfers, shape (transfers,).

    Args:
        sizes: bytes, in order. began_s, ended_s: s. first_byte_s: what a transfer waits for its first byte, while
            a full bucket gains nothing, s. All of shape (transfers,). sustained: refill, bytes/s.
    """
    gone, last_s, found = 0.0, float(began_s[0]) if len(began_s) else 0.0, []
    rows = zip(*(each.tolist() for each in (sizes, began_s, ended_s, first_byte_s)), strict=True)
    for size, began, ended, waits_s in rows:
        gone = max(0.0, gone - sustained * (began - last_s))
        found.append(gone)
        gone = max(0.0, gone + size - sustained * (ended - began - (0.0 if gone else waits_s)))
        last_s = ended
    return np.array(found)
