"""Random numbers of the simulator: distributions given by quantiles, drawn in blocks."""

import math
from collections.abc import Collection, Mapping
from functools import cached_property

import numpy as np
from scipy.special import ndtr, ndtri

BLOCK = 1024
LARGEST_Z = (
    3.5  # draws stop at the 1 in 4,300 quantile, or at the farthest that the table has: beyond, it says nothing
)


class Draws:
    """An endless stream of draws: `next()` gives the next one.

    Args:
        values: probability -> value, as in a platform profile; or measured samples, each as likely as the others,
            shape (samples,); or a number, for a constant.
        rng: the stream's own generator.
    """

    def __init__(self, values: Mapping[float, float] | np.ndarray | float, rng: np.random.Generator) -> None:
        self._values = values
        self._rng = rng
        self._block: list[float] = []
        self._constant = float(values) if isinstance(values, float | int) else None

    @cached_property
    def median(self) -> float:
        """The median of the draws."""
        return median_of(self._values)

    def next(self) -> float:
        """The next draw."""
        if self._constant is not None:
            return self._constant
        if not self._block:
            self._block = self._draw().tolist()
        return self._block.pop()

    def many(self, count: int) -> np.ndarray:
        """The next `count` draws, shape (count,)."""
        if self._constant is not None:
            return np.full(count, self._constant)
        found: list[float] = []
        while (missing := count - len(found)) > 0:
            self._block = self._block or self._draw().tolist()
            found += self._block[: -missing - 1 : -1]
            del self._block[-missing:]
        return np.array(found)

    def _draw(self) -> np.ndarray:
        if isinstance(self._values, Mapping):
            most = farthest_z(self._values)
            return _at_normal(self._values, np.clip(self._rng.standard_normal(BLOCK), -most, most))
        return self._rng.choice(np.asarray(self._values), BLOCK)


class Lifetimes:
    """Times until something that may happen at any moment does; `math.inf` where it never does.

    Args:
        mean_s: mean time, s.
        rng: the stream's own generator.
    """

    def __init__(self, mean_s: float, rng: np.random.Generator) -> None:
        self._mean_s = mean_s
        self._rng = rng
        self._block: list[float] = []

    def next(self) -> float:
        """The next time, s."""
        if self._mean_s == math.inf:
            return math.inf
        if not self._block:
            self._block = self._rng.exponential(self._mean_s, BLOCK).tolist()
        return self._block.pop()


class Halvings:
    """Times that instances stay idle where each period halves them: a period times a geometric number."""

    def __init__(self, period_s: float, rng: np.random.Generator) -> None:
        self._period_s = period_s
        self._rng = rng
        self._block: list[float] = []

    def next(self) -> float:
        """The next time, s."""
        if not self._block:
            self._block = (self._period_s * self._rng.geometric(0.5, BLOCK)).tolist()
        return self._block.pop()


class Chances:
    """A stream of yes and no: yes with a probability."""

    def __init__(self, probability: float, rng: np.random.Generator) -> None:
        self._probability = probability
        self._rng = rng
        self._block: list[bool] = []

    def next(self) -> bool:
        """Whether it happens this time."""
        if self._probability == 0:
            return False
        if not self._block:
            self._block = (self._rng.random(BLOCK) < self._probability).tolist()
        return self._block.pop()


class Choices:
    """An endless stream of one of some values, each with its probability.

    Args:
        values, shares: both of shape (values,). rng: the stream's own generator.
    """

    def __init__(self, values: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> None:
        self._values, self._shares, self._rng = values, shares, rng
        self._block: list[float] = []

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return float(self._values @ self._shares)

    def next(self) -> float:
        """The next value."""
        if len(self._values) == 1:
            return float(self._values[0])
        if not self._block:
            self._block = self._rng.choice(self._values, BLOCK, p=self._shares).tolist()
        return self._block.pop()


class Retries:
    """A caller's retries: exponential backoff, of which a random share is waited.

    Args:
        attempts: in all. base_s, cap_s: of the backoff. rng: the stream's own generator.
        again_after: statuses of a call's attempt after which it is tried again.
    """

    def __init__(
        self,
        attempts: int,
        base_s: float,
        cap_s: float,
        rng: np.random.Generator,
        again_after: Collection[str] = (),
    ) -> None:
        self.attempts, self.again_after = attempts, again_after
        self._base_s, self._cap_s, self._rng = base_s, cap_s, rng

    def backoff_s(self, attempt: int) -> float:
        """Wait after the failed attempt number `attempt` (from 1), s."""
        return float(self._rng.random()) * min(self._cap_s, self._base_s * 2 ** (attempt - 1))


def quantile_at(table: Mapping[float, float], probability: float) -> float:
    """The value of a table of quantiles at a probability in (0, 1)."""
    return float(_at_normal(table, np.array([ndtri(probability)]))[0])


def quantiles_at(table: Mapping[float, float], probabilities: np.ndarray) -> np.ndarray:
    """The same at each of some probabilities; their shape."""
    return _at_normal(table, ndtri(probabilities))


def median_of(values: Mapping[float, float] | np.ndarray | float) -> float:
    """The median of the draws of a table of quantiles, of samples, or of a constant."""
    return quantile_at(values, 0.5) if isinstance(values, Mapping) else float(np.median(values))


def mean_of(values: Mapping[float, float] | np.ndarray | float) -> float:
    """The mean of the same."""
    if not isinstance(values, Mapping):
        return float(np.mean(values))
    table = values
    most = farthest_z(table)
    z = np.linspace(-most, most, 4001)
    weight = np.diff(ndtr(z))
    values = _at_normal(table, (z[1:] + z[:-1]) / 2)
    return float((values * weight).sum() / weight.sum())


def farthest_z(table: Mapping[float, float]) -> float:
    """How many standard deviations from the median the draws of a table of quantiles may be, either way."""
    return max(LARGEST_Z, float(np.abs(ndtri(np.array(list(table)))).max()))


def _at_normal(table: Mapping[float, float], z: np.ndarray) -> np.ndarray:
    """Values at normal quantiles z: log-linear between the table's points and beyond the outer ones."""
    points = ndtri(np.array(list(table)))
    logs = np.log(np.array(list(table.values())))
    if len(points) == 1:
        return np.full(z.shape, math.exp(logs[0]))
    k = np.clip(np.searchsorted(points, z) - 1, 0, len(points) - 2)
    slope = (logs[k + 1] - logs[k]) / (points[k + 1] - points[k])
    return np.exp(logs[k] + slope * (z - points[k]))
