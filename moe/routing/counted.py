"""Popularity of real Mixture-of-Experts models, counted by others: which share of the choices each expert gets."""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel, read_model


class CountedModel(FileModel):
    """Counts of one model.

    Attributes:
        top_k: experts that a token uses.
        model_layers: of the model; `layers`: those that were counted.
        counts: by text; a row for each counted layer, a number for each expert.
    """

    top_k: int = Field(ge=1)
    model_layers: int = Field(ge=1)
    layers: tuple[int, ...]
    counts: dict[str, tuple[tuple[int, ...], ...]]

    @property
    def experts(self) -> int:
        """Of a layer."""
        return len(next(iter(self.counts.values()))[0])


class CountedModels(FileModel):
    """expert_counts.yaml."""

    schema_: Literal["expert-counts/1"] = Field("expert-counts/1", alias="schema")
    models: dict[str, CountedModel]


@cache
def counted_models() -> dict[str, CountedModel]:
    """The models whose experts were counted, by name."""
    return read_model(CountedModels, Path(str(resources.files("moe") / "routing" / "expert_counts.yaml"))).models


def counted_model(name: str) -> CountedModel:
    """A model whose experts were counted. Raises InputError, with the nearest name."""
    models = counted_models()
    if name not in models:
        raise InputError(f"no counts of {shortened(name)}{nearest(name, models)}")
    return models[name]


def counted_shares(name: str, text: str | None, layers: int, experts: int, top_k: int) -> np.ndarray:
    """Shares of the choices that the experts of a real model get, (layers, experts), each layer's sum to 1.

    Layer e of L has the counts of the counted layer that is nearest to it in depth: to layer e N / L of a model of
    N layers, the earlier one of two.

    Args:
        name: `mixtral-8x7b` or `olmoe-1b-7b`.
        text: that was counted; None: all of them together.
        layers, experts, top_k: of the model that they stand for.

    Raises InputError for an unknown model or text, and for other experts or another top-k than the model's.
    """
    model = counted_model(name)
    for key, asked, own in (("experts", experts, model.experts), ("top_k", top_k, model.top_k)):
        if asked != own:
            raise InputError(f"{key}: expected {own}, as {name} has, whose counts are asked for, got {asked}")
    if text is not None and text not in model.counts:
        raise InputError(f"text: no counts of {name} on {shortened(text)}{nearest(text, model.counts)}")
    counts = np.sum([model.counts[x] for x in ([text] if text else model.counts)], axis=0)
    depth = np.arange(layers) * model.model_layers / layers
    chosen = counts[np.abs(depth[:, None] - np.array(model.layers)).argmin(axis=1)]
    return chosen / chosen.sum(axis=1, keepdims=True)
