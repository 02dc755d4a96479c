"""What is tuned: key-value pairs written into the profile table (Alg. 2), or a few numbers beside it.

Keys are rows (layer, f1, f2, f3, expert) as in `ProfileTable`; a value is the count that the table is to hold.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from moe.errors import InputError
from moe.trace import Batches
from optimizer.popularity import ProfileTable


@dataclass(frozen=True)
class Pairs:
    """Q slots for key-value pairs; an empty one writes nothing.

    Attributes:
        keys: z_q, shape (Q, 5) int64.
        count: v_q, shape (Q,) int64, 0 where the slot is empty.
        drawn: the trial that drew the pair, 0 where the slot is empty, shape (Q,) int64.
    """

    keys: np.ndarray
    count: np.ndarray
    drawn: np.ndarray

    @staticmethod
    def empty(slots: int) -> "Pairs":
        """Slots that write nothing."""
        return Pairs(np.zeros((slots, 5), np.int64), np.zeros(slots, np.int64), np.zeros(slots, np.int64))

    def __len__(self) -> int:
        return len(self.count)

    @property
    def written(self) -> int:
        """How many slots hold a pair."""
        return int((self.count > 0).sum())

    def with_drawn(self, slots: np.ndarray, keys: np.ndarray, count: np.ndarray, trial: int) -> "Pairs":
        """The pairs with some slots filled anew: slots (n,) int, keys (n, 5), count (n,)."""
        new = Pairs(self.keys.copy(), self.count.copy(), self.drawn.copy())
        new.keys[slots], new.count[slots], new.drawn[slots] = keys, count, trial
        return new


@dataclass(frozen=True)
class Tuning:
    """Everything that a sampler may set; the default leaves the prediction as it is.

    Attributes:
        pairs: written into the profile table.
        blend: share of the layer's profiled expert frequencies in the predicted popularity.
        sharpness: exponent of the popularity, then scaled to the same tokens: below 1 flatter, above steeper.
        margin: the plan is made for a latency limit that is lower by this share.
        factor: multiplies the popularity, then scaled to the same tokens; shape (layers, experts), None for 1.
    """

    pairs: Pairs = field(default_factory=lambda: Pairs.empty(0))
    blend: float = 0.0
    sharpness: float = 1.0
    margin: float = 0.0
    factor: np.ndarray | None = None

    def applied(self, popularity: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
        """The popularity to plan for.

        Args:
            popularity: predicted from the table with its pairs, tokens, shape (layers, experts).
            frequencies: of the profiled experts, rows summing to 1, the same shape.
        """
        tokens = popularity.sum(axis=1, keepdims=True)
        if self.blend > 0:
            popularity = (1 - self.blend) * popularity + self.blend * tokens * frequencies
        if self.sharpness != 1:
            share = popularity / np.maximum(tokens, 1e-300)
            popularity = share**self.sharpness
        if self.factor is not None:
            popularity = popularity * self.factor
        if self.sharpness == 1 and self.factor is None:
            return popularity
        total = popularity.sum(axis=1, keepdims=True)
        return np.divide(popularity * tokens, total, out=np.zeros_like(popularity), where=total > 0)


@dataclass(frozen=True)
class KeyRange:
    """P: all keys that a pair may have, new ones included, and how one is drawn.

    Layer, expert and position are uniform, the count log-uniform, token ID and attention ID as frequent as they
    are: most IDs are rare, and a pair of a rare one changes next to nothing.

    Attributes:
        token_ids, token_share: f1 of the table and of the batches tuned on, and how often each is drawn; (ids,).
        attention_ids, attention_share: f3 of the table, the same.
        positions, layers, experts: their number.
        largest_count: what a token ID has at most for an expert of a layer in the table.
    """

    token_ids: np.ndarray
    token_share: np.ndarray
    attention_ids: np.ndarray
    attention_share: np.ndarray
    positions: int
    layers: int
    experts: int
    largest_count: int

    @staticmethod
    def of(table: ProfileTable, batches: Batches, by_frequency: bool = True) -> "KeyRange":
        """The range of a profile table and the batches that are tuned on; token IDs by frequency, or all alike."""
        tokens = np.concatenate((table.token_id, *batches.token_ids))
        per_token = table.layers * table.top_k
        weights = np.concatenate((table.count / per_token, np.ones(batches.tokens)))
        token_ids, token_share = _shares(tokens, weights if by_frequency else None)
        attention_ids, attention_share = _shares(table.attention_id, table.count)
        ids, row = np.unique(table.token_id, return_inverse=True)
        cells = (table.layer * len(ids) + row) * table.experts + table.expert
        return KeyRange(
            token_ids=token_ids,
            token_share=token_share,
            attention_ids=attention_ids,
            attention_share=attention_share,
            positions=int(table.position_id.max()) + 1,
            layers=table.layers,
            experts=table.experts,
            largest_count=max(1, int(np.bincount(cells, weights=table.count).max())),
        )

    def draw(
        self, rng: np.random.Generator, pairs: int, limited: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """New pairs: keys (pairs, 5) and counts (pairs,); token IDs of `limited` (L), or of the whole range."""
        if limited is None:
            token_ids = rng.choice(self.token_ids, pairs, p=self.token_share)
        else:
            token_ids = rng.choice(limited, pairs)
        columns = (
            rng.integers(0, self.layers, pairs),
            token_ids,
            rng.integers(0, self.positions, pairs),
            rng.choice(self.attention_ids, pairs, p=self.attention_share),
            rng.integers(0, self.experts, pairs),
        )
        count = np.exp(rng.uniform(0, np.log(self.largest_count + 1), pairs)).astype(np.int64)
        return np.stack(columns, axis=1).astype(np.int64), count


def _shares(ids: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The distinct IDs, ascending, and the share of each by weight; all alike without."""
    distinct, at = np.unique(ids, return_inverse=True)
    total = np.ones(len(distinct)) if weights is None else np.bincount(at, weights=weights)
    return distinct, total / total.sum()


