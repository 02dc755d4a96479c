"""The difference between two samples of a number, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe.statistics import estimate, finite, welch


@dataclass(frozen=True)
class Difference:
    """One number of two runs.

    Attributes:
        of: whose number it is (a method, a function, a table), or empty.
        what, unit: the number.
        a, b: its mean in each run; None where a run does not have it.
        low, high: 95% interval of b - a; None where nothing was repeated.
        how: what the interval rests on, or why there is none.
    """

    of: str
    what: str
    unit: str
    a: float | None
    b: float | None
    low: float | None = None
    high: float | None = None
    how: str = ""

    @property
    def change(self) -> float | None:
        """b - a."""
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def relative(self) -> float | None:
        """(b - a) / a; None where a is 0."""
        return self.change / abs(self.a) if self.a and self.change is not None else None

    @property
    def verdict(self) -> str:
        """`B higher`, `B lower`, `not clear` (0 is in the interval), `same`, `unknown`:
        no confidence, or `one only`: the other run does not have it."""
        if self.a is None or self.b is None:
            return "one only"
        if math.isclose(self.a, self.b, rel_tol=1e-9) and not self.low and not self.high:
            return "same"
        if self.low is None or self.high is None:
            return "unknown"
        if self.low <= 0 <= self.high:
            return "not clear"
        return "B higher" if self.low > 0 else "B lower"


def paired(
    of: str, what: str, unit: str, a: Sequence[float | None], b: Sequence[float | None], over: str
) -> Difference:
    """Of values that belong together one by one: Student's t interval of the mean difference.

    Args:
        over: what there is a pair for, in the plural: `batches`.

    Source: Law, Simulation Modeling and Analysis, comparing two configurations, the paired-t interval.
    """
    pairs = [finite(pair) for pair in zip(a, b, strict=True)]
    both = np.array([pair for pair in pairs if len(pair) == 2])
    if not len(both):
        return unrepeated(of, what, unit, _mean(a), _mean(b), f"no {over} with a value in both")
    mean_a, mean_b = (float(mean) for mean in both.mean(axis=0))
    found = estimate(both[:, 1] - both[:, 0])
    if found.half_width is None:
        return unrepeated(of, what, unit, mean_a, mean_b, f"one pair of {over}")
    return Difference(of, what, unit, mean_a, mean_b, found.low, found.high, f"paired over {len(both)} {over}")


def unpaired(
    of: str, what: str, unit: str, a: Sequence[float | None], b: Sequence[float | None], over: str
) -> Difference:
    """Of independent values: Welch's interval of the difference of the means."""
    x, y = finite(a), finite(b)
    if min(len(x), len(y)) < 2:
        return unrepeated(of, what, unit, _mean(a), _mean(b), f"{len(x)} and {len(y)} {over}")
    how = f"Welch, {len(x)} and {len(y)} {over}"
    found = welch(x, y)
    return Difference(of, what, unit, float(x.mean()), float(y.mean()), found.low, found.high, how)


def unrepeated(of: str, what: str, unit: str, a: float | None, b: float | None, how: str) -> Difference:
    """Of single numbers: there is no confidence, and `how` says why."""
    return Difference(of, what, unit, a, b, how=how)


def _mean(values: Sequence[float | None]) -> float | None:
    found = finite(values)
    return float(found.mean()) if len(found) else None
