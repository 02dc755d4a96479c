"""Predictors of expert popularity: fit on a profiled trace, predict how many tokens each expert will get.

Source: Liu, Wang, Wu, INFOCOM 2025, section III-B (`bayes`), and the rivals it or others name.
"""

from abc import ABC, abstractmethod
from typing import Literal, Self, TypeAlias

import numpy as np

from moe.errors import InputError, nearest
from moe.trace import RoutingTrace
from optimizer.popularity.table import ProfileTable, runs

Counting: TypeAlias = Literal["hard", "expected"]
Variant: TypeAlias = Literal["printed", "mixture", "backoff"]


class Predictor(ABC):
    """A predictor of expert popularity. `fit` is called once with the profiled trace, then `predict` for each
    batch to be served."""

    @abstractmethod
    def fit(self, trace: RoutingTrace) -> Self:
        """Learn from a profiled routing trace. Raises InputError when it has no tokens."""

    @abstractmethod
    def predict(self, token_ids: np.ndarray, served: RoutingTrace | None = None) -> np.ndarray:
        """Predicted popularity d[e, i] of tokens to be served.

        Args:
            token_ids: what is known before inference, shape (tokens,) int.
            served: the trace of these tokens; only `oracle` may look at it.

        Returns:
            tokens of each expert, shape (layers, experts) float; rows sum to tokens x top-k.
        """


