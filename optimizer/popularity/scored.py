"""Predictors that score the experts of a token from the profile table: `bayes`, `lina`, `position`.

Source: Liu, Wang, Wu, INFOCOM 2025, section III-B (`bayes`, Eq. 1-2), and the rivals it or others name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from moe.errors import InputError, nearest, shortened
from optimizer.popularity.interface import Batch, TablePredictor
from optimizer.popularity.table import ProfileTable, runs

if TYPE_CHECKING:
    from scipy import sparse

Counting: TypeAlias = Literal["hard", "expected"]
Variant: TypeAlias = Literal["printed", "mixture", "backoff"]


@dataclass(frozen=True)
class LayerCounts:
    """Counts of one layer by one feature of the token.

    Attributes:
        values: the feature's values in the table, ascending, shape (values,).
        counts: by value and expert, sparse, shape (values, experts).
        cell: where each entry of the table's layer is in `counts`, as row x experts + expert, shape (entries,).
        total: by expert, shape (experts,).
    """

    values: np.ndarray
    counts: sparse.csr_array
    cell: np.ndarray
    total: np.ndarray

    @staticmethod
    def of(layer: ProfileTable, feature: np.ndarray) -> LayerCounts:
        """Count the entries of one layer by a feature of theirs, shape (entries,)."""
        from scipy import sparse

        values, row = _numbered(feature)
        cell = (row * layer.experts + layer.expert).astype(np.int32)
        counts = np.bincount(cell, weights=layer.count, minlength=len(values) * layer.experts)
        counts = counts.reshape(-1, layer.experts).astype(float, copy=False)  # without entries they are integers
        return LayerCounts(values, sparse.csr_array(counts), cell, counts.sum(axis=0))


class ScoringPredictor(TablePredictor):
    """A predictor that scores the experts for each value of one feature of the tokens to be served.

    A value that the table does not hold in a layer falls back to the layer's expert frequencies in the table. One
    that it holds, but whose scores are all 0 (with `bayes`: none of its attention IDs is among the tokens to be
    served), falls back to the expert frequencies of that value.

    Args:
        counting: `hard`: each token counts for the top-k experts of highest score, ties to the lower index
            (the paper); `expected`: it counts for all experts by k x score, scores summing to 1.
    """

    def __init__(self, counting: Counting = "hard") -> None:
        if counting not in ("hard", "expected"):
            raise InputError(f"counting: expected 'hard' or 'expected', got {shortened(counting)}")
        self.counting = counting

    def learn_table(self, table: ProfileTable) -> None:
        parts = [table.of_layer(e) for e in range(table.layers)]
        self._layers = [LayerCounts.of(part, self.feature(part)) for part in parts]

    def feature(self, table: ProfileTable) -> np.ndarray:
        """The feature of each entry of a table that scores are looked up by, shape (entries,)."""
        return table.token_id

    def served(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The feature's values in a batch, ascending, and tokens of each."""
        return np.unique(batch.token_id, return_counts=True)

    def scores(self, e: int, rows: np.ndarray, batch: Batch) -> np.ndarray:
        """Scores of every expert of layer e for `values[rows]`, to any scale, shape (rows, experts)."""
        return self._layers[e].counts[rows].toarray()

    def popularity(self, batch: Batch) -> np.ndarray:
        values, tokens = self.served(batch)
        return np.stack([self._of_layer(e, values, tokens, batch) for e in range(self.shape.layers)])

    def _of_layer(self, e: int, values: np.ndarray, tokens: np.ndarray, batch: Batch) -> np.ndarray:
        """Popularity of one layer, shape (experts,), of `tokens[n]` tokens of each value `values[n]`."""
        scores = self._probabilities(e, values, batch)
        top_k, experts = self.shape.top_k, self.shape.experts
        if self.counting == "expected":
            return top_k * (tokens @ scores)
        # Rounded, so that scores which are equal but for rounding tie.
        top = np.argsort(-np.round(scores, 12), axis=1, kind="stable")[:, :top_k]
        return np.bincount(top.ravel(), weights=np.repeat(tokens, top_k), minlength=experts)

    def _probabilities(self, e: int, values: np.ndarray, batch: Batch) -> np.ndarray:
        """Scores of each value that sum to 1, after the fallbacks; shape (values, experts)."""
        layer = self._layers[e]
        row, known = _find(layer.values, values)
        row = row[known]
        found = self.scores(e, row, batch)
        by_value = layer.counts[row].toarray()
        scores = np.tile(layer.total, (len(values), 1))
        scores[known] = np.where(_some(found), found, np.where(_some(by_value), by_value, layer.total))
        total = scores.sum(axis=1, keepdims=True)
        even = np.full_like(scores, 1 / scores.shape[1])
        return np.divide(scores, total, out=even, where=total > 0)


class Lina(ScoringPredictor):
    """Lina (ATC'23): the experts by their frequency given the token ID, P*(i | f1)."""


