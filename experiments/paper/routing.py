"""Whose routing a cell of a figure uses: recorded, cut into a profiled and a held-out part, and in batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import Field

from experiments.paper.settings import FigureSettings, ModelChoice, TextChoice, Variant
from moe.errors import InputError
from moe.files import FileModel
from moe.pretrained.settings import RecordingSettings
from moe.spec import MoESpec, load_spec
from moe.statistics import estimate
from moe.trace import RoutingTrace
from optimizer.bo import Batches
from simulator.profiles.schema import PlatformProfile, load_profile


class Cell(FileModel):
    """A piece of a figure that is computed by itself: one model with one set of gates on one text.

    Figures add what else their cells are of.
    """

    model: ModelChoice
    text: TextChoice
    experts: int
    top_k: int
    gate_seed: int
    profiled_share: float
    batch_tokens: int
    batches: int
    sequence_tokens: int
    profile: str
    seed: int = Field(ge=0)

    @property
    def recording(self) -> RecordingSettings:
        """What is recorded for it."""
        return RecordingSettings(
            model=self.model.record,
            corpus=self.text.corpus,
            gate=self.model.gate,
            gate_seed=self.gate_seed,
            seed=self.seed,
            experts=self.experts,
            top_k=self.top_k,
            tokens=self.text.tokens,
            sequence_tokens=self.sequence_tokens,
        )

    @property
    def spec(self) -> MoESpec:
        """Sizes of the model that is priced."""
        sizes = {"experts": self.experts, "top_k": self.top_k, "sequence_tokens": self.sequence_tokens}
        return load_spec(self.model.spec, **sizes)

    @property
    def platform(self) -> PlatformProfile:
        """The platform profile."""
        return load_profile(self.profile)

    @property
    def about(self) -> dict[str, Any]:
        """The columns that say whose rows these are."""
        return {"model": self.model.title, "text": self.text.title, "experts": self.experts, "top_k": self.top_k}


def cell_fields(settings: FigureSettings) -> list[dict[str, Any]]:
    """The fields of `Cell` for each model on each text with each seed of the gates."""
    names = ("experts", "top_k", "profiled_share", "batch_tokens", "batches", "sequence_tokens", "profile", "seed")
    same = {name: getattr(settings, name) for name in names}
    return [
        same | {"model": model, "text": text, "gate_seed": settings.seed + k}
        for model in settings.models
        for text in settings.texts
        for k in range(settings.gates)
    ]


def with_variant(fields: dict[str, Any], variant: Variant) -> dict[str, Any]:
    """The fields of a cell with another number of experts or another top-k."""
    return fields | {"experts": variant.experts, "top_k": variant.top_k}


@dataclass(frozen=True)
class Routing:
    """A recording as layers of the priced model, in two parts that share no sequence."""

    profiled: RoutingTrace
    held_out: RoutingTrace
    sequence_tokens: int

    @property
    def held_out_sequences(self) -> int:
        """Whole sequences that are held out."""
        return self.held_out.tokens // self.sequence_tokens

    def popularity(self, tokens: float) -> np.ndarray:
        """The profiled popularity, scaled to so many tokens, shape (layers, experts)."""
        return self.profiled.popularity() * (tokens / self.profiled.tokens)

    def sets(self, sizes: list[int], batch_tokens: int, seed: int) -> list[TestBatches]:
        """Sets of so many batches each; sequences of one set are in no other.

        A set whose share of the held-out sequences is long enough has batches of consecutive sequences; else each
        batch is a bootstrap sample of that share.
        """
        per_batch = batch_tokens // self.sequence_tokens
        rng = np.random.default_rng(seed)
        shares = np.cumsum(sizes[:-1]) / sum(sizes) * self.held_out_sequences
        parts = np.split(np.arange(self.held_out_sequences), shares.astype(int))
        return [self._set(part, size, per_batch, rng) for part, size in zip(parts, sizes, strict=True)]

    def batches(self, count: int, batch_tokens: int, seed: int) -> TestBatches:
        """One set of test batches."""
        return self.sets([count], batch_tokens, seed)[0]

    def _set(self, sequences: np.ndarray, count: int, per_batch: int, rng: np.random.Generator) -> TestBatches:
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
        return TestBatches(batches, kind, min(float(count), len(sequences) / per_batch))

    def _tokens(self, sequences: np.ndarray) -> RoutingTrace:
        at = sequences[:, None] * self.sequence_tokens + np.arange(self.sequence_tokens)
        return self.held_out.take(at.ravel())


@dataclass(frozen=True)
class TestBatches:
    """Test batches, how they were drawn, and how many independent ones there are sequences for."""

    __test__ = False  # no test class

    batches: Batches
    kind: str
    independent: float

    @property
    def real(self) -> list[np.ndarray]:
        """Real tokens of each expert, a (layers, experts) array for each batch."""
        return list(self.batches.real)


@lru_cache(maxsize=3)
def _recorded(settings: RecordingSettings, layers: tuple[int, ...]) -> RoutingTrace:
    from moe.routing.record import cached_record

    trace = cached_record(settings).trace
    if not all(0 <= layer < trace.layers for layer in layers):
        raise InputError(
            f"workloads.yaml: layers_of_recording: {settings.model} has layers 0..{trace.layers - 1}, got {layers}"
        )
    return trace.with_layers(list(layers))


def routing_of(cell: Cell) -> Routing:
    """A cell's routing. Raises InputError where the recorded layers cannot stand for the model's."""
    layers, spec = cell.model.layers_of_recording, cell.spec
    if len(layers) != spec.moe_layers:
        raise InputError(
            f"workloads.yaml: models.{cell.model.title}.layers_of_recording: expected {spec.moe_layers} layers, "
            f"as {spec.name} has, got {len(layers)}"
        )
    trace = _recorded(cell.recording, layers)
    n = cell.sequence_tokens
    profiled = max(1, int(trace.tokens * cell.profiled_share) // n) * n
    return Routing(trace.slice(0, profiled), trace.slice(profiled, trace.tokens), n)


def with_interval(name: str, values: np.ndarray | list[float], independent: float | None = None) -> dict[str, Any]:
    """Columns `name`, `name_low`, `name_high`."""
    found = estimate(values, independent)
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
