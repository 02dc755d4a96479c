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

    Attributes:
        keys: these five, shape (entries, 5) int32, each column contiguous; unique rows in ascending order.
        count: shape (entries,) float, 0 or more.
        layers, experts, top_k: of the model.
        origin: what the traces say of their model (OF_THE_MODEL).
    """

    keys: np.ndarray
    count: np.ndarray
    layers: int
    experts: int
    top_k: int
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def layer(self) -> np.ndarray:
        """The layer of each entry, shape (entries,)."""
        return self.keys[:, 0]

    @property
    def token_id(self) -> np.ndarray:
        """f1 of each entry, shape (entries,)."""
        return self.keys[:, 1]

    @property
    def position_id(self) -> np.ndarray:
        """f2 of each entry, shape (entries,)."""
        return self.keys[:, 2]

    @property
    def attention_id(self) -> np.ndarray:
        """f3 of each entry, shape (entries,)."""
        return self.keys[:, 3]

    @property
    def expert(self) -> np.ndarray:
        """The expert of each entry, shape (entries,)."""
        return self.keys[:, 4]

    def __len__(self) -> int:
        return len(self.count)

    @staticmethod
    def from_trace(trace: RoutingTrace) -> "ProfileTable":
        """Count a profiled routing trace. Raises InputError when it has no tokens."""
        if not trace.tokens:
            raise InputError("profile: expected at least one token, got an empty routing trace")
        token_id, position_id = (np.repeat(x, trace.top_k) for x in (trace.token_id, trace.position_id))
        keys = np.empty((5, trace.experts.size), np.int32)  # at most so many are unique
        counts, end = [], 0
        for e in range(trace.layers):  # so that what is sorted at a time stays small
            attention_id = np.repeat(trace.attention_id[:, e], trace.top_k)
            columns = (token_id, position_id, attention_id, trace.experts[:, e].ravel())
            rows, count = _counted(columns)
            start, end = end, end + len(count)
            keys[0, start:end] = e
            for key, column in zip(keys[1:], rows, strict=True):
                key[start:end] = column
            counts.append(count)
        return ProfileTable(
            keys=keys[:, :end].T,
            count=np.concatenate(counts),
            layers=trace.layers,
            experts=trace.num_experts,
            top_k=trace.top_k,
            origin={key: trace.origin[key] for key in OF_THE_MODEL if key in trace.origin},
        )

    @staticmethod
    def merged(tables: "Sequence[ProfileTable]") -> "ProfileTable":
        """One table of several: counts add, whatever the order. Raises InputError for tables of other models."""
        first = tables[0]
        for other in tables[1:]:
            _check_same_model(first, other)
        keys = np.concatenate([x.keys.T for x in tables], axis=1)
        order, starts = runs(keys)
        count = np.add.reduceat(np.concatenate([x.count for x in tables])[order], starts)
        return replace(first, keys=keys[:, order[starts]].T, count=count)

    def with_counts(self, keys: np.ndarray, count: np.ndarray) -> "ProfileTable":
        """The table with the counts of these keys set; new keys are added; of equal keys the last one counts.

        Args:
            keys: as in the attribute, in any order, shape (pairs, 5) int.
            count: shape (pairs,), 0 or more.
        """
        every = np.concatenate((self.keys.T, _key_columns(*np.asarray(keys).T)), axis=1)
        values = np.concatenate((self.count, np.asarray(count, float)))
        order, starts = runs(every)
        last = order[np.append(starts[1:], len(order)) - 1]
        return replace(self, keys=every[:, last].T, count=values[last])

    def of_layer(self, e: int) -> "ProfileTable":
        """The entries of layer e."""
        bounds = np.array([e, e + 1], self.keys.dtype)  # of another type, the layers would be copied
        part = slice(*np.searchsorted(self.layer, bounds))
        return replace(self, keys=self.keys[part], count=self.count[part])

    def expert_counts(self) -> np.ndarray:
        """How often each expert was chosen, shape (layers, experts)."""
        cells = self.layer * self.experts + self.expert
        counts = np.bincount(cells, weights=self.count, minlength=self.layers * self.experts)
        return counts.reshape(self.layers, self.experts)

    def samples(self, layer: int, token_ids: np.ndarray | int) -> np.ndarray:
        """How many profiled tokens what the table says of these token IDs rests on, shape of `token_ids`."""
        part = self.of_layer(layer)
        ids = np.asarray(token_ids)
        start, stop = (np.searchsorted(part.token_id, ids, side) for side in ("left", "right"))
        before = np.concatenate(([0.0], np.cumsum(part.count)))
        return (before[stop] - before[start]) / self.top_k


def runs(columns: Sequence[np.ndarray] | np.ndarray, stable: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The order that sorts rows by the first column, then the second, ...; and where in it each run of equal rows
    starts.

    Args:
        columns: integers, shape (rows,) each.
        stable: whether equal rows keep their order.
    """
    packing = _Packing.of(columns)
    if packing is None:
        order = np.lexsort(tuple(columns)[::-1])
        new = np.any([np.diff(x[order]) != 0 for x in columns], axis=0)
    else:
        packed = packing.pack(columns)
        order = np.argsort(packed, kind="stable" if stable else None)
        new = np.diff(packed[order]) != 0
    return order, np.flatnonzero(np.concatenate(([len(order) > 0], new)))


