"""All contenders at one or several numbers of requests a month: chosen by the closed form, the best played."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from experiments.cost import functions, played_functions, servers
from experiments.cost.functions import Deployed
from experiments.cost.offer import Offer, cheapest, ordered
from experiments.cost.question import Question
from experiments.tools.style import rounded
from simulator.profiles.contenders import Contender, Lambda, Tokens

DIFFERS = 0.1
CURVE = (1e2, 1e9)
PER_DECADE = 3
NEAR = 3.0  # over the cheapest: what is dearer is not played, where many numbers of requests are asked for
Update = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Contenders with what does not depend on the number of requests."""

    contenders: Mapping[str, Contender]
    deployed: Mapping[str, list[Deployed] | str]


@dataclass(frozen=True)
class Crossover:
    """From so many requests a month on another contender is the cheapest."""

    before: str
    after: str
    requests_per_month: float


@dataclass(frozen=True)
class Compared:
    """The answer.

    Attributes:
        question: what was asked. points: numbers of requests a month, with the offers, cheapest first.
        curve: the closed form's offers over the range of the picture. crossovers: of its cheapest.
        notes: what is to be known beside.
    """

    question: Question
    points: list[tuple[float, list[Offer]]]
    curve: list[tuple[float, list[Offer]]]
    crossovers: list[Crossover]
    notes: tuple[str, ...]


def prepare(question: Question, contenders: Mapping[str, Contender]) -> Prepared:
    """What each contender is for the model and its tokens."""
    deployed = {
        name: functions.deployments(question, question.platform(each.runs))
        for name, each in contenders.items()
        if isinstance(each.runs, Lambda)
    }
    return Prepared(contenders, deployed)


def offers_at(question: Question, prepared: Prepared) -> list[Offer]:
    """What every contender offers by the closed form, cheapest first."""
    found = []
    for name, each in prepared.contenders.items():
        if isinstance(each.runs, Lambda):
            found.append(functions.of_functions(question, each, prepared.deployed[name]))
        elif isinstance(each.runs, Tokens):
            found.append(servers.of_tokens(question, each))
        else:
            found.append(servers.of_servers(question, each))
    return ordered(found)


def played(question: Question, prepared: Prepared, offer: Offer) -> Offer:
    """The offer as it was played; what of it is far from the closed form is said."""
    each = prepared.contenders[offer.contender]
    if offer.parts is None or isinstance(each.runs, Tokens) or not offer.serves:
        return offer
    if isinstance(each.runs, Lambda):
        found = played_functions.played(question, each, offer, prepared.deployed[offer.contender])
    else:
        found = servers.played(question, each, offer)
    return replace(found, differs=_differs(question, offer, found))


def _differs(question: Question, before: Offer, after: Offer) -> str | None:
    """What is over 10% from the closed form, in words."""
    p = question.promise.percentile
    rows = [
        (f"{name} {rounded(b)} {unit}, closed form {rounded(a)}", abs(b / a - 1))
        for name, unit, a, b in (
            ("bill", "USD", before.usd or 0.0, after.usd or 0.0),
            (f"p{p:g} latency", "s", before.at(p) or 0.0, after.at(p) or 0.0),
        )
        if a > 0
    ]
    said = [text for text, error in rows if error > DIFFERS]
    if said and before.words != after.words:
        said.append(f"{before.words} misses the promise when played")
    if (
        said
        and after.times is not None
        and abs(after.cold_share - before.cold_share) > DIFFERS * before.cold_share
    ):
        of = f"{len(after.times.latency_s):,} requests that were played"
        said.append(f"{after.cold_share:.2%} of {of} waited for a start, closed form {before.cold_share:.2%}")
    return "; ".join(said) or None


def compare(
    question: Question,
    contenders: Mapping[str, Contender],
    numbers: Sequence[float],
    update: Update = lambda _, __: None,
) -> Compared:
    """Every contender at each number of requests a month.

    Args:
        numbers: of requests a month, rising. update: told (steps done, steps).
    """
    prepared = prepare(question, contenders)
    low, high = min(numbers[0], CURVE[0]), max(numbers[-1], CURVE[1])
    steps = round(PER_DECADE * math.log10(high / low)) + 1
    grid = np.geomspace(low, high, steps).tolist()
    done, total = 0, len(grid) + len(numbers) * len(contenders)
    curve = []
    for per_month in grid:
        curve.append((per_month, offers_at(question.at(per_month), prepared)))
        done += 1
        update(done, total)
    points = []
    for per_month in numbers:
        asked = question.at(per_month)
        chosen = offers_at(asked, prepared)
        best = cheapest(chosen)
        found = []
        for offer in chosen:
            near = len(numbers) == 1 or best is None or (offer.usd or 0.0) <= NEAR * (best.usd or 0.0)
            found.append(played(asked, prepared, offer) if near else offer)
            done += 1
            update(done, total)
        points.append((per_month, ordered(found)))
    notes = _notes(question, cheapest(points[0][1]))
    return Compared(question, points, curve, crossovers(question, prepared, curve), notes)


def _notes(question: Question, best: Offer | None) -> tuple[str, ...]:
    """What was cut, and what is not in the numbers of the cheapest."""
    found, spec, beyond = [], question.spec, question.traffic.beyond()
    if beyond > 0:
        longer = f"{beyond:.0%} of the requests are longer than the {spec.context_tokens:,} tokens"
        found.append(f"{longer} that {spec.name} reads, and are cut there.")
    if question.traffic.unwritten:
        found.append(f"{spec.name} writes no tokens: those that the traffic has out are left out.")
    if spec.precision in ("int8", "int4"):
        found.append(f"What {spec.precision} does to the model's answers is not in the numbers.")
    if best is not None and best.spares:
        found.append(
            f"AWS may take tasks of {best.contender} back: a spare and their successors are in the bill; that all "
            f"are taken at once, and there are no others for hours, is not."
        )
    if best is not None and best.count == 1 and not best.spares:
        found.append("One machine has no spare: if it fails, nothing is served until another has started.")
    if question.traffic.bursts is not None or question.traffic.trace is not None:
        found.append("The closed form takes arrivals to be Poisson; what is played is as bursty as the traffic.")
    return tuple(found)


def crossovers(
    question: Question, prepared: Prepared, curve: Sequence[tuple[float, list[Offer]]]
) -> list[Crossover]:
    """Where the cheapest changes along the curve: between two of its points by bisection."""
    found = []
    for (low, before), (high, after) in pairwise(curve):
        a, b = cheapest(before), cheapest(after)
        if a is None or b is None or a.contender == b.contender:
            continue
        pair = Prepared(
            {name: prepared.contenders[name] for name in (a.contender, b.contender)}, prepared.deployed
        )
        for _ in range(8):
            middle = math.sqrt(low * high)
            best = cheapest(offers_at(question.at(middle), pair))
            low, high = (middle, high) if best is not None and best.contender == a.contender else (low, middle)
        found.append(Crossover(a.contender, b.contender, math.sqrt(low * high)))
    return found
