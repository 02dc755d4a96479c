"""Programs in a scenario file: functions, the phases of each, and who invokes whom (YAML)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeAlias

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel
from simulator.cloud.call import Phase, Program
from simulator.cloud.invocation import Invoke, Target
from simulator.cloud.phases import Allocate, Compute, Fail, FirstCall, Return, Sleep
from simulator.cloud.transfers import Get, List, Put
from simulator.draws import Chances, Draws, Exponentials, Stream
from simulator.plan import MB, NonNegative
from simulator.profiles.constant import Quantiles
from simulator.profiles.schema import PlatformProfile
from simulator.records import Record
from simulator.traffic.function_file import Deployed

MOST = 10_000  # objects of a phase, calls of an invocation
ROLE = "function"


# -- amounts ----------------------------------------------------------------------------------------------


class Amount(FileModel):
    """A number, or what it is drawn from for each attempt, in the unit of its key: exactly one of the three."""

    constant: float | None = Field(None, ge=0, description="a plain number is one")
    exponential_mean: float | None = Field(None, gt=0)
    quantiles: dict[float, float] | None = Field(None, description="probability -> amount")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, given: Any) -> Any:
        return {"constant": given} if isinstance(given, int | float | str) else given

    @model_validator(mode="after")
    def _one(self) -> Amount:
        if sum(each is not None for each in (self.constant, self.exponential_mean, self.quantiles)) != 1:
            raise ValueError("expected a number, or one of exponential_mean and quantiles")
        return self

    @field_validator("quantiles")
    @classmethod
    def _increasing(cls, table: dict[float, float] | None) -> dict[float, float] | None:
        return None if table is None else increasing(table)

    def stream(self, rng: np.random.Generator) -> Stream:
        """An endless row of draws."""
        if self.exponential_mean is not None:
            return Exponentials(self.exponential_mean, rng)
        given = self.quantiles if self.constant is None else self.constant
        assert given is not None
        return Draws(given, rng)


def increasing(table: dict[float, float]) -> dict[float, float]:
    """A table of quantiles, sorted. Raises ValueError in one line."""
    try:
        return Quantiles(quantiles=table).quantiles
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _drawn(amount: Amount, rng: np.random.Generator) -> tuple[float, Iterator[float] | None]:
    """A number as itself; a distribution as 1, times its draws."""
    if amount.constant is not None:
        return amount.constant, None
    return 1.0, iter(amount.stream(rng.spawn(1)[0]).next, None)


# -- phases -----------------------------------------------------------------------------------------------


class PhaseModel(FileModel):
    """What stands under a phase's name."""

    @abstractmethod
    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """The phase; what is random of it has a stream spawned from `rng`."""


class Transfer(PhaseModel):
    """Objects that are moved at once: `bytes` each."""

    bytes: NonNegative
    objects: int = Field(1, ge=1, le=MOST)
    parts: int | None = Field(
        None, ge=1, le=MOST, description="connections over which an object is moved, at most; null: the platform's"
    )
    at_once: int | None = Field(
        None, ge=1, le=MOST, description="connections of all objects together; null: one for each object or part"
    )


class GetModel(Transfer):
    """Download from S3."""

    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """As `simulator.cloud.transfers.Get`; what a first call downloads are parameters."""
        name = "parameter_download" if first_call else "input_download"
        return Get([self.bytes] * self.objects, name, parts=self.parts, at_once=self.at_once)


class PutModel(Transfer):
    """Upload to S3."""

    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """As `simulator.cloud.transfers.Put`."""
        return Put([self.bytes] * self.objects, parts=self.parts, at_once=self.at_once)


class ListModel(PhaseModel):
    """List keys in S3."""

    requests: int = Field(1, ge=1, le=MOST, description="one after the other, of up to 1,000 keys each")

    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """As `simulator.cloud.transfers.List`."""
        return List(self.requests)


