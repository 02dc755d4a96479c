"""How sure the answer is: contenders on draws of the constants that nobody knows well, and which to measure next.

Machines are as many as each draw needs; bills are the closed form's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from experiments.cost.compare import offers_at, prepare
from experiments.cost.drawn import draws_of, hourly, how_measured, only
from experiments.cost.offer import Offer
from experiments.cost.question import Question
from experiments.studies.worth_of_knowing import worth_of_knowing
from simulator.profiles.contenders import Contender
from simulator.profiles.schema import DEFAULT_PROFILE, load_profile

WORTH_SAYING = 0.005  # of the bill: less is the regression's own noise, with tens of constants
AGAINST = 4.0  # over the cheapest: a contender that is dearer has hardly a chance, and is not drawn


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
    near = near_of(offers)
    asked = {o.contender: only(contenders[o.contender], o.machine) for o in near}
    profile = load_profile(DEFAULT_PROFILE)
    drawn = draws_of(profile, asked, [question.spec], draws, question.seed)
    bills = np.empty((draws, len(asked)))
    for draw in range(draws):
        there = replace(question, profiles={DEFAULT_PROFILE: drawn.platform.applied(profile, draw)})
        now = {name: drawn.contender(each, draw) for name, each in asked.items()}
        bills[draw] = usd_of(offers_at(there, prepare(there, now)), list(asked))
        update(draw + 1, draws)
    return _told(near, drawn.names, drawn.logs, bills)


def near_of(offers: list[Offer], against: float = AGAINST) -> list[Offer]:
    """Those that may be cheapest on some draw, of all, cheapest first."""
    return [o for o in offers if o.serves and o.usd is not None and o.usd <= against * (offers[0].usd or 0.0)]


def usd_of(offers: list[Offer], names: list[str]) -> list[float]:
    """Bills of contenders; infinite where one does not serve."""
    found = {o.contender: o.usd for o in offers if o.serves}
    return [found.get(name) or np.inf for name in names]


def at_most(bills: np.ndarray) -> np.ndarray:
    """Bills on draws, of which who does not serve has twice the largest."""
    return np.minimum(bills, 2 * np.max(bills[np.isfinite(bills)], initial=0.0))


def _told(offers: list[Offer], names: list[str], logs: np.ndarray, bills: np.ndarray) -> Surety:
    """What bills of these offers on draws say, shape (draws, offers), with the logarithms of the factors."""
    served, who = np.isfinite(bills), [o.contender for o in offers]
    shares = np.bincount(bills[served.any(axis=1)].argmin(axis=1), minlength=len(who)) / len(bills)
    worth = worth_of_knowing(logs, at_most(bills))
    most = int(worth.argmax())
    ends = {
        name: np.quantile(each[np.isfinite(each)], [0.025, 0.975])
        for name, each in zip(who, bills.T, strict=True)
        if np.isfinite(each).any()
    }
    matters = worth[most] > WORTH_SAYING * at_most(bills).mean(axis=0).min()
    return Surety(
        len(bills),
        dict(zip(who, shares.tolist(), strict=True)),
        {name: (float(low), float(high)) for name, (low, high) in ends.items()},
        names[most] if matters else None,
        float(worth[most]) if matters else 0.0,
        how_measured(names[most], hourly(offers)) if matters else None,
    )
