"""Random numbers of the simulator: distributions given by quantiles, drawn in blocks."""

import math
from collections.abc import Collection, Mapping
from functools import cached_property

import numpy as np

BLOCK = 1024
LARGEST_Z = (
    3.5  # draws stop at the 1 in 4,300 quantile, or at the farthest that the table has: beyond, it says nothing
)


class Stream:
    """An endless row of random numbers, drawn in blocks: one by one or many at once, in one order.

    Args:
        rng: the stream's own generator. constant: what it always gives; then nothing is drawn.
    """

    def __init__(self, rng: np.random.Generator, constant: float | None = None) -> None:
        self._rng, self._constant = rng, constant
        self._block: list[float] = []  # the next number last

    def next(self) -> float:
        """The next number."""
        if self._constant is not None:
            return self._constant
        if not self._block:
            self._block = self._draw().tolist()
        return self._block.pop()

    def many(self, count: int) -> np.ndarray:
        """The next `count` numbers, shape (count,)."""
        if self._constant is not None:
            return np.full(count, self._constant)
        kept = len(self._block) - min(count, len(self._block))
        found, self._block = [np.array(self._block[kept:][::-1])], self._block[:kept]
        missing = count - len(found[0])
        while missing > 0:
            block = self._draw()[::-1]
            found.append(block[:missing])
            self._block = block[: missing - 1 : -1].tolist() if missing < len(block) else []
            missing -= len(block)
        return np.concatenate(found)

    def _draw(self) -> np.ndarray:
        """One more block, of which the last number comes first."""
        raise NotImplementedError


class Draws(Stream):
    """Draws of a distribution.

    Args:
        values: probability -> value, as in a platform profile; or measured samples, each as likely as the others,
            shape (samples,); or a number, for a constant.
        rng: the stream's own generator.
    """

    def __init__(self, values: Mapping[float, float] | np.ndarray | float, rng: np.random.Generator) -> None:
        super().__init__(rng, float(values) if isinstance(values, float | int) else None)
        self._values = values

    @cached_property
    def median(self) -> float:
        """The median of the draws."""
        return median_of(self._values)

    def _draw(self) -> np.ndarray:
        if isinstance(self._values, Mapping):
            most = farthest_z(self._values)
            return _at_normal(self._values, np.clip(self._rng.standard_normal(BLOCK), -most, most))
        return self._rng.choice(np.asarray(self._values), BLOCK)


class Exponentials(Stream):
    """Exponential draws of a mean; in blocks as long as arrivals have them."""

    def __init__(self, mean: float, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._mean = mean

    def _draw(self) -> np.ndarray:
        return self._rng.exponential(self._mean, 4 * BLOCK)[::-1]


class Lifetimes(Stream):
    """Times until something that may happen at any moment does; `math.inf` where it never does.

    Args:
        mean_s: mean time, s.
        rng: the stream's own generator.
    """

    def __init__(self, mean_s: float, rng: np.random.Generator) -> None:
        super().__init__(rng, math.inf if mean_s == math.inf else None)
        self._mean_s = mean_s

    def _draw(self) -> np.ndarray:
        return self._rng.exponential(self._mean_s, BLOCK)


class Halvings(Stream):
    """Times that instances stay idle where each period halves them: a period times a geometric number."""

    def __init__(self, period_s: float, rng: np.random.Generator) -> None:
        super().__init__(rng)
        self._period_s = period_s

    def _draw(self) -> np.ndarray:
        return self._period_s * self._rng.geometric(0.5, BLOCK)


class Chances(Stream):
    """A stream of yes and no: yes with a probability."""

    def __init__(self, probability: float, rng: np.random.Generator) -> None:
        super().__init__(rng, False if probability == 0 else None)
        self._probability = probability

    def _draw(self) -> np.ndarray:
        return self._rng.random(BLOCK) < self._probability


class Choices(Stream):
    """An endless stream of one of some values, each with its probability.

    Args:
        values, shares: both of shape (values,). rng: the stream's own generator.
    """

    def __init__(self, values: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> None:
        super().__init__(rng, float(values[0]) if len(values) == 1 else None)
        self._values, self._shares = values, shares

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return float(self._values @ self._shares)

    def _draw(self) -> np.ndarray:
        return self._rng.choice(self._values, BLOCK, p=self._shares)


class Ahead:
    """A stream that is looked at before its numbers are taken.

    Args:
        stream: what they are taken from, in its order.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream, self._values, self._at = stream, np.empty(0), 0

    def peek(self, count: int) -> np.ndarray:
        """The next `count` numbers, which are still the next ones then, shape (count,)."""
        missing = self._at + count - len(self._values)
        if missing > 0:
            more = self._stream.many(max(missing, 16 * BLOCK))
            self._values, self._at = np.concatenate([self._values[self._at :], more]), 0
        return self._values[self._at : self._at + count]

    def skip(self, count: int) -> None:
        """Take the next `count` numbers."""
        self._at += count

    def next(self) -> float:
        """Take the next number."""
        value: float = self.peek(1)[0].item()
        self._at += 1
        return value


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
    return float(_at_normal(table, _normal_quantiles(np.array([probability])))[0])


def quantiles_at(table: Mapping[float, float], probabilities: np.ndarray) -> np.ndarray:
    """The same at each of some probabilities; their shape."""
    return _at_normal(table, _normal_quantiles(probabilities))


def median_of(values: Mapping[float, float] | np.ndarray | float) -> float:
    """The median of the draws of a table of quantiles, of samples, or of a constant."""
    return quantile_at(values, 0.5) if isinstance(values, Mapping) else float(np.median(values))


def mean_of(values: Mapping[float, float] | np.ndarray | float) -> float:
    """The mean of the same."""
    if not isinstance(values, Mapping):
        return float(np.mean(values))
    from scipy.special import ndtr

    table = values
    most = farthest_z(table)
    z = np.linspace(-most, most, 4001)
    weight = np.diff(ndtr(z))
    values = _at_normal(table, (z[1:] + z[:-1]) / 2)
    return float((values * weight).sum() / weight.sum())


def farthest_z(table: Mapping[float, float]) -> float:
    """How many standard deviations from the median the draws of a table of quantiles may be, either way."""
    return max(LARGEST_Z, float(np.abs(_normal_quantiles(np.array(list(table)))).max()))


def _normal_quantiles(probabilities: np.ndarray) -> np.ndarray:
    """Of the standard normal distribution, at probabilities in (0, 1); their shape."""
    from scipy.special import ndtri

    found: np.ndarray = ndtri(probabilities)
    return found


def _at_normal(table: Mapping[float, float], z: np.ndarray) -> np.ndarray:
    """Values at normal quantiles z: log-linear between the table's points and beyond the outer ones."""
    points = _normal_quantiles(np.array(list(table)))
    logs = np.log(np.array(list(table.values())))
    if len(points) == 1:
        return np.full(z.shape, math.exp(logs[0]))
    k = np.clip(np.searchsorted(points, z) - 1, 0, len(points) - 2)
    slope = (logs[k + 1] - logs[k]) / (points[k + 1] - points[k])
    return np.exp(logs[k] + slope * (z - points[k]))
