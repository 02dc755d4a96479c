"""Contenders, `contender/1`: where a model may run, what that costs and how fast it is. Files beside this one.

A contender is one of three kinds: Lambda (a platform profile, and how its instances are kept), servers (machines
that are rented by time, with one queue), or tokens bought by price. Each constant has unit, source, date and
confidence, as in a platform profile; who adds one writes a file.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel, overlaid, read_mapping, validated
from moe.spec import Weights
from simulator.profiles.constant import (
    USD,
    AtLeastOne,
    Bytes,
    BytesPerSecond,
    Constant,
    Seconds,
    in_unit,
    within,
)
from simulator.profiles.instances import catalogue
from simulator.profiles.schema import DEFAULT_PROFILE, PlatformProfile, load_profile, packaged
from simulator.profiles.walk import Keys, leaves, mapped

Flops: TypeAlias = Annotated[Constant, in_unit("FLOP/s")]
Share: TypeAlias = Annotated[Constant, in_unit("1"), within(0, 1)]
PerMonth: TypeAlias = Annotated[Constant, in_unit("1/month")]
Payment: TypeAlias = Literal["on-demand", "savings-1y", "savings-3y"]
PAYMENTS: tuple[Payment, ...] = ("on-demand", "savings-1y", "savings-3y")


class Processor(FileModel):
    """What computes in a server: a vCPU, or a GPU; every rate is of one of them.

    `fp32`, `bf16`, `int8`: FLOP/s by precision of the arithmetic; int4 weights are widened to bf16 first, or to
    fp32 where that is faster.
    """

    families: tuple[str, ...] = Field((), description="of EC2 instances that have it; none: of a GPU")
    fp32: Flops
    bf16: Flops
    int8: Flops
    memory_bytes_per_s: BytesPerSecond

    def flops_per_s(self, weights: Weights) -> float:
        """The rate for weights of a precision."""
        if weights == "int4":
            return max(self.bf16.median, self.fp32.median)
        rate: Constant = getattr(self, weights)
        return rate.median


class Discounts(FileModel):
    """What a Compute Savings Plan takes off, without upfront payment, by how long it binds."""

    savings_1y: Share
    savings_3y: Share

    def off(self, payment: Payment) -> float:
        """The share that is paid."""
        if payment == "on-demand":
            return 1.0
        return 1 - (self.savings_1y if payment == "savings-1y" else self.savings_3y).median


class Lambda(FileModel):
    """Functions: billed while they run, one call at a time in an instance.

    `provisioned`: whether instances for the expected concurrency are kept initialised, and paid for.
    """

    kind: Literal["lambda"]
    platform: str = DEFAULT_PROFILE
    package: str
    provisioned: bool = False
    discounts: Discounts
    batching: Literal["one call at a time in an instance"] = "one call at a time in an instance"


class Spot(FileModel):
    """Spare capacity: how often AWS takes a machine of it back, and with what notice."""

    interruptions_per_month: PerMonth
    notice_s: Seconds


class Rent(FileModel):
    """What a server costs: the catalogue's price times `markup`, or by the vCPU and GB of its `sizes`.

    `undiscounted`: the part of `markup` beyond 1 that no Savings Plan takes off. `minimum_s`: the least that is
    paid of a start. `request`: of each request. `spot`: of capacity that AWS takes back; then there is a
    spare.
    """

    markup: AtLeastOne | None = None
    vcpu_hour: USD | None = None
    gb_hour: USD | None = None
    sizes: dict[int, tuple[int, ...]] = Field({}, description="vCPUs -> GB that may be had with them")
    minimum_s: Seconds
    request: USD | None = None
    discounts: Discounts | None = None
    spot: Spot | None = None


class Servers(FileModel):
    """Machines that are rented by time, each with a whole copy of the model, behind one queue.

    `instances`: names of the catalogue, or families; none: `rent.sizes`. `count`: `fixed` for the busiest hour, or
    `scaled` with the hour's traffic. `start_s`: of a machine, without the weights, which come over its network.
    `encode`, `generate`: shares of the processors' FLOP/s that whole models get, of a forward pass over whole
    sequences, and of generation with continuous batching (its prefill included). `step_s`: what a forward pass
    takes besides its arithmetic and memory. `most_sequences`: generated side by side. `memory_share`: of memory
    that weights, keys and values may take. `most_memory`: that an environment may have, where that is limited.
    """

    kind: Literal["servers"]
    instances: tuple[str, ...] = ()
    processors: dict[str, Processor] = Field(min_length=1)
    rent: Rent
    count: Literal["fixed", "scaled"] = "fixed"
    start_s: Seconds
    encode: Share
    generate: Share
    step_s: Seconds
    most_sequences: AtLeastOne
    memory_share: Share
    most_memory: Bytes | None = None
    batching: Literal["continuous batching up to the SLO"] = "continuous batching up to the SLO"

    @model_validator(mode="after")
    def _priced(self) -> Servers:
        if bool(self.instances) == bool(self.rent.sizes):
            raise ValueError("expected instances of the catalogue, or rent.sizes with prices of vCPU and GB")
        if self.rent.sizes and (self.rent.vcpu_hour is None or self.rent.gb_hour is None):
            raise ValueError("rent: sizes need vcpu_hour and gb_hour")
        known = {name for each in catalogue().values() for name in (each.name, each.family)}
        for name in self.instances:
            if name not in known:
                raise ValueError(f"instances: no {shortened(name)} in the catalogue{nearest(name, known)}")
        return self


class TokenPrice(FileModel):
    """The price of a model's tokens, USD for a million."""

    million_in: USD
    million_out: USD


