"""The experiment file with `cost:`: where a model should run, as `./smoe cost` asks it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moe.files import FileModel
from moe.spec import MoESpec, Weights, load_spec
from simulator.profiles.contenders import Payment


class CostAsked(FileModel):
    """What is asked. The options of `./smoe cost` have the same names."""

    requests_per_month: float | str | None = Field(
        None, description="1e6, or a range such as 1e4..1e9; null: as many as the trace has"
    )
    tokens_in: float | None = Field(None, ge=1, description="tokens that each request has")
    tokens_out: float | None = Field(None, ge=0, description="tokens that each request generates")
    traffic: str | None = Field(None, description="a trace of requests, or a packaged shape; null: Poisson")
    columns: dict[str, str] | None = Field(
        None, description="of a trace in a format of its own: time, in, out, unit"
    )
    peak_to_mean: float = Field(1.0, ge=1, le=1.9, description="of the arrivals of a day: busiest hour over mean")
    slo: str | None = Field(None, description="such as ttft=2s,tpot=0.1s@p95; null: the usual promise")
    weights: Weights | None = Field(None, description="precision of the weights; null: the model's own")
    pay: Payment = Field("on-demand", description="on demand, or by a Compute Savings Plan")
    only: tuple[str, ...] = Field((), description="contenders: names, files, instances; none: the packaged ones")
    region_prices: str | None = Field(None, description="file with the prices of another region, by item")
    draws: int = Field(0, ge=0, description="of the uncertain constants: how sure the cheapest is")


class ModelChoice(FileModel):
    """The model that is to run."""

    spec: str = Field("bert-moe", description="model: a preset, or a YAML file")
    experts: int | None = Field(None, ge=2, description="experts of an MoE layer; null: those of spec")
    top_k: int | None = Field(None, ge=1, description="experts that a token uses; null: those of spec")


class CostExperiment(FileModel):
    """An experiment that asks for monthly bills."""

    schema_: Literal["experiment/1"] = Field("experiment/1", alias="schema")
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    about: str = ""
    seed: int = Field(0, ge=0)
    workload: ModelChoice = ModelChoice()
    cost: CostAsked

    def model(self) -> MoESpec:
        """The model at the precision that is asked for. Raises InputError."""
        return sized(
            self.workload.spec, self.cost.weights, experts=self.workload.experts, top_k=self.workload.top_k
        )


def sized(spec: str, weights: Weights | None, **sizes: int | None) -> MoESpec:
    """A preset or file with sizes and precision of its own, where they are said. Raises InputError."""
    said = {"weights": weights} | sizes
    return load_spec(spec, **{key: value for key, value in said.items() if value is not None})