class ComputeModel(PhaseModel):
    """Compute: exactly one of `vcpu_s`, `flops`, `seconds`."""

    vcpu_s: Amount | None = Field(None, description="seconds at one vCPU")
    flops: Amount | None = None
    seconds: Amount | None = Field(None, description="at the function's memory")
    threads: int | None = Field(None, ge=1, description="null: one for each core that the function sees")
    waits_s: float = Field(
        0.0, ge=0, description="for something outside in between, as far as a small share hides it"
    )
    synced_bytes: NonNegative = Field(0.0, description="of files in /tmp, until they are on disk, as waits_s")

    @model_validator(mode="after")
    def _one(self) -> ComputeModel:
        if sum(amount is not None for amount in (self.vcpu_s, self.flops, self.seconds)) != 1:
            raise ValueError("expected one of vcpu_s, flops, seconds")
        if self.seconds is not None and (self.threads is not None or self.waits_s or self.synced_bytes):
            raise ValueError("threads, waits_s, synced_bytes: share vcpu_s or flops; seconds are what they are")
        return self

    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """As `simulator.cloud.phases.Compute`."""
        name = next(name for name in ("vcpu_s", "flops", "seconds") if getattr(self, name) is not None)
        amount, times = _drawn(getattr(self, name), rng)
        waits = {"waits_s": self.waits_s, "synced_bytes": self.synced_bytes}
        return Compute(**{name: amount}, threads=self.threads, **waits, times=times)


class SleepModel(PhaseModel):
    """Wait, billed, for something outside: a database, another service."""

    seconds: Amount

    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """As `simulator.cloud.phases.Sleep`."""
        seconds, times = _drawn(self.seconds, rng)
        return Sleep(seconds, times=times)


class AllocateModel(PhaseModel):
    """Need memory."""

    mb: NonNegative

    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """As `simulator.cloud.phases.Allocate`."""
        return Allocate(self.mb * MB)


class FailModel(PhaseModel):
    """Fail with an error of the handler."""

    probability: float = Field(1.0, gt=0, le=1)

    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """As `simulator.cloud.phases.Fail`, with the status that callers try again after."""
        return Fail("handler-error", Chances(self.probability, rng.spawn(1)[0]))


class ReturnModel(PhaseModel):
    """Send a response; the last phase."""

    bytes: float = Field(gt=0)

    def phase(self, rng: np.random.Generator, first_call: bool) -> Phase:
        """As `simulator.cloud.phases.Return`."""
        return Return(self.bytes)


class Entry(FileModel):
    """The call of a function; a name alone is one."""

    function: str
    payload_bytes: NonNegative = 0.0
    wait: bool = Field(True, description="for the answer; false: through the asynchronous queue")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, given: Any) -> Any:
        return {"function": given} if isinstance(given, str) else given


class Invocation(Entry):
    """Calls of a function, all at once."""

    count: int = Field(1, ge=1, le=MOST)


class AlonePhase(FileModel):
    """One phase that depends on nobody, under its name."""

    get: GetModel | None = None
    put: PutModel | None = None
    list_: ListModel | None = Field(None, alias="list")
    compute: ComputeModel | None = None
    sleep: SleepModel | None = None
    allocate: AllocateModel | None = None
    fail: FailModel | None = None

    @model_validator(mode="after")
    def _one(self) -> AlonePhase:
        given = [name for name, value in self if value is not None]
        if len(given) != 1 or len(self.model_fields_set) != 1:
            names = sorted(name.rstrip("_") for name in self.model_fields_set)
            raise ValueError(f"expected one phase with its values, got {', '.join(names) or 'none'}")
        return self