class Tokens(FileModel):
    """Tokens that are bought: the price alone, no latency is promised."""

    kind: Literal["tokens"]
    models: dict[str, TokenPrice]
    batching: Literal["the seller's"] = "the seller's"


class Contender(FileModel):
    """Where a model may run, with the day of its prices."""

    schema_: Literal["contender/1"] = Field(alias="schema")
    name: str = Field(min_length=1)
    about: str
    price_list_date: str = Field(min_length=7)
    runs: Annotated[Lambda | Servers | Tokens, Field(discriminator="kind")]

    def constants(self) -> dict[Keys, Constant]:
        """Every constant by its path of keys."""
        return {path: leaf for path, leaf in leaves(self) if isinstance(leaf, Constant)}

    def mapped(self, change: Callable[[Constant], Constant]) -> Contender:
        """The contender with every constant changed."""
        found: Contender = mapped(self, change)
        return found


def contender_names() -> list[str]:
    """Names of the packaged contenders."""
    return packaged(contenders=True)


def load_contender(name_or_path: str | Path) -> Contender:
    """A packaged contender by name, a YAML file, or one instance of the catalogue: `ec2-c8g.large`.

    A file's `base:` may name the packaged one that it changes. Raises InputError.
    """
    name = str(name_or_path)
    if Path(name).suffix in (".yaml", ".yml"):
        return validated(Contender, _based(read_mapping(name), name), name)
    family, _, instance = name.partition("-")
    if name not in contender_names() and family in ("ec2", "gpu") and instance in catalogue():
        data = _read(family)
        data["name"], data["runs"] = name, data["runs"] | {"instances": [instance]}
        return validated(Contender, data, name)
    return validated(Contender, _read(name), name)


def load_any(name_or_path: str | Path) -> PlatformProfile | Contender:
    """A platform profile or a contender, by name or file. Raises InputError."""
    name = str(name_or_path)
    if Path(name).suffix in (".yaml", ".yml"):
        data = read_mapping(name)
        contends = data.get("schema") == "contender/1" or data.get("base") in contender_names()
        return load_contender(name) if contends else load_profile(name)
    if name in packaged(contenders=False):
        return load_profile(name)
    known = [*packaged(contenders=False), *contender_names()]
    if name not in known and not name.startswith(("ec2-", "gpu-")):
        raise InputError(f"profile: no profile {shortened(name)}{nearest(name, known)}")
    return load_contender(name)


def _read(name: str) -> dict[str, Any]:
    if name not in contender_names():
        raise InputError(f"contender: no contender {shortened(name)}{nearest(name, contender_names())}")
    return _based(read_mapping(str(resources.files("simulator") / "profiles" / f"{name}.yaml")), name)


def _based(data: dict[str, Any], name: str) -> dict[str, Any]:
    if "base" not in data:
        return data
    return overlaid(_read(str(data.pop("base"))), data)