class TablePredictor(Predictor):
    """A predictor that scores the experts for each token ID from a profile table.

    A token ID that the table does not hold falls back to the layer's expert frequencies in the table. One that
    it holds, but whose scores are all 0 (none of its attention IDs is among the tokens to be served), falls
    back to the expert frequencies of that token ID.

    Args:
        counting: `hard`: each token counts for the top-k experts of highest score, ties to the lower index
            (the paper); `expected`: it counts for all experts by k x score, scores summing to 1.
    """

    def __init__(self, counting: Counting = "hard") -> None:
        if counting not in ("hard", "expected"):
            raise InputError(f"counting: expected 'hard' or 'expected', got '{counting}'")
        self.counting = counting
        self._table: ProfileTable | None = None

    @property
    def table(self) -> ProfileTable:
        """The profile table that the predictor was fitted with."""
        if self._table is None:
            raise InputError("predictor: expected fit() before predict()")
        return self._table

    def fit(self, trace: RoutingTrace) -> Self:
        return self.fit_table(ProfileTable.from_trace(trace))

    def fit_table(self, table: ProfileTable) -> Self:
        """Use this profile table (of a trace, or one that was tuned)."""
        self._table = table
        return self

    def predict(self, token_ids: np.ndarray, served: RoutingTrace | None = None) -> np.ndarray:
        table = self.table
        ids, tokens = np.unique(np.asarray(token_ids, np.int64), return_counts=True)
        if not len(ids):
            return np.zeros((table.layers, table.experts))
        return np.stack([self._popularity(table.of_layer(e), ids, tokens) for e in range(table.layers)])

    def _popularity(self, layer: ProfileTable, ids: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Popularity of one layer, shape (experts,), of `tokens[n]` tokens of each ID `ids[n]`."""
        scores = self._probabilities(layer, ids, tokens)
        if self.counting == "expected":
            return layer.top_k * (tokens @ scores)
        # Rounded, so that scores which are equal but for rounding tie.
        top = np.argsort(-np.round(scores, 12), axis=1, kind="stable")[:, : layer.top_k]
        weights = np.repeat(tokens, layer.top_k)
        return np.bincount(top.ravel(), weights=weights, minlength=layer.experts)

    def _probabilities(self, layer: ProfileTable, ids: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Scores of each ID that sum to 1, after the fallbacks; shape (ids, experts)."""
        row, known = _positions(ids, layer.token_id)
        scores = np.zeros((len(ids), layer.experts))
        for by_id in (self._scores(layer, row, known, ids, tokens), _sums(layer, row, known, len(ids))):
            empty = scores.sum(axis=1) <= 0
            scores[empty] = by_id[empty]
        scores[scores.sum(axis=1) <= 0] = _sums(layer, np.zeros_like(row), True, 1)
        total = scores.sum(axis=1, keepdims=True)
        even = np.full_like(scores, 1 / layer.experts)
        return np.divide(scores, total, out=even, where=total > 0)

    @abstractmethod
    def _scores(
        self, layer: ProfileTable, row: np.ndarray, known: np.ndarray, ids: np.ndarray, tokens: np.ndarray
    ) -> np.ndarray:
        """Score of every expert for every ID, shape (ids, experts), to any scale; 0 where nothing is known.

        Args:
            layer: the table's entries of one layer.
            row: the ID of each entry, as an index in `ids`; (entries,).
            known: which entries have an ID in `ids`; (entries,) bool.
            ids, tokens: token IDs to be served, ascending, and tokens of each.
        """


class Bayes(TablePredictor):
    """The paper's posterior of the experts given a token ID (Eq. 1-2), position and attention ID unknown.

    With c the counts, P'(f2) uniform, P'(f3) the frequency of f3 as a token ID in the data to be served:

    - `printed`, Eq. 1-2: sum_f2,f3 P*(i | f1, f2, f3) P*(f3 | f1, f2) P'(f3) P*(f2 | f1) P'(f2), which is
      proportional to sum_f2,f3 c(f1, f2, f3, i) P'(f3); normalised over i.
    - `mixture`: sum of P*(i | f1, f2, f3) P'(f3) P'(f2) over the keys seen; normalised over i.
    - `backoff`: sum_f3 P(i | f1, f3) P'(f3), where P(i | f1, f3) is smoothed with P(i | f1), and that with
      the layer's frequencies, each as if seen `strength` times.

    Args:
        variant: one of these.
        counting: see TablePredictor.
        strength: of `backoff`, in tokens.
    """

    def __init__(self, variant: Variant = "printed", counting: Counting = "hard", strength: float = 1.0) -> None:
        super().__init__(counting)
        variants = ("printed", "mixture", "backoff")
        if variant not in variants:
            raise InputError(f"variant: no variant '{variant}'{nearest(variant, variants)}")
        if not strength > 0:
            raise InputError(f"strength: expected more than 0 tokens, got {strength}")
        self.variant, self.strength = variant, strength

    def _scores(
        self, layer: ProfileTable, row: np.ndarray, known: np.ndarray, ids: np.ndarray, tokens: np.ndarray
    ) -> np.ndarray:
        at, served = _positions(ids, layer.attention_id)
        attended = np.where(served, tokens[at], 0)  # P'(f3), times the tokens to be served
        if self.variant == "printed":
            return _sums(layer, row, known, len(ids), layer.count * attended)
        if self.variant == "mixture":
            group, _ = _groups(layer.keys[:, 1:4])
            of_key = np.bincount(group, weights=layer.count)[group]
            share = np.divide(layer.count, of_key, out=np.zeros(len(layer)), where=of_key > 0)
            return _sums(layer, row, known, len(ids), share * attended)
        return self._backoff(layer, row, known, ids, tokens)

    def _backoff(
        self, layer: ProfileTable, row: np.ndarray, known: np.ndarray, ids: np.ndarray, tokens: np.ndarray
    ) -> np.ndarray:
        every = _sums(layer, np.zeros_like(row), True, 1)
        every = every / max(every.sum(), 1e-300)
        by_id = _sums(layer, row, known, len(ids)) + self.strength * every
        by_id /= by_id.sum(axis=1, keepdims=True)
        # The pairs (f1, f3) seen: P(i | f1, f3) differs from P(i | f1) by what their own counts say.
        group, first = _groups(layer.keys[:, [1, 3]])
        pairs = _sums(layer, group, True, len(first))
        seen = pairs.sum(axis=1, keepdims=True)
        at, served = _positions(ids, layer.attention_id[first])
        use = known[first] & served
        pair_row, frequency = row[first][use], tokens[at[use]] / tokens.sum()
        gain = (pairs[use] - seen[use] * by_id[pair_row]) / (seen[use] + self.strength)
        np.add.at(by_id, pair_row, gain * frequency[:, None])
        return by_id


class Lina(TablePredictor):
    """Lina (ATC'23): the experts by their frequency given the token ID, P*(i | f1)."""

    def _scores(
        self, layer: ProfileTable, row: np.ndarray, known: np.ndarray, ids: np.ndarray, tokens: np.ndarray
    ) -> np.ndarray:
        return _sums(layer, row, known, len(ids))


class History(Predictor):
    """The mean popularity of the profiled tokens (FlexMoE, Prophet), scaled to the tokens to be served."""

    def fit(self, trace: RoutingTrace) -> Self:
        self._frequency = ProfileTable.from_trace(trace).expert_counts() / trace.tokens
        return self

    def predict(self, token_ids: np.ndarray, served: RoutingTrace | None = None) -> np.ndarray:
        return self._frequency * len(token_ids)


class Uniform(History):
    """All experts of a layer alike: tokens x top-k / experts."""

    def fit(self, trace: RoutingTrace) -> Self:
        super().fit(trace)
        self._frequency = np.full_like(self._frequency, trace.top_k / trace.num_experts)
        return self


class Oracle(Predictor):
    """The real popularity, of the trace of the very tokens to be served."""

    def fit(self, trace: RoutingTrace) -> Self:
        self._profiled = (trace.layers, trace.num_experts, trace.top_k)
        return self

    def predict(self, token_ids: np.ndarray, served: RoutingTrace | None = None) -> np.ndarray:
        if served is None:
            raise InputError("oracle: expected the trace of the tokens to be served")
        shape = (served.layers, served.num_experts, served.top_k)
        if shape != self._profiled:
            raise InputError(
                f"served: expected {self._profiled} layers, experts and top-k as profiled, got {shape}"
            )
        if not np.array_equal(served.token_id, token_ids):
            raise InputError("served: expected the trace of the given token IDs, got one of others")
        return served.popularity().astype(float)


def _positions(ids: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted ID is in the ascending `ids`, and whether it is there at all."""
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return at, ids[at] == wanted


def _sums(
    layer: ProfileTable,
    row: np.ndarray,
    use: np.ndarray | bool,
    rows: int,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Sum of the counts (or other weights) of the entries in use by row and expert, (rows, experts)."""
    weight = np.where(use, layer.count if weight is None else weight, 0.0)
    sums = np.bincount(row * layer.experts + layer.expert, weights=weight, minlength=rows * layer.experts)
    return sums.reshape(-1, layer.experts)


def _groups(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each row, equal where rows are equal; and one row of each group."""
    order, first = runs(keys)
    starts = np.zeros(len(keys), np.int64)
    starts[first] = 1
    group = np.empty_like(starts)
    group[order] = np.cumsum(starts) - 1
    return group, order[first]
