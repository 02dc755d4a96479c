"""Measured quantities beside their simulated probes, and how far measurements scatter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

Data: TypeAlias = Literal["fitted", "same runs", "unseen", "of its time"]
MS, MBYTE, KB, MIB = 1e-3, 1e6, 1024.0, 2.0**20


@dataclass(frozen=True)
class Measured:
    """A measured quantity beside its simulated probe.

    Attributes:
        quantity, unit: what. measured, simulated: the values.
        spread: relative standard deviation of the measurement; None where nothing tells it.
        spread_of: between what, or what is known instead.
        data: `fitted`: the profile's constant comes from these data; `same runs`: from the same runs, but not
            from this quantity; `unseen`: it was not looked at; `of its time`: neither, and of machines that are
            gone.
        source: whose measurement, and when.
    """

    quantity: str
    unit: str
    measured: float
    simulated: float
    spread: float | None
    spread_of: str
    data: Data
    source: str

    @property
    def error(self) -> float:
        """Relative error of the simulated value."""
        return self.simulated / self.measured - 1


def scatter(values: Iterable[float]) -> float | None:
    """Relative standard deviation; None of fewer than two values."""
    known = np.array(list(values), float)
    return float(known.std(ddof=1) / known.mean()) if len(known) > 1 else None


def of_calls(row: Any, p50: str, p99: str) -> str:
    """What is known of the scatter of a single run: its calls' tail."""
    return f"one run; p99 of its {row.n:.0f} calls {row[p99] / row[p50] - 1:+.0%}"
