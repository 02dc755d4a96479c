"""The profile table Omega: how often the gates chose an expert for a token's features.

Source: Liu, Wang, Wu, INFOCOM 2025, section III-B.
"""

from dataclasses import dataclass, replace

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace


@dataclass(frozen=True)
class ProfileTable:
    """Counts by (layer, token ID f1, position ID f2, attention ID f3, expert).

    Attributes:
        keys: these five, shape (entries, 5) int64; unique rows in ascending order.
        count: shape (entries,) float, 0 or more.
        layers, experts, top_k: of the model.
    """

    keys: np.ndarray
    count: np.ndarray
    layers: int
    experts: int
    top_k: int

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
        shape = trace.experts.shape
        columns = (
            np.arange(trace.layers)[:, None],
            trace.token_id[:, None, None],
            trace.position_id[:, None, None],
            trace.attention_id[:, :, None],
            trace.experts,
        )
        keys = np.stack([np.broadcast_to(x, shape).ravel().astype(np.int64) for x in columns], axis=1)
        order, first = runs(keys)
        count = np.diff(np.append(first, len(keys))).astype(float)
        return ProfileTable(keys[order[first]], count, trace.layers, trace.num_experts, trace.top_k)

    def with_counts(self, keys: np.ndarray, count: np.ndarray) -> "ProfileTable":
        """The table with the counts of these keys set; new keys are added; of equal keys the last one counts.

        Args:
            keys: as in the attribute, in any order, shape (pairs, 5) int.
            count: shape (pairs,), 0 or more.
        """
        every = np.concatenate((self.keys, np.asarray(keys, np.int64)))
        values = np.concatenate((self.count, np.asarray(count, float)))
        order, first = runs(every)
        last = order[np.append(first[1:], len(every)) - 1]
        return replace(self, keys=every[last], count=values[last])

    def of_layer(self, e: int) -> "ProfileTable":
        """The entries of layer e."""
        part = slice(*np.searchsorted(self.layer, [e, e + 1]))
        return replace(self, keys=self.keys[part], count=self.count[part])

    def expert_counts(self) -> np.ndarray:
        """How often each expert was chosen, shape (layers, experts)."""
        cells = self.layer * self.experts + self.expert
        counts = np.bincount(cells, weights=self.count, minlength=self.layers * self.experts)
        return counts.reshape(self.layers, self.experts)


def runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order that sorts the rows (stable), and where in it each run of equal rows starts.

    Args:
        keys: shape (rows, columns).
    """
    order = np.lexsort(keys.T[::-1])
    ordered = keys[order]
    new = np.ones(len(keys), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order, np.flatnonzero(new)
