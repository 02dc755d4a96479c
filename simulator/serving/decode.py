"""Token-by-token generation: by passes through all layers, or in the instance that holds the sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from simulator.cloud.call import Call, Phase
from simulator.records import Record


@dataclass(frozen=True)
class Decode:
    """Token-by-token generation: how many steps, and the sequences that each gives a token to."""

    steps: int
    sequences: int


@dataclass
class Generated:
    """When an instance had its first token, and ended each step, s, shape (steps,); and the row of its call."""

    first_s: float = math.nan
    ends_s: np.ndarray = field(default_factory=lambda: np.empty(0))
    row: Record | None = None

    @property
    def usd(self) -> float:
        """What the steps cost: their share of the call's duration."""
        if self.row is None or not len(self.ends_s) or self.row.billed_s == 0:
            return 0.0
        return self.row.compute_cost_usd * (float(self.ends_s[-1]) - self.first_s) / self.row.billed_s


@dataclass(slots=True)
class Generate(Phase):
    """Give so many tokens to each sequence that the instance holds, one step after the other.

    Args:
        steps: of `step_s` each, times the platform's jitter.
        generated: told when each is done.
    """

    steps: int
    step_s: float
    generated: Generated

    def run(self, call: Call, at: float) -> float:
        """Take the steps' time."""
        self.generated.first_s, self.generated.row = at, call.record
        jitter = call.platform.compute.jitter.many(self.steps)
        self.generated.ends_s = at + np.cumsum(self.step_s * call.instance.slowdown * jitter)
        end = float(self.generated.ends_s[-1]) if self.steps else at
        call.record.add_phase("compute", at, end)
        return end
