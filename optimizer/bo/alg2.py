"""What Alg. 2 leaves open, in one table; its law of exploration; and when that ends (Theorem 2).

Source: Liu, Wang, Wu, INFOCOM 2025, Alg. 2 and Theorem 2. Why each value: docs/bo.md.
"""

import math
from dataclasses import dataclass, fields

import numpy as np

from moe.errors import InputError


@dataclass(frozen=True)
class Alg2:
    """The constants of Alg. 2.

    Attributes:
        pairs: Q, key-value pairs that are tuned.
        batches: J, batches that a trial serves.
        alpha: a replica is mispredicted that gets more or less than predicted by this share of an expert's mean
            tokens (tokens x top-k / experts).
        epsilon_0: share of the pairs that the first trial draws anew.
        rho: how fast that share falls.
        rho_1, rho_2, rho_3: rho' after a memory overflow, a payload overflow, a misprediction.
        by_frequency: a new pair's token ID is drawn as often as it occurs; else all IDs of the range alike.
        mu: share of the pairs that keep exploring after an error, and are drawn from the limited range.
        patience: lambda, trials in which the best score must improve.
        zeta: least such improvement, as a share of the best score.
        delta: of Theorem 2, the epsilon below which exploration counts as ended.
        slo_penalty: objective `bill+slo`: a batch that is 1% over the limit costs this many % more.
    """

    pairs: int = 1000
    batches: int = 4
    alpha: float = 0.05
    epsilon_0: float = 0.5
    rho: float = 0.5
    rho_1: float = 0.2
    rho_2: float = 0.1
    rho_3: float = 0.05
    mu: float = 0.5
    by_frequency: bool = True
    patience: int = 10
    zeta: float = 0.001
    delta: float = 0.25
    slo_penalty: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{field.name}: expected a number >= 0, got {value}")
        if self.pairs < 1 or self.batches < 1 or self.patience < 1:
            raise InputError(
                "pairs, batches, patience: expected 1 or more of each, "
                f"got {self.pairs}, {self.batches}, {self.patience}"
            )
        if not self.rho_3 < self.rho_2 < self.rho_1 < self.rho:
            got = f"{self.rho_3}, {self.rho_2}, {self.rho_1}, {self.rho}"
            raise InputError(f"rho_3, rho_2, rho_1, rho: expected rising numbers, got {got}")
        if self.mu > 1 or self.epsilon_0 > 1:
            raise InputError(f"mu, epsilon_0: expected at most 1, got {self.mu}, {self.epsilon_0}")

    @property
    def limited(self) -> int:
        """mu Q: how many of the pairs are drawn from the limited range."""
        return round(self.mu * self.pairs)

    def epsilon(self, tau: int, rho: float = 0.0) -> np.ndarray:
        """epsilon of each pair in trial tau, shape (pairs,).

        epsilon_0 / (1 + rho tau); the first mu Q times (1 + rho' tau) after an error, at most 1.

        Args:
            tau: the trial, from 1.
            rho: rho' of the errors in the trial before, 0 if there were none.
        """
        epsilon = np.full(self.pairs, self.epsilon_0 / (1 + self.rho * tau))
        epsilon[: self.limited] *= 1 + rho * tau
        return np.minimum(epsilon, 1.0)

    def tau_as_printed(self) -> float:
        """Theorem 2 as printed: trials after which exploration has ended."""
        return (1 + self.rho) / (self.rho - self.rho_1) * (1 - self.delta / self.epsilon_0)

    def tau_corrected(self) -> float:
        """The trial after which epsilon_0 (1 + rho_1 tau) / (1 + rho tau) < delta; infinite if there is none."""
        if self.epsilon_0 <= self.delta:
            return 0.0
        fall = self.rho * self.delta - self.rho_1 * self.epsilon_0
        return (self.epsilon_0 - self.delta) / fall if fall > 0 else math.inf
