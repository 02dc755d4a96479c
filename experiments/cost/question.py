"""What is asked: a model, traffic, a promise, who contends, how it is paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from moe.errors import InputError, nearest, shortened
from moe.spec import MoESpec
from simulator.profiles.constant import Constant
from simulator.profiles.contenders import Contender, Lambda, Payment, Servers, Tokens
from simulator.profiles.instances import Instance, catalogue
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.servers.promise import Promise
from simulator.servers.sizing import Load
from simulator.traffic.requests import Traffic

SAMPLE = 500  # requests whose times the closed form has


@dataclass(frozen=True)
class Question:
    """What is to be compared.

    Attributes:
        spec: the model, at the precision of its weights. traffic, promise, payment: as their names say.
        assumed: whether nobody promised that: it is the usual promise.
        prices: USD by item, instead of the files': `lambda.gb_s`, `fargate.vcpu_hour`, `ec2.c8g.large`, ...
        profiles: platforms by name that were loaded, or drawn. seed: of what is played.
    """

    spec: MoESpec
    traffic: Traffic
    promise: Promise
    payment: Payment = "on-demand"
    prices: Mapping[str, float] = field(default_factory=dict)
    profiles: Mapping[str, PlatformProfile] = field(default_factory=dict)
    seed: int = 0
    assumed: bool = False

    def at(self, per_month: float) -> Question:
        """The same at another number of requests a month."""
        return replace(self, traffic=self.traffic.at(per_month))

    @property
    def tokens_per_month(self) -> float:
        """Tokens in and out."""
        tokens_in, tokens_out = self.traffic.sample(SAMPLE)
        return self.traffic.per_month * float((tokens_in + tokens_out).mean())

    def load(self, factor: float) -> Load:
        """Arrivals at a rate over the mean."""
        return Load(self.traffic.rate * factor, *self.traffic.sample(SAMPLE))

    def platform(self, runs: Lambda) -> PlatformProfile:
        """The platform of a Lambda contender: its package, the prices that are asked for, what is paid of them."""
        profile = self.profiles.get(runs.platform) or load_profile(runs.platform)
        if runs.package not in profile.start.packages:
            raise InputError(
                f"package: no package {shortened(runs.package)}{nearest(runs.package, profile.start.packages)}"
            )
        profile = profile.model_copy(update={"start": profile.start.model_copy(update={"package": runs.package})})
        for item, usd in self.prices.items():
            place, _, name = item.partition(".")
            if place == "lambda":
                profile = with_constant(profile, ("prices", name), usd)
        off = 1 - runs.discounts.off(self.payment)
        return with_constant(profile, ("prices", "savings_plan"), off) if off else profile

    def instances(self, name: str, runs: Servers) -> list[Instance]:
        """Machines that a contender may rent, at what is paid for them."""
        found = [each for each in catalogue().values() if {each.name, each.family} & {*runs.instances}]
        off = 1.0 if runs.rent.discounts is None else runs.rent.discounts.off(self.payment)
        markup = 1.0 if runs.rent.markup is None else runs.rent.markup.median
        fee = (markup - 1) * (1 - off) / markup  # no plan takes it off
        paid = [
            replace(each, usd_per_hour=self.prices.get(f"ec2.{each.name}", each.usd_per_hour)) for each in found
        ]
        return [replace(each, usd_per_hour=each.usd_per_hour * (off + fee)) for each in paid]

    def servers(self, name: str, runs: Servers) -> Servers:
        """A contender of servers by size, at the prices that are asked for."""
        off = 1.0 if runs.rent.discounts is None else runs.rent.discounts.off(self.payment)

        def paid(constant: Constant | None, item: str) -> Constant | None:
            if constant is None:
                return None
            return constant.with_value(self.prices.get(f"{name}.{item}", constant.median) * off)

        rent = runs.rent.model_copy(
            update={key: paid(getattr(runs.rent, key), key) for key in ("vcpu_hour", "gb_hour")}
        )
        return runs.model_copy(update={"rent": rent})

    def token_prices(self, runs: Tokens) -> tuple[float, float] | None:
        """USD for a million tokens in and out of the model; None: nobody sells it."""
        price = runs.models.get(self.spec.name)
        if price is None:
            return None
        at = (f"tokens.{self.spec.name}.{key}" for key in ("million_in", "million_out"))
        return self.prices.get(next(at), price.million_in.median), self.prices.get(
            next(at), price.million_out.median
        )


def check_prices(prices: Mapping[str, float], contenders: Mapping[str, Contender], source: str) -> None:
    """Raise InputError for an item that is no price of a contender, with the nearest."""
    known = {f"ec2.{name}" for name in catalogue()}
    for name, contender in contenders.items():
        runs = contender.runs
        if isinstance(runs, Lambda):
            prices_of = load_profile(runs.platform).prices
            known |= {
                f"lambda.{key}" for key, value in prices_of if isinstance(value, Constant) and value.unit == "USD"
            }
        elif isinstance(runs, Servers):
            known |= {f"{name}.{key}" for key in ("vcpu_hour", "gb_hour") if getattr(runs.rent, key) is not None}
        else:
            known |= {f"tokens.{model}.{key}" for model in runs.models for key in ("million_in", "million_out")}
    for item, usd in prices.items():
        if item not in known:
            raise InputError(f"{source}: no item {shortened(item)}{nearest(item, known)}")
        if not np.isfinite(usd) or usd < 0:
            raise InputError(f"{source}: {item}: expected USD from 0 on, got {usd}")