class LayeredTable:
    """A profile table layer by layer, into which pairs are written without sorting it anew."""

    def __init__(self, table: ProfileTable) -> None:
        """Raises InputError where the keys' product does not fit 63 bits."""
        self.table = table
        self._layers = [self._alone(table.of_layer(e)) for e in range(table.layers)]
        self._radix = np.zeros(table.keys.shape[1], np.int64)
        self._widen(table.keys)

    def with_pairs(self, pairs: Pairs) -> list[ProfileTable]:
        """Each layer as a table of its own (layer 0), the pairs written; of equal keys the last one counts."""
        filled = pairs.count > 0
        keys, count = pairs.keys[filled], pairs.count[filled]
        self._widen(keys)
        found = []
        for e, layer in enumerate(self._layers):
            own = keys[:, 0] == e
            found.append(self._written(e, keys[own], count[own]) if own.any() else layer)
        return found

    def _written(self, e: int, keys: np.ndarray, count: np.ndarray) -> ProfileTable:
        layer, codes = self._layers[e], self._codes[e]
        new, last = np.unique(self._code(keys)[::-1], return_index=True)
        keys, values = keys[::-1][last].copy(), count[::-1][last].astype(float)
        keys[:, 0] = 0
        at = np.searchsorted(codes, new)
        held = np.append(codes, -1)[at] == new
        counts = layer.count.copy()
        counts[at[held]] = values[held]
        return replace(
            layer,
            keys=np.insert(layer.keys, at[~held], keys[~held], axis=0),
            count=np.insert(counts, at[~held], values[~held]),
        )

    def _code(self, keys: np.ndarray) -> np.ndarray:
        """One number a key, in the keys' order (the layer left out)."""
        code = np.zeros(len(keys), np.int64)
        for column in range(1, 5):
            code = code * self._radix[column] + keys[:, column]
        return code

    def _widen(self, keys: np.ndarray) -> None:
        """Make room in the codes for larger token IDs, positions and so on."""
        if len(keys) and (keys.max(axis=0) >= self._radix).any():
            self._radix = np.maximum(self._radix, keys.max(axis=0) + 1)
            if np.log2(self._radix[1:].astype(float)).sum() > 63:
                raise InputError(f"profile table: keys up to {(self._radix - 1).tolist()} are too large to tune")
            self._codes = [self._code(layer.keys) for layer in self._layers]

    @staticmethod
    def _alone(layer: ProfileTable) -> ProfileTable:
        keys = layer.keys.copy()
        keys[:, 0] = 0
        return replace(layer, keys=keys, layers=1)