class PhaseFile(AlonePhase):
    """One phase of a program, under its name."""

    invoke: tuple[Invocation, ...] | None = Field(None, min_length=1, description="one, or a list")
    return_: ReturnModel | None = Field(None, alias="return")
    first_call: tuple[AlonePhase, ...] | None = Field(None, description="done once by each instance")

    @field_validator("invoke", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return [given] if isinstance(given, dict | str) else given

    @field_validator("invoke")
    @classmethod
    def _alike(cls, calls: tuple[Invocation, ...] | None) -> tuple[Invocation, ...] | None:
        if len({call.wait for call in calls or ()}) > 1:
            raise ValueError("expected the same `wait` for all that are invoked at once")
        return calls

    @property
    def calls(self) -> tuple[Invocation, ...]:
        """What it invokes."""
        return self.invoke or ()


class FunctionFile(Deployed):
    """A function with its program; without phases its handler is empty."""

    program: tuple[PhaseFile, ...] = ()

    @field_validator("program")
    @classmethod
    def _returns_last(cls, program: tuple[PhaseFile, ...]) -> tuple[PhaseFile, ...]:
        for k, phase in enumerate(program[:-1]):
            if phase.return_ is not None:
                raise ValueError(f"{k}.return: expected the last phase, got {len(program) - 1 - k} after it")
        return program


Functions: TypeAlias = dict[str, FunctionFile]


# -- the graph of invocations -----------------------------------------------------------------------------


def check_graph(functions: Mapping[str, FunctionFile]) -> None:
    """That every invoked function is there, and none comes back to itself. Raises ValueError."""
    for name, function in functions.items():
        for k, phase in enumerate(function.program):
            for call in phase.calls:
                if call.function not in functions:
                    known = nearest(call.function, functions)
                    raise ValueError(f"{name}.program.{k}.invoke: no function {shortened(call.function)}{known}")
    invoked = {
        name: [call.function for phase in function.program for call in phase.calls]
        for name, function in functions.items()
    }
    try:
        TopologicalSorter(invoked).prepare()
    except CycleError as error:
        raise ValueError(f"{' -> '.join(reversed(error.args[1]))}: invoke each other without end") from None


def check_payloads(functions: Mapping[str, FunctionFile], entry: Entry, profile: PlatformProfile) -> None:
    """That every payload is one that the platform takes. Raises InputError."""
    encoding = profile.payload.encoding_factor.median
    limits = {True: profile.payload.limit_bytes.median, False: profile.asynchronous.limit_bytes.median}

    def check(key: str, size: float, waits: bool) -> None:
        if size * encoding > limits[waits]:
            how = "" if waits else " through the asynchronous queue"
            most = f"{limits[waits] / encoding:,.0f} bytes{how} (encoded: x {encoding:.3g})"
            raise InputError(f"{key}: expected at most {most}, got {size:,.0f}")

    check("entry.payload_bytes", entry.payload_bytes, entry.wait)
    for name, function in functions.items():
        for k, phase in enumerate(function.program):
            where = f"functions.{name}.program.{k}"
            for call in phase.calls:
                check(f"{where}.invoke.payload_bytes", call.payload_bytes, call.wait)
            if phase.return_ is not None:
                check(f"{where}.return.bytes", phase.return_.bytes, True)


# -- as the simulator runs them ---------------------------------------------------------------------------


def programs(functions: Mapping[str, FunctionFile], rng: np.random.Generator) -> dict[str, Program]:
    """The program of each function; every random phase has a stream of its own, spawned from `rng`."""
    return {
        name: tuple(_phase(k, phase, functions, rng) for k, phase in enumerate(each.program))
        for name, each in functions.items()
    }


def _phase(k: int, given: AlonePhase, functions: Mapping[str, FunctionFile], rng: np.random.Generator) -> Phase:
    if isinstance(given, PhaseFile):
        if given.calls:
            targets = [
                Target(row_of(call.function, functions), payload_bytes=call.payload_bytes)
                for call in given.calls
                for _ in range(call.count)
            ]
            return Invoke(tuple(targets), wait=given.calls[0].wait, queued=not given.calls[0].wait)
        if given.first_call is not None:
            return FirstCall(tuple(_named(phase).phase(rng, True) for phase in given.first_call), f"phase {k}")
    return _named(given).phase(rng, False)


def _named(given: AlonePhase) -> PhaseModel:
    """What stands under the name of a phase."""
    return next(value for _, value in given if isinstance(value, PhaseModel))


def row_of(name: str, functions: Mapping[str, FunctionFile], batch: int = 0) -> Record:
    """The row of a call from its start."""
    return Record(batch, 0, ROLE, name, functions[name].memory_mb)
