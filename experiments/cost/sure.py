"""How sure the answer is: contenders on draws of the constants that nobody knows well, and which to measure next.

Constants of Lambda are drawn as everywhere (`simulator.profiles.uncertainty`); those of other contenders likewise
by their intervals, and one that several contenders share has the same draw in all of them. Machines are as many as
each draw needs; bills are the closed form's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from experiments.cost.compare import offers_at, prepare
from experiments.cost.offer import Offer
from experiments.cost.question import Question
from experiments.profiles.probe import Platform, planned
from experiments.studies.worth_of_knowing import worth_of_knowing
from lambda_probe.campaign.file import load_campaign
from simulator.profiles.constant import Constant
from simulator.profiles.contenders import Contender, Lambda, Servers
from simulator.profiles.instances import catalogue
from simulator.profiles.schema import DEFAULT_PROFILE, load_profile
from simulator.profiles.uncertainty import drawn_factors, sigma
from simulator.traffic.requests import HOURS_PER_MONTH

AGAINST = 4.0  # over the cheapest: a contender that is dearer has hardly a chance, and is not drawn
CAMPAIGN = "standard"
SHARES = ("encode", "generate", "memory_share")  # at most 1


@dataclass(frozen=True)
class Surety:
    """What draws of the uncertain constants say.

    Attributes:
        draws: how many. probability: of each contender to be cheapest. intervals: 95% of its bill, USD.
        measure: the constant whose value is worth most to know; None: the cheapest is the same whatever they are.
        worth_usd: what knowing it would save, USD a month. how: how it is measured, and what that costs.
    """

    draws: int
    probability: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    measure: str | None
    worth_usd: float
    how: str | None


def how_sure(
    question: Question,
    contenders: Mapping[str, Contender],
    offers: list[Offer],
    draws: int,
    update: Callable[[int, int], None],
) -> Surety:
    """Evaluate contenders that may be cheapest on so many draws.

    Args:
        question: at the number of requests that is asked for. offers: what was found there, cheapest first.
        update: told (draws done, draws).
    """
    near = [o for o in offers if o.serves and o.usd is not None and o.usd <= AGAINST * (offers[0].usd or 0.0)]
    asked = {o.contender: _only(contenders[o.contender], o) for o in near}
    profile, rng = load_profile(DEFAULT_PROFILE), np.random.default_rng(question.seed)
    platform = drawn_factors(profile, draws, question.seed)
    factors = {name: np.exp(sigma(each) * rng.standard_normal(draws)) for name, each in _uncertain(asked).items()}
    bills = np.full((draws, len(asked)), np.inf)
    for draw in range(draws):
        there = replace(question, profiles={DEFAULT_PROFILE: platform.applied(profile, draw)})
        now = {key: float(each[draw]) for key, each in factors.items()}
        drawn = {name: _drawn(each, now) for name, each in asked.items()}
        found = {o.contender: o.usd for o in offers_at(there, prepare(there, drawn)) if o.serves}
        bills[draw] = [found.get(name) or np.inf for name in asked]
        update(draw + 1, draws)
    mine = [k for k, path in enumerate(platform.paths) if path[0] != "cluster"]
    names = [*(platform.names[k] for k in mine), *factors]
    logs = np.column_stack([np.log(platform.factors[:, mine]), *(np.log(each) for each in factors.values())])
    return _told(near, names, logs, bills)


def _told(offers: list[Offer], names: list[str], logs: np.ndarray, bills: np.ndarray) -> Surety:
    """What bills of these offers on draws say, shape (draws, offers), with the logarithms of the factors."""
    served, who = np.isfinite(bills), [o.contender for o in offers]
    shares = np.bincount(bills[served.any(axis=1)].argmin(axis=1), minlength=len(who)) / len(bills)
    capped = np.minimum(bills, 2 * np.max(bills[served], initial=0.0))  # who fails costs most
    worth = worth_of_knowing(logs, capped)
    most = int(worth.argmax())
    ends = {
        name: np.quantile(each[np.isfinite(each)], [0.025, 0.975])
        for name, each in zip(who, bills.T, strict=True)
        if np.isfinite(each).any()
    }
    matters = worth[most] > 0
    return Surety(
        len(bills),
        dict(zip(who, shares.tolist(), strict=True)),
        {name: (float(low), float(high)) for name, (low, high) in ends.items()},
        names[most] if matters else None,
        float(worth[most]) if matters else 0.0,
        _how(names[most], offers) if matters else None,
    )


def _only(contender: Contender, offer: Offer) -> Contender:
    """The contender with the machine that was found for it, of which draws need more or fewer."""
    runs = contender.runs
    if not isinstance(runs, Servers) or not runs.instances or offer.machine is None:
        return contender
    return contender.model_copy(update={"runs": runs.model_copy(update={"instances": (offer.machine,)})})


def _uncertain(asked: Mapping[str, Contender]) -> dict[str, Constant]:
    """Constants with another unit than USD that matter to a contender, by contender and name."""
    found: dict[str, Constant] = {}
    for name, contender in asked.items():
        runs = contender.runs
        if isinstance(runs, Servers):
            for path, constant in contender.constants().items():
                used = path[1] != "processors" or path[2] in _processors(runs)
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
    place = next((place for place in ("gpu", "fargate") if name.startswith(place)), "ec2")
    return f"{place}: {'.'.join(path[1:])}"


def _drawn(contender: Contender, factors: Mapping[str, float]) -> Contender:
    """The contender with its constants times their factors."""
    if isinstance(contender.runs, Lambda):
        return contender
    by_constant = {
        id(constant): (factors.get(_key(contender.name, path), 1.0), 1.0 if path[-1] in SHARES else np.inf)
        for path, constant in contender.constants().items()
    }
    return contender.mapped(lambda constant: constant.scaled(*by_constant[id(constant)]))


def _how(name: str, offers: list[Offer]) -> str:
    """How a constant is measured, and what that costs: by a campaign of probes, or an hour of its machine."""
    place, colon, _ = name.partition(": ")
    if not colon:
        _, cost = planned(load_campaign(CAMPAIGN), Platform("aws", DEFAULT_PROFILE))
        hours = cost.wall_s / 3600
        return f"./smoe probe --backend aws --campaign {CAMPAIGN}: about {cost.usd:.2f} USD, {hours:.1f} h"
    hourly = {
        o.machine: o.usd / o.count / HOURS_PER_MONTH for o in offers if o.count and o.usd and _kind(o) == place
    }
    machine, usd = min(hourly.items(), key=lambda item: item[1])
    return f"the model on one {machine} for an hour, under the load that is asked about: {usd:.2f} USD"


def _kind(offer: Offer) -> str:
    """The kind of machine of an offer, as in `_key`."""
    return _key(offer.contender, ("", "")).partition(":")[0]
