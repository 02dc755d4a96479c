"""The profile table Omega: how often the gates chose an expert for a token's features.

Source: Liu, Wang, Wu, INFOCOM 2025, section III-B.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace

COLUMNS = ("layer", "token_id", "position_id", "attention_id", "expert")
OF_THE_MODEL = (
    "model", "model_identity", "expert_copies", "noise", "gate", "gate_seed", "gate_corpus_hash",
    "layers_of_recording",
)  # fmt: skip
"""What a trace's origin says of the model it was recorded on, and not of the text."""


@dataclass(frozen=True)
class ProfileTable:
    """Counts by (layer, token ID f1, position ID f2, attention ID f3, expert).

    Entries are unique, and ascend by layer, token ID, attention ID, position ID, expert: entries with equal
    (layer, f1), (layer, f1, f3) and (layer, f1, f3, f2) stand side by side.

    Attributes:
        layer, expert: shape (entries,) int16.
        token_id, position_id, attention_id: f1, f2, f3, shape (entries,) int32.
        count: shape (entries,) float, 0 or more.
        layers, experts, top_k: of the model.
        origin: what the traces say of their model (OF_THE_MODEL).
    """

    layer: np.ndarray
    token_id: np.ndarray
    position_id: np.ndarray
    attention_id: np.ndarray
    expert: np.ndarray
    count: np.ndarray
    layers: int
    experts: int
    top_k: int
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> np.ndarray:
        """Layer, token ID, position ID, attention ID and expert of each entry, shape (entries, 5) int64."""
        return np.stack([getattr(self, name) for name in COLUMNS], axis=1).astype(np.int64)

    def __len__(self) -> int:
        return len(self.count)

    @staticmethod
    def from_trace(trace: RoutingTrace) -> "ProfileTable":
        """Count a profiled routing trace. Raises InputError when it has no tokens."""
        if not trace.tokens:
            raise InputError("profile: expected at least one token, got an empty routing trace")
        by_token = (trace.token_id, trace.position_id)
        token_id, position_id = (np.repeat(x.astype(np.int32), trace.top_k) for x in by_token)
        parts = []
        for e in range(trace.layers):
            attention_id = np.repeat(trace.attention_id[:, e].astype(np.int32), trace.top_k)
            features = (token_id, position_id, attention_id, trace.experts[:, e].ravel().astype(np.int16))
            order, first = _runs(_by_rank(features), stable=False)
            count = np.diff(np.append(first, len(order))).astype(float)
            layer = np.full(len(first), e, np.int16)
            parts.append((layer, *(x[order[first]] for x in features), count))
        columns = {
            name: np.concatenate(x) for name, x in zip((*COLUMNS, "count"), zip(*parts, strict=True), strict=True)
        }
        origin = {key: trace.origin[key] for key in OF_THE_MODEL if key in trace.origin}
        return ProfileTable(
            **columns, layers=trace.layers, experts=trace.num_experts, top_k=trace.top_k, origin=origin
        )

    @staticmethod
    def merged(tables: Sequence["ProfileTable"]) -> "ProfileTable":
        """One table of several: counts add, whatever the order. Raises InputError for tables of other models."""
        first = tables[0]
        for other in tables[1:]:
            _check_same_model(first, other)
        every = [np.concatenate([getattr(x, name) for x in tables]) for name in (*COLUMNS, "count")]
        order, starts = _runs((every[0], *_by_rank(every[1:5])))
        count = np.add.reduceat(every[5][order], starts)
        return first._with(every[:5], order[starts], count)

    def with_counts(self, keys: np.ndarray, count: np.ndarray) -> "ProfileTable":
        """The table with the counts of these keys set; new keys are added; of equal keys the last one counts.

        Args:
            keys: as the attribute of that name, in any order, shape (pairs, 5) int.
            count: shape (pairs,), 0 or more.
        """
        every = [
            np.concatenate((getattr(self, name), np.asarray(new).astype(getattr(self, name).dtype)))
            for name, new in zip(COLUMNS, np.asarray(keys).T, strict=True)
        ]
        values = np.concatenate((self.count, np.asarray(count, float)))
        order, starts = _runs((every[0], *_by_rank(every[1:])))
        last = order[np.append(starts[1:], len(order)) - 1]
        return self._with(every, last, values[last])

    def of_layer(self, e: int) -> "ProfileTable":
        """The entries of layer e."""
        part = slice(
            *np.searchsorted(self.layer, np.array([e, e + 1], self.layer.dtype))
        )  # of another type: copies
        return self._with([getattr(self, name) for name in COLUMNS], part, self.count[part])

    def expert_counts(self) -> np.ndarray:
        """How often each expert was chosen, shape (layers, experts)."""
        cells = self.layer.astype(np.int64) * self.experts + self.expert
        counts = np.bincount(cells, weights=self.count, minlength=self.layers * self.experts)
        return counts.reshape(self.layers, self.experts)

    def samples(self, layer: int, token_ids: np.ndarray | int) -> np.ndarray:
        """How many profiled tokens what the table says of these token IDs rests on, shape of `token_ids`."""
        part = self.of_layer(layer)
        ids = np.asarray(token_ids)
        start, stop = (np.searchsorted(part.token_id, ids, side) for side in ("left", "right"))
        before = np.concatenate(([0.0], np.cumsum(part.count)))
        return (before[stop] - before[start]) / self.top_k

    def _with(
        self, columns: Sequence[np.ndarray], part: "np.ndarray | slice", count: np.ndarray
    ) -> "ProfileTable":
        changes: dict[str, Any] = {name: x[part] for name, x in zip(COLUMNS, columns, strict=True)}
        return replace(self, count=count, **changes)


def _check_same_model(a: ProfileTable, b: ProfileTable) -> None:
    shapes = [(x.layers, x.experts, x.top_k) for x in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(f"profile: expected tables of {shapes[0]} layers, experts and top-k, got {shapes[1]}")
    for key in a.origin.keys() & b.origin.keys():
        if a.origin[key] != b.origin[key]:
            raise InputError(f"profile: {key}: expected tables of one model, {a.origin[key]}, got {b.origin[key]}")


def _by_rank(features: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Features (f1, f2, f3, expert) in the order that entries ascend by."""
    token_id, position_id, attention_id, expert = features
    return token_id, attention_id, position_id, expert


def _runs(columns: Sequence[np.ndarray], stable: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The order that sorts rows by the first column, then the second, ...; and where in it equal rows start.

    Args:
        columns: integers, each of shape (rows,).
        stable: whether equal rows keep their order.
    """
    packed = _packed(columns)
    if packed is None:
        order = np.lexsort(tuple(columns)[::-1])
        new = np.any([np.diff(x[order]) != 0 for x in columns], axis=0)
    else:
        order = np.argsort(packed, kind="stable" if stable else None)
        new = np.diff(packed[order]) != 0
    return order, np.flatnonzero(np.concatenate(([len(order) > 0], new)))


def _packed(columns: Sequence[np.ndarray]) -> np.ndarray | None:
    """One int64 for each row, ordered as the rows are; None where the values are too large for that."""
    if not len(columns[0]):
        return np.zeros(0, np.int64)
    lows = [int(x.min()) for x in columns]
    bits = [(int(x.max()) - low).bit_length() for x, low in zip(columns, lows, strict=True)]
    if sum(bits) > 62:
        return None
    packed = np.zeros(len(columns[0]), np.int64)
    for x, low, width in zip(columns, lows, bits, strict=True):
        packed <<= width
        packed += x
        packed -= low
    return packed
