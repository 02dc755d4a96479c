"""Rows of the validation: what was expected, what the simulator gave, and how far it scatters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Check:
    """What was expected and from where, and what the simulator gave.

    Attributes:
        what: the quantity. source: of the expected value.
        expected, found: the two values, `found` the mean over seeds (or the worst of many cases).
        spread: standard deviation of `found` over seeds or cases; 0 where nothing is random.
    """

    what: str
    source: str
    expected: float
    found: float
    spread: float = 0.0

    @property
    def error(self) -> float:
        """Relative error of the mean."""
        return self.found / self.expected - 1


def over_seeds(what: str, source: str, expected: float, found: Iterable[float]) -> Check:
    """A check of the mean over seeds."""
    values = np.array(list(found))
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Check(what, source, expected, float(values.mean()), spread)
