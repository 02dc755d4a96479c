"""Whose routing a cell of a figure uses: recorded, cut into a profiled and a held-out part, and in batches."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import Field

from experiments.paper.settings import FigureSettings, ModelChoice, TextChoice, Variant
from experiments.run.routing import Routing, check_layers
from moe.files import FileModel
from moe.pretrained.settings import GateKind, RecordingSettings
from moe.spec import MoESpec, load_spec
from moe.statistics import estimate
from moe.trace import RoutingTrace
from simulator.profiles.schema import PlatformProfile, load_profile


class Cell(FileModel):
    """A piece of a figure that is computed by itself: one model with one set of gates on one text.

    Figures add what else their cells are of.
    """

    model: ModelChoice
    text: TextChoice
    experts: int
    top_k: int
    gate: GateKind
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
            gate=self.gate,
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
    names = (
        "experts",
        "top_k",
        "profiled_share",
        "batch_tokens",
        "batches",
        "sequence_tokens",
        "profile",
        "seed",
    )
    same = {name: getattr(settings, name) for name in names}
    return [
        same | {"model": model, "text": text, "gate": model.gate or settings.gate, "gate_seed": settings.seed + k}
        for model in settings.models
        for text in settings.texts
        for k in range(settings.gates)
    ]


def with_variant(fields: dict[str, Any], variant: Variant) -> dict[str, Any]:
    """The fields of a cell with another number of experts or another top-k."""
    return fields | {"experts": variant.experts, "top_k": variant.top_k}


@lru_cache(maxsize=3)
def recorded(settings: RecordingSettings) -> RoutingTrace:
    """A recording, with its own layers."""
    from moe.routing.record import cached_record

    return cached_record(settings).trace


def routing_of(cell: Cell) -> Routing:
    """A cell's routing. Raises InputError where the recorded layers cannot stand for the model's."""
    layers, n = cell.model.layers_of_recording, cell.sequence_tokens
    key = f"workloads.yaml: models.{cell.model.title}.layers_of_recording"
    check_layers(layers, cell.spec, cell.model.record, None, key)
    trace = recorded(cell.recording)
    check_layers(layers, cell.spec, cell.model.record, trace.layers, key)
    profiled = max(1, round(trace.tokens * cell.profiled_share / n)) * n
    return Routing.of(trace.with_layers(list(layers)), profiled, n)


def with_interval(name: str, values: np.ndarray | list[float], independent: float | None = None) -> dict[str, Any]:
    """Columns `name`, `name_low`, `name_high`."""
    found = estimate(values, independent)
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
