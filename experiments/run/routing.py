"""Routing of a job: a trace as layers of the priced model, a part to profile and a part that is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe.errors import InputError
from moe.spec import MoESpec
from moe.trace import Batches, RoutingTrace
from simulator.serving.replicas import whole_tokens

LAYERS_KEY = "workload.layers_of_recording"


@dataclass(frozen=True)
class Routing:
    """A trace as layers of the priced model, in two parts that share no token.

    Attributes:
        profiled: what predictors learn from.
        held_out: what is served, or drawn from to be served.
        sequence_tokens: tokens of a text sequence.
    """

    profiled: RoutingTrace
    held_out: RoutingTrace
    sequence_tokens: int

    @staticmethod
    def of(trace: RoutingTrace, profiled_tokens: int, sequence_tokens: int) -> Routing:
        """The first `profiled_tokens` tokens are profiled, the others held out."""
        profiled, held_out = trace.slice(0, profiled_tokens), trace.slice(profiled_tokens, trace.tokens)
        return Routing(profiled, held_out, sequence_tokens)

    @property
    def held_out_sequences(self) -> int:
        """Whole sequences that are held out."""
        return self.held_out.tokens // self.sequence_tokens

    def popularity(self, tokens: float) -> np.ndarray:
        """The profiled popularity, scaled to so many tokens, shape (layers, experts)."""
        return self.profiled.popularity() * (tokens / self.profiled.tokens)

    def in_order(self, batch_tokens: int) -> Batches:
        """The held-out tokens as they come, in batches of that many."""
        starts = range(0, self.held_out.tokens, batch_tokens)
        return Batches.of([self.held_out.slice(start, start + batch_tokens) for start in starts])

    def sets(self, sizes: list[int], batch_tokens: int, seed: int) -> list[HeldOutBatches]:
        """Sets of so many batches each; sequences of one set are in no other.

        A set whose share of the held-out sequences is long enough has batches of consecutive sequences; else each
        batch is a bootstrap sample of that share.
        """
        per_batch = batch_tokens // self.sequence_tokens
        rng = np.random.default_rng(seed)
        shares = np.cumsum(sizes[:-1]) / sum(sizes) * self.held_out_sequences
        parts = np.split(np.arange(self.held_out_sequences), shares.astype(int))
        return [self._set(part, size, per_batch, rng) for part, size in zip(parts, sizes, strict=True)]

    def batches(self, count: int, batch_tokens: int, seed: int) -> HeldOutBatches:
        """One set of batches."""
        return self.sets([count], batch_tokens, seed)[0]

    def likely(self, count: int, batch_tokens: int, seed: int) -> np.ndarray:
        """Batches as they may come: held-out sequences drawn with replacement, scaled to so many tokens.

        Returns:
            Whole tokens of each expert, shape (count, layers, experts).
        """
        held_out, names = self.held_out, np.unique(self.held_out.sequence)
        sequences = [held_out.take(held_out.sequence == name) for name in names]
        each = max(1, round(batch_tokens * len(sequences) / held_out.tokens))
        drawn = np.random.default_rng(seed).integers(len(sequences), size=(count, each))
        scale = batch_tokens / np.array([x.tokens for x in sequences])[drawn].sum(axis=1)
        batches = np.array([x.popularity() for x in sequences])[drawn].sum(axis=1) * scale[:, None, None]
        return np.array([[whole_tokens(layer) for layer in batch] for batch in batches])

    def _set(self, sequences: np.ndarray, count: int, per_batch: int, rng: np.random.Generator) -> HeldOutBatches:
        if not len(sequences):
            raise InputError(f"held-out tokens: none for {count} batches; expected a longer recording")
        if len(sequences) >= count * per_batch:
            drawn = [sequences[k * per_batch : (k + 1) * per_batch] for k in range(count)]
            kind = f"{count} disjoint batches"
        else:
            drawn = [rng.choice(sequences, per_batch) for _ in range(count)]
            tokens = len(sequences) * self.sequence_tokens
            kind = f"{count} bootstrap samples of {tokens:,} held-out tokens"
        batches = Batches.of([self._tokens(x) for x in drawn])
        return HeldOutBatches(batches, kind, min(float(count), len(sequences) / per_batch))

    def _tokens(self, sequences: np.ndarray) -> RoutingTrace:
        at = sequences[:, None] * self.sequence_tokens + np.arange(self.sequence_tokens)
        return self.held_out.take(at.ravel())


@dataclass(frozen=True)
class HeldOutBatches:
    """Batches of held-out sequences, how they were drawn, and how many independent ones the sequences make."""

    batches: Batches
    kind: str
    independent: float

    @property
    def real(self) -> list[np.ndarray]:
        """Real tokens of each expert, a (layers, experts) array for each batch."""
        return list(self.batches.real)


def check_layers(
    chosen: Sequence[int] | None, spec: MoESpec, source: str | Path, recorded: int | None, key: str = LAYERS_KEY
) -> None:
    """Raise InputError unless the recorded layers (None: unknown) can stand for the priced model's.

    Args:
        chosen: a recorded layer for each of the model's; None: one to one.
        spec: the priced model.
        source: what was recorded.
        recorded: its layers.
        key: where `chosen` was said.
    """
    if chosen is not None and len(chosen) != spec.moe_layers:
        raise InputError(f"{key}: expected {spec.moe_layers} layers, as {spec.name} has, got {len(chosen)}")
    if recorded is None:
        return
    if chosen is not None and not all(0 <= layer < recorded for layer in chosen):
        raise InputError(f"{key}: {source} has layers 0..{recorded - 1}, got {list(chosen)}")
    if chosen is None and recorded != spec.moe_layers:
        raise InputError(
            f"{key}: {source} has {recorded} layers and {spec.name} {spec.moe_layers}; "
            "expected a list that names a recorded layer for each"
        )
