"""What Alg. 2 leaves open, in one table; its law of exploration; and when that ends (Theorem 2).

The paper gives Q only. Why each other value: J: fewer batches fit the noise of one, more cost more. alpha: 128
of 2,560 tokens at 12 x 4; a replica that far off is seconds late. epsilon_0: the first trial changes enough to
be seen, and keeps half. rho: epsilon is a tenth of epsilon_0 after 18 trials. rho_1 to rho_3: falling, as the
paper asks, and rho delta > rho_1 epsilon_0, so that Theorem 2 has an answer. mu: half the pairs look where
errors were. by_frequency: most token IDs are rare, and a pair of a rare one changes next to nothing. proposals:
a prediction is cheap beside a plan and a batch. patience, zeta: a third of the trials without a gain of 0.1%.
delta: half of epsilon_0. slo_penalty: near the limits that were tried, plans that are 1% slower cost at most
0.8% less; so 3% for 1% is more than being late can save.

Source: Liu, Wang, Wu, INFOCOM 2025, Alg. 2 and Theorem 2.
"""

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from moe.files import FileModel


class Alg2(FileModel):
    """The constants of Alg. 2. Raises ValueError for impossible ones."""

    pairs: int = Field(1000, ge=1, description="Q, key-value pairs that are tuned")
    batches: int = Field(4, ge=1, description="J, batches that a trial serves")
    alpha: float = Field(
        0.05,
        ge=0,
        description="a replica is mispredicted that is off by this share of an expert's mean tokens, "
        "tokens x top-k / experts",
    )
    epsilon_0: float = Field(0.5, ge=0, le=1, description="share of the pairs that the first trial draws anew")
    rho: float = Field(0.5, ge=0, description="how fast that share falls")
    rho_1: float = Field(0.2, ge=0, description="rho' after a memory overflow")
    rho_2: float = Field(0.1, ge=0, description="rho' after a payload overflow")
    rho_3: float = Field(0.05, ge=0, description="rho' after a misprediction")
    by_frequency: bool = Field(
        True, description="a new pair's token ID is drawn as often as it occurs; else all IDs of the range alike"
    )
    mu: float = Field(
        0.5, ge=0, le=1, description="share of the pairs that explore on after an error, in the limited range"
    )
    proposals: int = Field(
        8, ge=1, description="fresh proposals of which a Gaussian process over the predicted loads picks one"
    )
    patience: int = Field(10, ge=1, description="lambda, trials in which the best score must improve")
    zeta: float = Field(0.001, ge=0, description="least such improvement, as a share of the best score")
    delta: float = Field(0.25, ge=0, description="of Theorem 2, the epsilon below which exploration has ended")
    slo_penalty: float = Field(
        3.0, ge=0, description="of bill+slo: a batch 1% over the limit costs this many % more"
    )

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if not self.rho_3 < self.rho_2 < self.rho_1 < self.rho:
            got = f"{self.rho_3}, {self.rho_2}, {self.rho_1}, {self.rho}"
            raise ValueError(f"rho_3, rho_2, rho_1, rho: expected rising numbers, got {got}")
        return self

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
