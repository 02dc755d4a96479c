"""The decision map: which contender is cheapest where, and how sure that is.

In each cell `cost`'s closed form sizes every contender; those near the cheapest are then sized on draws of the
uncertain constants, the same ones in every cell (paired), more of them where it is close.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from experiments.cost import functions
from experiments.cost.asked import contenders_of
from experiments.cost.compare import Prepared, offers_at
from experiments.cost.decision_map_file import DecisionMap
from experiments.cost.drawn import Drawn, draws_of, hourly, mattering, only
from experiments.cost.functions import Deployed
from experiments.cost.offer import Offer, ordered
from experiments.cost.question import Question
from experiments.cost.sure import at_most, near_of, usd_of
from experiments.studies.worth_of_knowing import worth_of_knowing
from experiments.tools.kept import Store, Update, unseen
from moe.errors import InputError
from moe.files import FileModel
from moe.spec import MoESpec, load_spec
from moe.statistics import wilson
from simulator.profiles.contenders import Contender, Lambda, Servers
from simulator.profiles.schema import DEFAULT_PROFILE, PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.servers.promise import read_promise, usual_promise
from simulator.traffic.requests import Traffic

SPEED = ("compute", "flops_per_vcpu")
NOBODY = "nobody"
AGAINST = 2.5  # over the cheapest: what is dearer is not drawn


@dataclass(frozen=True)
class Cell:
    """One cell of the map.

    Attributes:
        x, y: its values. winner: cheapest on average, or `nobody`. probability: of each contender to be cheapest.
        low, high: 95% interval (Wilson) of the winner's probability. usd: mean bill of a month, of those near.
        words: what the winner deploys by the constants as they stand. draws: that it took.
    """

    x: float
    y: float
    winner: str
    probability: dict[str, float]
    low: float
    high: float
    usd: dict[str, float]
    words: str
    draws: int


@dataclass(frozen=True)
class Found:
    """The map.

    Attributes:
        cells: by rows of y. worth: of each uncertain constant, the share of the cheapest bill that knowing it
            would save, mean over the cells (partial perfect information); the first is what to measure next.
        everything: what knowing all of them would save. machines: as `hourly`, over all cells.
    """

    cells: list[Cell]
    worth: dict[str, float]
    everything: float
    machines: dict[str, tuple[float, str]]


class MapCell(FileModel):
    """A cell to compute: where it is on which map."""

    asked: DecisionMap
    x: float
    y: float


def make_map(asked: DecisionMap, store: Store, update: Update = unseen) -> Found:
    """Evaluate every cell that the store has not.

    Args:
        asked: what is mapped. store: of its cells. update: told (cells done, cells, cells per second).

    Raises InputError for names that do not exist, and tokens that no model of the map reads.
    """
    given = _given(asked.model_dump_json(by_alias=True))
    cells = [MapCell(asked=asked, x=float(x), y=float(y)) for y in asked.y.values() for x in asked.x.values()]
    _check_context(asked, cells)
    found = store.values("map", map_cell, cells, update)
    mean = np.maximum(np.mean([each["worth"] for each in found], axis=0), 0.0)
    names = given.drawn.names
    rented = [(place, tuple(each)) for row in found for place, each in row["machines"].items()]
    return Found(
        [Cell(**each["cell"]) for each in found],
        {names[k]: float(mean[k]) for k in np.argsort(-mean, kind="stable")},
        float(np.mean([each["everything"] for each in found])),
        {place: min(each for at, each in rented if at == place) for place, _ in rented},
    )


@dataclass(frozen=True)
class _Given:
    """What all cells of a map share."""

    contenders: dict[str, Contender]
    profile: PlatformProfile
    drawn: Drawn


@functools.lru_cache(maxsize=1)
def _given(asked: str) -> _Given:
    """Of a map, as JSON."""
    read = DecisionMap.model_validate_json(asked)
    contenders, profile = contenders_of(read.contenders), load_profile(DEFAULT_PROFILE)
    specs = [_loaded(name, read.weights) for name in read.x.models or read.y.models or (read.model,)]
    fixed = [SPEED] if "flops_per_vcpu" in (read.x.axis, read.y.axis) else []
    return _Given(contenders, profile, draws_of(profile, contenders, specs, read.draws.most, read.seed, fixed))


@functools.lru_cache(maxsize=1024)
def _drawn(asked: str, name: str, draw: int) -> Contender:
    """A contender on one draw."""
    given = _given(asked)
    return given.drawn.contender(given.contenders[name], draw)


@functools.lru_cache(maxsize=512)
def _deployed(asked: str, place: tuple[tuple[str, float], ...], name: str, draw: int) -> list[Deployed] | str:
    """A Lambda contender at a place but for the number of requests; `draw`: -1 for the constants as they stand."""
    read, given = DecisionMap.model_validate_json(asked), _given(asked)
    question = _question(read, given, dict(place), draw)
    runs = given.contenders[name].runs
    assert isinstance(runs, Lambda)
    return functions.deployments(question, question.platform(runs))


def map_cell(at: MapCell) -> dict[str, Any]:
    """One cell, and what knowing each constant, and everything, would save there."""
    asked, key = at.asked, at.asked.model_dump_json(by_alias=True)
    given = _given(key)
    place: dict[str, float] = {asked.x.axis: at.x, asked.y.axis: at.y}
    offers = _offers(key, asked, place, given.contenders, -1)
    near = near_of(offers, AGAINST) if offers[0].serves else []
    if not near:
        nothing = Cell(at.x, at.y, NOBODY, {}, 0.0, 1.0, {}, "", 0)
        return {
            "cell": asdict(nothing),
            "worth": [0.0] * len(given.drawn.names),
            "everything": 0.0,
            "machines": {},
        }
    names, machines = [o.contender for o in near], {o.contender: o.machine for o in near}
    usd = np.empty((0, len(near)))
    while True:
        first, last = len(usd), min(max(asked.draws.least, 2 * len(usd)), asked.draws.most)
        more = []
        for draw in range(first, last):
            drawn = {name: only(_drawn(key, name, draw), machines[name]) for name in names}
            more.append(usd_of(_offers(key, asked, place, drawn, draw), names))
        usd = np.vstack([usd, np.array(more)])
        bills = at_most(usd)
        winner = int(bills.mean(axis=0).argmin())
        low, high = wilson(int((bills.argmin(axis=1) == winner).sum()), len(bills))
        if last == asked.draws.most or high - low <= 2 * asked.draws.half_width or low > 0.5 or high < 0.5:
            break
    shares = np.bincount(bills.argmin(axis=1), minlength=len(names)) / len(bills)
    mean = bills.mean(axis=0)
    cell = Cell(
        x=at.x,
        y=at.y,
        winner=names[winner],
        probability=dict(zip(names, shares.tolist(), strict=True)),
        low=low,
        high=high,
        usd=dict(zip(names, mean.tolist(), strict=True)),
        words=near[winner].words,
        draws=len(bills),
    )
    there = mattering(
        given.drawn, {name: only(given.contenders[name], machines[name]) for name in names}, _spec(asked, place)
    )
    worth = np.zeros(len(there))
    worth[there] = worth_of_knowing(given.drawn.logs[: len(bills), there], bills) / mean.min()
    everything = float(mean.min() - bills.min(axis=1).mean()) / mean.min()
    return {"cell": asdict(cell), "worth": worth.tolist(), "everything": everything, "machines": hourly(near)}


def _offers(
    key: str, asked: DecisionMap, place: dict[str, float], contenders: dict[str, Contender], draw: int
) -> list[Offer]:
    """What contenders offer in a cell, cheapest first."""
    given = _given(key)
    question = _question(asked, given, place, draw)
    same = tuple(sorted((axis, value) for axis, value in place.items() if axis != "requests_per_month"))
    deployed = {
        name: _deployed(key, same, name, draw) for name, c in contenders.items() if isinstance(c.runs, Lambda)
    }
    if "flops_per_vcpu" in place:
        ratio = place["flops_per_vcpu"] / given.profile.compute.flops_per_vcpu.median
        contenders = {name: _faster(each, ratio) for name, each in contenders.items()}
    found = offers_at(question, Prepared(contenders, deployed))
    if "utilisation" in place:
        found = ordered([_shared(each, place["utilisation"]) for each in found])
    return found


def _question(asked: DecisionMap, given: _Given, place: dict[str, float], draw: int) -> Question:
    """What `cost` is asked in a cell, on a draw of the platform."""
    spec = _spec(asked, place)
    profile = given.profile if draw < 0 else given.drawn.platform.applied(given.profile, draw)
    if "flops_per_vcpu" in place:
        profile = with_constant(profile, SPEED, place["flops_per_vcpu"])
    traffic = Traffic(
        "poisson",
        place.get("requests_per_month", asked.requests_per_month),
        place.get("tokens_in", asked.tokens_in),
        asked.tokens_out if spec.generates else 0.0,
    )
    promise = usual_promise(spec.generates) if asked.slo is None else read_promise(asked.slo)
    return Question(spec, traffic, promise, asked.pay, profiles={DEFAULT_PROFILE: profile}, seed=asked.seed)


def _spec(asked: DecisionMap, place: dict[str, float]) -> MoESpec:
    models = asked.x.models or asked.y.models
    return _loaded(models[round(place["model"])] if "model" in place else asked.model, asked.weights)


@functools.lru_cache(maxsize=64)
def _loaded(model: str, weights: str | None) -> MoESpec:
    return load_spec(model, **({"weights": weights} if weights else {}))


def _check_context(asked: DecisionMap, cells: list[MapCell]) -> None:
    """Raise InputError for tokens that a model cannot read."""
    for at in cells:
        place: dict[str, float] = {asked.x.axis: at.x, asked.y.axis: at.y}
        spec, tokens = _spec(asked, place), place.get("tokens_in", asked.tokens_in)
        tokens += asked.tokens_out if spec.generates else 0.0
        if spec.context_tokens is not None and round(tokens) > spec.context_tokens:
            raise InputError(
                f"map: tokens_in: {tokens:,.0f} tokens are beyond the context of {spec.name}, "
                f"{spec.context_tokens:,}"
            )


def _faster(contender: Contender, ratio: float) -> Contender:
    """The contender with cores so many times as fast; GPUs stay what they are."""
    runs = contender.runs
    if not isinstance(runs, Servers) or contender.name.startswith("gpu"):
        return contender
    processors = {
        name: each.model_copy(update={key: getattr(each, key).scaled(ratio) for key in ("fp32", "bf16", "int8")})
        for name, each in runs.processors.items()
    }
    return contender.model_copy(update={"runs": runs.model_copy(update={"processors": processors})})


def _shared(offer: Offer, utilisation: float) -> Offer:
    """Of machines that other work keeps busy for that share of the time: what is idle is shared by all work."""
    if offer.parts is None or offer.machine is None:
        return offer
    idle = offer.parts.compute_usd * (1 / utilisation - 1)
    return replace(offer, parts=replace(offer.parts, idle_usd=idle, init_usd=0.0))
