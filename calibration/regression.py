"""Laws with a few constants, fitted so that a few odd points do not move them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Line(NamedTuple):
    """y = intercept + slope x."""

    slope: float
    intercept: float


class TokenBucket(NamedTuple):
    """A link that moves `burst_bytes` at `burst_bytes_per_s`, then `sustained_bytes_per_s` for ever."""

    burst_bytes_per_s: float
    burst_bytes: float
    sustained_bytes_per_s: float


def theil_sen(x: np.ndarray, y: np.ndarray) -> Line:
    """The median of the slopes between all pairs of points, and the median of what is left.

    Args:
        x, y: the points, shape (points,), with at least two different x.
    """
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] != x[i]
    slope = float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart]))
    return Line(slope, float(np.median(y - slope * x)))


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
    periods = np.arange(30.0, idle_s.max() + 1.0)
    left = 0.5 ** np.floor(idle_s / periods[:, None])
    error = np.abs(left - warm_share).sum(axis=1)
    best = periods[error <= error.min() + 1e-9]
    return float(best[0]), float(best[-1])
