"""The decision map's file, `decision-map/2`: what is mapped, over which axes, with how many draws (YAML)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from moe.errors import shortened
from moe.files import FileModel
from moe.spec import Weights
from simulator.profiles.contenders import Payment

Axis = Literal["requests_per_month", "tokens_in", "flops_per_vcpu", "utilisation", "model"]
MOST = 2_000_000
CONTENDERS = (
    "lambda-x86_64",
    "lambda-arm64",
    "lambda-provisioned",
    "fargate",
    "fargate-arm64",
    "fargate-spot",
    "ec2",
    "gpu",
)


class MapAxis(FileModel):
    """One axis: what varies, between which values, evenly in its logarithm or not; of `model` the presets."""

    axis: Axis
    low: float = Field(0, ge=0)
    high: float = Field(0, ge=0)
    points: int = Field(9, ge=2, le=200)
    log: bool = True
    models: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _range(self) -> MapAxis:
        if (self.axis == "model") != bool(self.models):
            raise ValueError("models: expected two presets or more of axis model, and of no other")
        if self.axis == "model":
            if len(self.models) < 2:
                raise ValueError("models: expected two presets or more")
        elif self.high <= self.low or (self.log and self.low == 0):
            raise ValueError(f"{self.axis}: expected 0 < low < high, got {self.low:g} to {self.high:g}")
        if self.axis == "utilisation" and (self.high > 1 or self.low == 0):
            raise ValueError(f"utilisation: expected shares from above 0 to 1, got {self.low:g} to {self.high:g}")
        return self

    def values(self) -> np.ndarray:
        """The cells' centres, of models their places, shape (points,)."""
        if self.models:
            return np.arange(float(len(self.models)))
        return (np.geomspace if self.log else np.linspace)(self.low, self.high, self.points)


class MapDraws(FileModel):
    """How many draws a cell gets: more, until the interval of the probability is narrow or clear of one half."""

    least: int = Field(16, ge=4)
    most: int = Field(64, ge=4)
    half_width: float = Field(0.1, gt=0, lt=0.5, description="of the 95% interval of a probability")


class DecisionMap(FileModel):
    """`decision-map/2`: what is mapped.

    Keys but for the axes' are what `cost` asks: requests, tokens, `slo` (none: the usual), `weights`, `pay`.
    `contenders`: without those that are GPUs by name, which `gpu` has; managed instances, which
    are `ec2`'s and 15%; and `tokens`, which not every model has.
    """

    schema_: Literal["decision-map/2"] = Field("decision-map/2", alias="schema")
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    about: str = ""
    seed: int = Field(0, ge=0)
    model: str = "bert-moe"
    weights: Weights | None = None
    x: MapAxis
    y: MapAxis
    requests_per_month: float = Field(1e6, gt=0)
    tokens_in: float = Field(128, ge=1)
    tokens_out: float = Field(128, ge=1, description="of a model that writes")
    slo: str | None = None
    pay: Payment = "on-demand"
    contenders: tuple[str, ...] = Field(CONTENDERS, min_length=2)
    draws: MapDraws = MapDraws()

    @model_validator(mode="after")
    def _axes(self) -> DecisionMap:
        if self.x.axis == self.y.axis:
            raise ValueError(f"y.axis: expected another than x's, got {shortened(self.y.axis)}")
        count = len(self.x.values()) * len(self.y.values()) * self.draws.most
        if count > MOST:
            raise ValueError(f"x, y, draws: {count:,} comparisons at most; expected up to {MOST:,}")
        return self