class Position(ScoringPredictor):
    """MoE-GPS: the experts by their frequency given the position ID, P*(i | f2).

    Positions of tokens to be served are known where their sequences are; else they are taken to be spread as
    those of the profiled tokens.
    """

    def learn_table(self, table: ProfileTable) -> None:
        super().learn_table(table)
        first = table.of_layer(int(table.layer[0]))
        values, row = np.unique(first.position_id, return_inverse=True)
        self._spread = values, np.bincount(row, weights=first.count) / first.count.sum()

    def feature(self, table: ProfileTable) -> np.ndarray:
        return table.position_id

    def served(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        if batch.position_id is None:
            positions, share = self._spread
            return positions, share * len(batch.token_id)
        return np.unique(batch.position_id, return_counts=True)


class Bayes(ScoringPredictor):
    """The paper's posterior of the experts given a token ID (Eq. 1-2), position and attention ID unknown.

    With c the counts, P'(f2) uniform, P'(f3) the frequency of f3 as a token ID in the data to be served:

    - `printed`, Eq. 1-2: sum_f2,f3 P*(i | f1, f2, f3) P*(f3 | f1, f2) P'(f3) P*(f2 | f1) P'(f2), which is
      proportional to sum_f2,f3 c(f1, f2, f3, i) P'(f3); normalised over i.
    - `mixture`: sum of P*(i | f1, f2, f3) P'(f3) P'(f2) over the keys seen; normalised over i.
    - `backoff`: sum_f3 P(i | f1, f3) P'(f3), where P(i | f1, f3) is smoothed with P(i | f1), and that with
      the layer's frequencies, each as if seen `strength` times.

    Each is a sum over table entries of a weight, which only the table decides, times P'(f3): a sparse matrix times
    the vector P'. The weights are made in `fit`.

    Args:
        variant: one of these.
        counting: see ScoringPredictor.
        strength: of `backoff`, in tokens.
    """

    def __init__(self, variant: Variant = "printed", counting: Counting = "hard", strength: float = 1.0) -> None:
        super().__init__(counting)
        variants = ("printed", "mixture", "backoff")
        if variant not in variants:
            raise InputError(f"variant: no variant {shortened(variant)}{nearest(variant, variants)}")
        if not strength > 0:
            raise InputError(f"strength: expected more than 0 tokens, got {strength}")
        self.variant, self.strength = variant, strength

    def learn_table(self, table: ProfileTable) -> None:
        super().learn_table(table)
        self._first_id, self._ids = int(table.attention_id.min()), int(np.ptp(table.attention_id)) + 1
        self._weights = []
        self._seen = []
        for e, layer in enumerate(self._layers):
            part = table.of_layer(e)
            weight = part.count
            if self.variant == "mixture":
                key, _ = _group(part.token_id, part.position_id, part.attention_id)
                of_key = np.bincount(key, weights=part.count)[key]
                weight = np.divide(part.count, of_key, out=np.zeros(len(part)), where=of_key > 0)
            elif self.variant == "backoff":
                pair, first = _numbered_pairs(part.token_id, part.attention_id)
                seen = np.bincount(pair, weights=part.count)
                trust = seen / (seen + self.strength)
                weight = part.count / (seen + self.strength)[pair]
                row = layer.cell[first] // table.experts
                self._seen.append(self._matrix(trust, row, part.attention_id[first], len(layer.values)))
            cells = len(layer.values) * table.experts
            self._weights.append(self._matrix(weight, layer.cell, part.attention_id, cells))

    def scores(self, e: int, rows: np.ndarray, batch: Batch) -> np.ndarray:
        layer, served = self._layers[e], self._as_attention_ids(batch.token_id)
        scores = (self._weights[e] @ served).reshape(-1, self.shape.experts)[rows]
        if self.variant != "backoff":
            return scores
        every = layer.total / max(layer.total.sum(), 1e-300)
        by_id = layer.counts[rows].toarray() + self.strength * every
        by_id /= by_id.sum(axis=1, keepdims=True)
        return by_id * (1 - self._seen[e] @ served)[rows, None] + scores

    def _matrix(self, weight: np.ndarray, row: np.ndarray, f3: np.ndarray, rows: int) -> sparse.coo_array:
        """The weights as a matrix of shape (rows, attention IDs), entries as they come."""
        from scipy import sparse

        column = f3 if self._first_id == 0 else f3 - self._first_id
        return sparse.coo_array((weight, (row, column)), shape=(rows, self._ids))

    def _as_attention_ids(self, token_ids: np.ndarray) -> np.ndarray:
        """P'(f3) of every attention ID in the table's range, shape (attention IDs,)."""
        column = token_ids - self._first_id
        inside = column[(column >= 0) & (column < self._ids)]
        return np.bincount(inside, minlength=self._ids) / len(token_ids)


def _numbered(feature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values, ascending, and which of them each entry has."""
    if (np.diff(feature) >= 0).all():  # sorted, as the table is by token ID
        row, first = _group(feature)
        return feature[first], row
    return np.unique(feature, return_inverse=True)


def _group(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each entry, equal where neighbours are equal in all columns; and the first of each group."""
    new = np.ones(len(columns[0]), bool)
    new[1:] = False
    for x in columns:
        new[1:] |= x[1:] != x[:-1]
    return np.cumsum(new) - 1, np.flatnonzero(new)


def _numbered_pairs(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each entry, equal where entries are equal in all columns; and one entry of each."""
    order, first = runs(columns, stable=False)
    new = np.zeros(len(order), np.int64)
    new[first] = 1
    number = np.empty_like(new)
    number[order] = np.cumsum(new) - 1
    return number, order[first]


def _find(values: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted value is in the ascending `values`, and whether it is there at all."""
    if not len(values):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return at, values[at] == wanted


def _some(scores: np.ndarray) -> np.ndarray:
    """Which rows have anything, shape (rows, 1)."""
    return scores.sum(axis=1, keepdims=True) > 0
