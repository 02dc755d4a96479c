"""How a layer's tokens are dealt out to replicas and minibatches, as `simulator.serving.replicas` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ExpertFunction:
    """An expert as its layer's gate sees it.

    Attributes:
        function: its full name on the platform. parameters: their key in the bucket.
        replicas: planned. capacity: tokens that one replica holds (memory and, with `direct`, payload); a load
            beyond runs on the least multiple of the planned replicas that fits.
    """

    function: str
    parameters: str
    replicas: int
    capacity: int


@dataclass(frozen=True)
class LayerFunctions:
    """An MoE layer as its gate sees it."""

    communication: str
    minibatch_tokens: int | None
    experts: tuple[ExpertFunction, ...]

    @staticmethod
    def of(data: Any) -> LayerFunctions:
        """From JSON."""
        experts = tuple(ExpertFunction(**x) for x in data["experts"])
        return LayerFunctions(data["communication"], data["minibatch_tokens"], experts)


@dataclass(frozen=True)
class Share:
    """The tokens of one replica: a slice of the layer's (token, choice) pairs, sorted by expert."""

    expert: int
    replica: int
    first: int
    last: int

    @property
    def tokens(self) -> int:
        """How many."""
        return self.last - self.first


def deal(counts: Sequence[int], experts: Sequence[ExpertFunction]) -> list[Share]:
    """The calls of a layer; of an expert's tokens the first replicas get one more; none gets none."""
    shares, first = [], 0
    for i, (tokens, expert) in enumerate(zip(counts, experts, strict=True)):
        replicas = expert.replicas * max(1, math.ceil(tokens / (expert.replicas * expert.capacity)))
        each, more = divmod(int(tokens), replicas)
        for number in range(replicas):
            last = first + each + (number < more)
            if last > first:
                shares.append(Share(i, number, first, last))
            first = last
    return shares


def cuts(tokens: int, size: int | None) -> list[tuple[int, int]]:
    """First and last token of each object that a replica's tokens travel in: minibatches, or one."""
    size = size or tokens
    return [(first, min(first + size, tokens)) for first in range(0, tokens, size)]


def sorted_pairs(experts: np.ndarray) -> np.ndarray:
    """Numbers of the (token, choice) pairs of (N, k) chosen experts, sorted by expert, shape (N k,)."""
    import numpy as np

    return np.argsort(experts.ravel(), kind="stable")


def input_rows(hidden: np.ndarray, weights: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """An expert's input (`layers.expert`) for some (token, choice) pairs: shape (pairs, hidden + 2)."""
    import numpy as np

    token, choice = np.divmod(pairs, weights.shape[1])
    rows = np.empty((len(pairs), hidden.shape[1] + 2), np.float32)
    rows[:, :-2] = hidden[token]
    rows[:, -2] = weights[token, choice]
    rows[:, -1] = choice == 0
    return rows


def add_results(out: np.ndarray, results: np.ndarray, pairs: np.ndarray, top_k: int) -> None:
    """Add what an expert made of some (token, choice) pairs to the tokens' sums, `out` (N, hidden)."""
    out[pairs // top_k] += results  # an expert gets a token at most once, so no index comes twice
