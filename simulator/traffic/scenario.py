"""The traffic scenario, `traffic-scenario/1`: who arrives when, what serves them, and what is promised (YAML)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from moe.errors import nearest, shortened
from moe.files import FileModel, read_settings, source_of, validated
from simulator.draws import Stream
from simulator.plan import NonNegative
from simulator.profiles.schema import DEFAULT_PROFILE
from simulator.serving.layer import Serving
from simulator.traffic.arrivals import Arrivals
from simulator.traffic.function_file import Deployed
from simulator.traffic.program_file import Amount, Entry, Functions, check_graph, increasing


class Work(FileModel):
    """Seconds of work of a request at its function's memory: exactly one of the three."""

    constant_s: float | None = Field(None, ge=0)
    exponential_mean_s: float | None = Field(None, gt=0)
    quantiles_s: dict[float, float] | None = Field(None, description="probability -> seconds")

    @model_validator(mode="after")
    def _one(self) -> Work:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"work: expected one of constant_s, exponential_mean_s, quantiles_s, got {given or 'none'}"
            )
        return self

    @field_validator("quantiles_s")
    @classmethod
    def _increasing(cls, table: dict[float, float] | None) -> dict[float, float] | None:
        return None if table is None else increasing(table)

    def stream(self, rng: np.random.Generator) -> Stream:
        """An endless row of draws, s."""
        amount = Amount(
            constant=self.constant_s, exponential_mean=self.exponential_mean_s, quantiles=self.quantiles_s
        )
        return amount.stream(rng)


class FunctionChoice(Deployed):
    """A generic function. A batch is one call: `call_s`, and its requests' work one after the other."""

    work: Work
    call_s: NonNegative = 0.0


class DeployedMoE(FileModel):
    """A deployed MoE model. A batch is one forward pass over `tokens_per_request` tokens of each request."""

    problem: str = Field(description="deployment problem, JSON or YAML; relative to the scenario's folder")
    plan: str = Field(description="deployment plan for it")
    tokens_per_request: int = Field(ge=1)
    generated_tokens: int = Field(0, ge=0, description="that each request then generates, one after the other")
    tokens: Literal["largest-remainder", "multinomial"] = Field(
        "largest-remainder", description="how a batch's whole tokens follow the problem's popularity"
    )


class MoEChoice(Serving, DeployedMoE):
    """A deployed MoE model, and how it is served."""

    warm: bool = Field(False, description="whether planned instances are initialised at the start")
    provisioned: bool = Field(False, description="whether they are kept initialised, and charged for")


class PrewarmingChoice(FileModel):
    """Who calls functions to keep their instances: a packaged policy, or `module:Class`, and its options."""

    policy: str = "keep-warm"
    options: dict[str, Any] = Field(default_factory=dict)


class Batching(FileModel):
    """A batch leaves when it is full, or when its first request has waited `timeout_s`."""

    max_requests: int = Field(1, ge=1)
    timeout_s: NonNegative = 0.0

    @model_validator(mode="after")
    def _possible(self) -> Batching:
        if self.max_requests == 1 and self.timeout_s > 0:
            raise ValueError(f"timeout_s: a batch of 1 request does not wait; expected 0, got {self.timeout_s}")
        return self


class StopWhen(FileModel):
    """When a simulation that cannot finish is stopped."""

    backlog_requests: int = Field(100_000, ge=1, description="more requests than this wait or are being served")
    no_success_s: float = Field(3600.0, gt=0, description="requests fail, and none has succeeded for so long")


class Scenario(FileModel):
    """One open-loop experiment: arrivals that do not wait for answers, and what serves them."""

    schema_: Literal["traffic-scenario/1"] = Field("traffic-scenario/1", alias="schema")
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    about: str = ""
    seed: int = Field(0, ge=0)
    profile: str = Field(DEFAULT_PROFILE, description="platform profile: a packaged one, or a YAML file")
    arrivals: Arrivals
    duration_s: float | None = Field(None, gt=0, description="requests arrive before this time")
    requests: int | None = Field(None, ge=1, description="so many requests arrive")
    warm_up_s: NonNegative = Field(0.0, description="batches whose first request arrives before are not counted")
    replications: int = Field(1, ge=1, le=100_000)
    slo_s: float = Field(gt=0, description="promised latency of a request")
    keep_rows: bool = False
    batching: Batching = Batching()
    prewarming: PrewarmingChoice | None = None
    function: FunctionChoice | None = None
    functions: Functions | None = Field(None, min_length=1, description="an application: name -> function")
    entry: Entry | None = Field(None, validate_default=True, description="which of `functions` a batch calls")
    moe: MoEChoice | None = None
    stop_when: StopWhen = StopWhen()
    engine: Literal["auto", "fast", "simpy"] = Field(
        "auto",
        description="fast: no event for a call that finds a warm instance; auto: fast where it can and pays",
    )

    @field_validator("functions")
    @classmethod
    def _end(cls, functions: Functions | None) -> Functions | None:
        check_graph(functions or {})
        return functions

    @field_validator("entry")
    @classmethod
    def _known(cls, entry: Entry | None, info: ValidationInfo) -> Entry | None:
        functions = info.data.get("functions", {})  # not there: they are wrong themselves
        if functions is None and entry is not None:
            raise ValueError("expected it with functions only")
        if functions and (entry is None or entry.function not in functions):
            what = "required with functions" if entry is None else f"no function {shortened(entry.function)}"
            raise ValueError(f"{what}{nearest('' if entry is None else entry.function, functions)}")
        return entry

    @model_validator(mode="after")
    def _possible(self) -> Scenario:
        if sum(choice is not None for choice in (self.function, self.functions, self.moe)) != 1:
            raise ValueError("expected one of function, functions and moe")
        if self.duration_s is not None and self.requests is not None:
            raise ValueError("expected one of duration_s and requests, got both")
        if self.duration_s is None and self.requests is None and self.arrivals.trace is None:
            raise ValueError("expected duration_s or requests")
        if self.duration_s is not None and self.warm_up_s >= self.duration_s:
            raise ValueError(
                f"warm_up_s: expected less than duration_s = {self.duration_s:g}, got {self.warm_up_s:g}"
            )
        return self


def load_scenario(path: Path, settings: Sequence[str] = ()) -> Scenario:
    """A scenario's YAML with `key.key=value` settings applied; files that it names are beside it.

    Raises:
        InputError: a missing file, an unknown key (nearest named), a value that is impossible.
    """
    data = beside(read_settings(path, settings), path.parent)
    return validated(Scenario, data, source_of(path, settings))


def beside(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The scenario's mapping with the files that it names taken relative to `folder`, where they are there.

    A name that is not a file there stays: a packaged profile, an absolute path.
    """

    def found(value: Any) -> Any:
        return str(folder / value) if isinstance(value, str) and os.path.isfile(folder / value) else value

    data = dict(data)
    if "profile" in data:
        data["profile"] = found(data["profile"])
    if isinstance(data.get("moe"), dict):
        data["moe"] = {key: found(value) for key, value in data["moe"].items()}
    arrivals = data.get("arrivals")
    if isinstance(arrivals, dict) and isinstance(arrivals.get("trace"), dict):
        trace = arrivals["trace"]
        data["arrivals"] = {**arrivals, "trace": {**trace, "file": found(trace.get("file"))}}
    return data
