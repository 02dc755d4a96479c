"""The decision map's file, `decision-map/1`: what is mapped, over which axes, with how many draws (YAML)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from moe.errors import shortened
from moe.files import FileModel
from simulator.plan import MaxReplicas, MemoryMB, Reload
from simulator.profiles.constant import Confidence
from simulator.profiles.schema import DEFAULT_PROFILE, load_profile
from simulator.profiles.uncertainty import SPREAD
from simulator.profiles.walk import constant_at

Axis = Literal["batch_tokens", "batches_per_hour", "flops_per_vcpu", "s3_bandwidth", "cluster_utilisation", "skew"]
ON_CONSTANT: dict[str, tuple[str, ...]] = {
    "flops_per_vcpu": ("compute", "flops_per_vcpu"),
    "cluster_utilisation": ("cluster", "month_utilisation"),
}
MOST = 2_000_000


class MapAxis(FileModel):
    """One axis: what varies, between which values, evenly in its logarithm or not."""

    axis: Axis
    low: float = Field(ge=0)
    high: float = Field(gt=0)
    points: int = Field(9, ge=2, le=200)
    log: bool = True

    @model_validator(mode="after")
    def _range(self) -> MapAxis:
        if self.high <= self.low or (self.log and self.low == 0):
            raise ValueError(f"{self.axis}: expected 0 < low < high, got {self.low:g} to {self.high:g}")
        return self

    def values(self) -> np.ndarray:
        """The cells' centres, shape (points,)."""
        return (np.geomspace if self.log else np.linspace)(self.low, self.high, self.points)


class Draws(FileModel):
    """How many draws a cell gets: more, until the interval of the probability is narrow or clear of one half."""

    least: int = Field(64, ge=4)
    most: int = Field(256, ge=4)
    half_width: float = Field(0.1, gt=0, lt=0.5, description="of the 95% interval of a probability")


class DecisionMap(FileModel):
    """`decision-map/1`: what is mapped."""

    schema_: Literal["decision-map/1"] = Field("decision-map/1", alias="schema")
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    about: str = ""
    seed: int = Field(0, ge=0)
    spec: str = "bert-moe"
    profile: str = DEFAULT_PROFILE
    x: MapAxis
    y: MapAxis
    batch_tokens: float = Field(10240, gt=0)
    batches_per_hour: float = Field(60, gt=0)
    skew: float = Field(0.5, ge=0)
    memory_mb: tuple[MemoryMB, ...] | None = None
    max_replicas: MaxReplicas = 8
    reload: Reload = "every-invocation"
    spread: dict[Confidence, float] = Field(
        default=dict(SPREAD),
        description="95% range of an unmeasured constant, as a factor, by its confidence",
    )
    draws: Draws = Draws()

    @model_validator(mode="after")
    def _axes(self) -> DecisionMap:
        if self.x.axis == self.y.axis:
            raise ValueError(f"y.axis: expected another than x's, got {shortened(self.y.axis)}")
        if set(self.spread) != {"high", "medium", "low"} or min(self.spread.values()) < 1:
            raise ValueError("spread: expected factors >= 1 for high, medium and low")
        if self.x.points * self.y.points * self.draws.most > MOST:
            count = self.x.points * self.y.points * self.draws.most
            raise ValueError(f"x, y, draws: {count:,} simulations at most; expected up to {MOST:,}")
        return self


def here(asked: DecisionMap) -> tuple[float, float]:
    """Where the map's own setting and the profile's own constant are on its axes."""
    profile = load_profile(asked.profile)

    def value(axis: Axis) -> float:
        if axis in ON_CONSTANT:
            return constant_at(profile, ON_CONSTANT[axis]).median
        return 1.0 if axis == "s3_bandwidth" else float(getattr(asked, axis))

    return value(asked.x.axis), value(asked.y.axis)