def _counted(columns: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """The distinct rows in ascending order, as columns, and how often each occurs; of at least one row."""
    packing = _Packing.of(columns)
    if packing is None:
        order, first = runs(columns)
        rows = [x[order[first]] for x in columns]
    else:
        packed = np.sort(packing.pack(columns))
        first = np.flatnonzero(np.concatenate(([True], packed[1:] != packed[:-1])))
        rows = packing.unpack(packed[first])
    return rows, np.diff(np.append(first, len(columns[0]))).astype(float)


@dataclass(frozen=True)
class _Packing:
    """Rows of integers as one int64 each, which are ordered as the rows are.

    Attributes:
        lows: least value of each column.
        bits: that a column takes.
    """

    lows: list[int]
    bits: list[int]

    @staticmethod
    def of(columns: Sequence[np.ndarray] | np.ndarray) -> "_Packing | None":
        """A packing of these columns; None where their values are too large for one."""
        lows = [int(x.min(initial=0)) for x in columns]
        bits = [(int(x.max(initial=0)) - low).bit_length() for x, low in zip(columns, lows, strict=True)]
        return _Packing(lows, bits) if sum(bits) < 63 else None

    def pack(self, columns: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """A number for each row, shape (rows,)."""
        packed = np.zeros(len(columns[0]), np.int64)
        for x, low, width in zip(columns, self.lows, self.bits, strict=True):
            packed <<= width
            packed += x
            packed -= low
        return packed

    def unpack(self, packed: np.ndarray) -> list[np.ndarray]:
        """The columns again."""
        columns, shift = [], 0
        for low, width in zip(self.lows[::-1], self.bits[::-1], strict=True):
            columns.append(((packed >> shift) & ((1 << width) - 1)) + low)
            shift += width
        return columns[::-1]


def _key_columns(*columns: np.ndarray) -> np.ndarray:
    """Columns of keys, shape (5, entries): the transposed attribute."""
    return np.stack([x.astype(np.int32) for x in columns])


def _check_same_model(a: ProfileTable, b: ProfileTable) -> None:
    shapes = [(x.layers, x.experts, x.top_k) for x in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(f"profile: expected tables of {shapes[0]} layers, experts and top-k, got {shapes[1]}")
    for key in a.origin.keys() & b.origin.keys():
        if a.origin[key] != b.origin[key]:
            raise InputError(f"profile: {key}: expected tables of one model, {a.origin[key]}, got {b.origin[key]}")
