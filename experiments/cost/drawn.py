"""Draws of the constants of contenders that nobody knows well.

Constants of Lambda are drawn as everywhere (`simulator.profiles.uncertainty`); those of other contenders likewise
by their intervals, and one that several contenders share has the same draw in all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.cost.offer import Offer
from experiments.profiles.probe import Platform, planned
from lambda_probe.campaign.file import load_campaign
from moe.spec import MoESpec
from simulator.profiles.constant import Constant
from simulator.profiles.contenders import Contender, Lambda, Servers
from simulator.profiles.instances import catalogue
from simulator.profiles.schema import DEFAULT_PROFILE, PlatformProfile
from simulator.profiles.uncertainty import Factors, drawn_factors, sigma
from simulator.profiles.walk import Keys
from simulator.servers.machine import size_name
from simulator.traffic.requests import HOURS_PER_MONTH

CAMPAIGN = "standard"
RATES = {"int4": ("bf16", "fp32")}
"""Rates of the arithmetic that weights of a precision may need; others need their own."""
BY_MODEL = ("fp32", "bf16", "int8", "encode", "generate")
SHARES = ("encode", "generate", "memory_share")  # at most 1


@dataclass(frozen=True)
class Drawn:
    """Draws of uncertain constants.

    Attributes:
        platform: of Lambda. factors: of other contenders' constants, by name, each of shape (draws,).
    """

    platform: Factors
    factors: dict[str, np.ndarray]

    @property
    def _mine(self) -> list[int]:
        return [k for k, path in enumerate(self.platform.paths) if path[0] != "cluster"]

    @property
    def names(self) -> list[str]:
        """Of the constants: Lambda's dotted, others' with the kind of machine."""
        return [*(self.platform.names[k] for k in self._mine), *self.factors]

    @property
    def logs(self) -> np.ndarray:
        """Logarithms of the factors, shape (draws, constants)."""
        lambdas = np.log(self.platform.factors[:, self._mine])
        return np.column_stack([lambdas, *(np.log(each) for each in self.factors.values())])

    def contender(self, contender: Contender, draw: int) -> Contender:
        """The contender on one draw."""
        if isinstance(contender.runs, Lambda):
            return contender
        by_constant = {
            id(constant): (
                float(self.factors[key][draw]) if (key := _key(contender.name, path)) in self.factors else 1.0,
                1.0 if path[-1] in SHARES else np.inf,
            )
            for path, constant in contender.constants().items()
        }
        return contender.mapped(lambda constant: constant.scaled(*by_constant[id(constant)]))


def draws_of(
    profile: PlatformProfile,
    contenders: Mapping[str, Contender],
    specs: Sequence[MoESpec],
    draws: int,
    seed: int,
    fixed: Collection[Keys] = (),
) -> Drawn:
    """So many draws of the constants that matter to contenders and models; `fixed`: those that are not drawn."""
    rng = np.random.default_rng(seed)
    factors = {
        name: np.exp(sigma(each) * rng.standard_normal(draws))
        for name, each in _uncertain(contenders, specs).items()
    }
    return Drawn(drawn_factors(profile, draws, seed, fixed=fixed), factors)


def only(contender: Contender, machine: str | None) -> Contender:
    """The contender with the kind of machine that was found for it, of which draws need more, or larger ones."""
    runs = contender.runs
    if not isinstance(runs, Servers) or machine is None:
        return contender
    if runs.instances:
        family = machine.partition(".")[0]
        known = (
            tuple(each for each in catalogue() if each.startswith(f"{family}."))
            if family in runs.instances
            else ()
        )
        return contender.model_copy(update={"runs": runs.model_copy(update={"instances": known or (machine,)})})
    least = next(gb for vcpus, gbs in runs.rent.sizes.items() for gb in gbs if size_name(vcpus, gb) == machine)
    sizes = {vcpus: tuple(gb for gb in gbs if gb >= least)[:1] for vcpus, gbs in runs.rent.sizes.items()}
    rent = runs.rent.model_copy(update={"sizes": sizes})
    return contender.model_copy(update={"runs": runs.model_copy(update={"rent": rent})})


def mattering(drawn: Drawn, contenders: Mapping[str, Contender], spec: MoESpec) -> np.ndarray:
    """Which constants matter to these contenders, for a model, shape (constants,)."""
    known = _uncertain(contenders, [spec])
    functions = any(isinstance(each.runs, Lambda) for each in contenders.values())
    return np.array([name in known or (functions and ": " not in name) for name in drawn.names])


def _uncertain(asked: Mapping[str, Contender], specs: Sequence[MoESpec]) -> dict[str, Constant]:
    """Constants with another unit than USD that matter to a contender and a model, by contender and name."""
    found: dict[str, Constant] = {}
    used_of = {"generate" if each.generates else "encode" for each in specs}
    used_of |= {rate for each in specs for rate in RATES.get(each.precision, (each.precision,))}
    for name, contender in asked.items():
        runs = contender.runs
        if isinstance(runs, Servers):
            for path, constant in contender.constants().items():
                used = path[1] != "processors" or path[2] in _processors(runs)
                used &= path[-1] in used_of or path[-1] not in BY_MODEL
                if used and path[1] != "rent" and sigma(constant) > 0 and constant.interval is not None:
                    found.setdefault(_key(name, path), constant)
    return found


def _processors(runs: Servers) -> set[str]:
    """Names of the processors of the machines that may be rented."""
    rented = [each for each in catalogue().values() if {each.name, each.family} & {*runs.instances}]
    families = {each.gpu or each.family for each in rented}
    return {
        name
        for name, each in runs.processors.items()
        if not rented or name in families or {*each.families} & families
    }


def _key(name: str, path: tuple[str, ...]) -> str:
    """One name for a constant of all contenders that rent the same kind of machine."""
    return f"{kind(name)}: {'.'.join(path[1:])}"


def kind(contender: str) -> str:
    """The kind of machine that a contender of servers rents."""
    return next((place for place in ("gpu", "fargate") if contender.startswith(place)), "ec2")


def hourly(offers: list[Offer]) -> dict[str, tuple[float, str]]:
    """By the kind of machine: USD for an hour of the cheapest that is offered, and its name."""
    found: dict[str, tuple[float, str]] = {}
    for each in offers:
        if each.count and each.usd and each.machine:
            usd = each.usd / (each.count + each.spares) / HOURS_PER_MONTH
            found[kind(each.contender)] = min((usd, each.machine), found.get(kind(each.contender), (np.inf, "")))
    return found


def how_measured(name: str, machines: Mapping[str, tuple[float, str]]) -> str:
    """How a person measures a constant, and what that costs: by probes, or an hour of its machine (`hourly`)."""
    place, colon, _ = name.partition(": ")
    if not colon:
        _, cost = planned(load_campaign(CAMPAIGN), Platform("aws", DEFAULT_PROFILE))
        spent = f"about {cost.usd:.2f} USD, {cost.wall_s / 3600:.1f} h"
        return f"./smoe probe --backend aws --campaign {CAMPAIGN}: {spent}"
    usd, machine = machines[place]
    return f"the model on one {machine} for an hour, under the load that is asked about: {usd:.2f} USD"
