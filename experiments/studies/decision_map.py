"""The decision map: where Lambda, a CPU cluster or provisioned concurrency is cheapest, and how sure that is.

In each cell a plan is made for the profile as it stands; the bills are then those of the platform that it turns
out to be: draws of the uncertain constants, the same ones in every cell (paired), more of them where it is close.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.studies.decision_map_file import ON_CONSTANT, DecisionMap
from experiments.studies.headline import S3_BANDWIDTH
from experiments.studies.worth_of_knowing import worth_of_knowing
from experiments.tools.kept import Store, Update, unseen
from moe.files import FileModel
from moe.routing.synthetic import zipf
from moe.spec import MoESpec, load_spec
from moe.statistics import wilson
from optimizer.problem import make_problem
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem, non_moe_memory_mb
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.uncertainty import Factors, drawn_factors
from simulator.profiles.walk import multiplied, with_constant
from simulator.serving.cluster import SECONDS_PER_HOUR, run_on_cluster
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.settled import served_so
from simulator.serving.simulate import simulate

CHOICES = ("lambda", "provisioned", "cluster")


@dataclass(frozen=True)
class Cell:
    """One cell of the map; USD per million tokens, everything included.

    Attributes:
        x, y: its values. winner: cheapest on average. probability: of each choice to be cheapest.
        low, high: 95% interval (Wilson) of the winner's probability. usd: mean bill of each choice.
        draws: that it took. latency_s: mean, of Lambda; cluster_latency_s: of the cluster.
    """

    x: float
    y: float
    winner: str
    probability: dict[str, float]
    low: float
    high: float
    usd: dict[str, float]
    draws: int
    latency_s: float
    cluster_latency_s: float


@dataclass(frozen=True)
class Found:
    """The map.

    Attributes:
        cells: by rows of y. worth: of each uncertain constant, how much knowing it would save, USD per million
            tokens, mean over the cells (partial perfect information); the first is what to measure next.
        everything: what knowing all of them would save. measured: constants with the interval of a fit.
    """

    cells: list[Cell]
    worth: dict[str, float]
    everything: float
    measured: list[str]


@dataclass(frozen=True)
class _Place:
    """A cell before its draws: what is deployed there."""

    x: float
    y: float
    profile: PlatformProfile
    tokens: np.ndarray
    batch_tokens: float
    batches_per_hour: float
    plan: DeploymentPlan


class MapCell(FileModel):
    """A cell to compute: where it is on which map."""

    asked: DecisionMap
    x: float
    y: float


def make_map(asked: DecisionMap, store: Store, update: Update = unseen) -> Found:
    """Evaluate every cell that the store has not.

    Args:
        asked: what is mapped. store: of its cells. update: told (cells done, cells, cells per second).

    Raises InputError for names that do not exist.
    """
    _, _, sure = _given(asked.model_dump_json(by_alias=True))
    places = [MapCell(asked=asked, x=float(x), y=float(y)) for y in asked.y.values() for x in asked.x.values()]
    found = store.values("map", map_cell, places, update)
    mean = np.mean([each["worth"] for each in found], axis=0)
    order = np.argsort(-mean)
    return Found(
        [Cell(**each["cell"]) for each in found],
        {sure.names[k]: float(mean[k]) for k in order},
        float(np.mean([each["everything"] for each in found])),
        [name for name, known in zip(sure.names, sure.measured, strict=True) if known],
    )


@functools.lru_cache(maxsize=1)
def _given(asked: str) -> tuple[MoESpec, PlatformProfile, Factors]:
    """The model, the platform, and the draws of it, which all cells of a map (as JSON) share."""
    read = DecisionMap.model_validate_json(asked)
    profile = load_profile(read.profile)
    fixed = [ON_CONSTANT[a] for a in (read.x.axis, read.y.axis) if a in ON_CONSTANT]
    return load_spec(read.spec), profile, drawn_factors(profile, read.draws.most, read.seed, read.spread, fixed)


def map_cell(at: MapCell) -> dict[str, Any]:
    """One cell, and what knowing each constant, and everything, would save there."""
    asked, x, y = at.asked, at.x, at.y
    spec, profile, sure = _given(asked.model_dump_json(by_alias=True))
    place = _place(asked, spec, profile, x, y)
    usd, latencies = np.empty((0, len(CHOICES))), np.empty((0, 2))
    while True:
        first, last = len(usd), min(max(asked.draws.least, 2 * len(usd)), asked.draws.most)
        made = [_bills(asked, spec, place, sure, draw) for draw in range(first, last)]
        usd = np.vstack([usd, [bills for bills, _ in made]])
        latencies = np.vstack([latencies, [latency for _, latency in made]])
        winner = int(usd.mean(axis=0).argmin())
        wins = int((usd.argmin(axis=1) == winner).sum())
        low, high = wilson(wins, len(usd))
        if last == asked.draws.most or high - low <= 2 * asked.draws.half_width or low > 0.5 or high < 0.5:
            break
    shares = np.bincount(usd.argmin(axis=1), minlength=len(CHOICES)) / len(usd)
    cell = Cell(
        x=x,
        y=y,
        winner=CHOICES[winner],
        probability=dict(zip(CHOICES, shares.tolist(), strict=True)),
        low=low,
        high=high,
        usd=dict(zip(CHOICES, usd.mean(axis=0).tolist(), strict=True)),
        draws=len(usd),
        latency_s=float(latencies[:, 0].mean()),
        cluster_latency_s=float(latencies[:, 1].mean()),
    )
    known = float(usd.mean(axis=0).min() - usd.min(axis=1).mean())
    worth = worth_of_knowing(np.log(sure.factors[: len(usd)]), usd)
    return {"cell": asdict(cell), "worth": worth.tolist(), "everything": known}


def _place(asked: DecisionMap, spec: MoESpec, profile: PlatformProfile, x: float, y: float) -> _Place:
    """What is deployed in a cell: the plan with the least total bill by the profile as it stands."""
    at = {"batch_tokens": asked.batch_tokens, "batches_per_hour": asked.batches_per_hour, "skew": asked.skew}
    for axis, value in ((asked.x.axis, x), (asked.y.axis, y)):
        if axis in at:
            at[axis] = value
        elif axis == "s3_bandwidth":
            profile = multiplied(profile, S3_BANDWIDTH, value)
        else:
            profile = with_constant(profile, ON_CONSTANT[axis], value)
    popularity = zipf(spec.moe_layers, spec.experts, at["skew"], np.random.default_rng(asked.seed))
    tokens = at["batch_tokens"] * spec.top_k * popularity
    problem = _problem(asked, spec, tokens, profile)
    plan = solve(problem, "exact")
    return _Place(x, y, profile, tokens, at["batch_tokens"], at["batches_per_hour"], plan)


def _problem(asked: DecisionMap, spec: MoESpec, tokens: np.ndarray, profile: PlatformProfile) -> DeploymentProblem:
    options: dict[str, Any] = {} if asked.memory_mb is None else {"memory_mb": asked.memory_mb}
    made = make_problem(spec, tokens, profile, objective="total", max_replicas=asked.max_replicas, **options)
    return served_so(made, None, asked.reload)


def _bills(
    asked: DecisionMap, spec: MoESpec, place: _Place, sure: Factors, draw: int
) -> tuple[list[float], tuple[float, float]]:
    """USD per million tokens of each choice on one draw of the platform, and both latencies, s."""
    profile = sure.applied(place.profile, draw)
    problem = _problem(asked, spec, place.tokens, profile)
    run = simulate(problem, place.plan, profile, serving=JUST_IN_TIME, seed=asked.seed)
    rows, spent = run.records, run.bill
    cold, gb = _cold_and_size(profile, problem, place)
    requests = spent.total_cost_usd - sum(row.compute_cost_usd for row in rows)
    gb_s = sum(row.billed_gb_s for row in rows)
    prices, cluster = profile.prices, run_on_cluster(spec, place.tokens, place.batch_tokens, profile)
    seconds = SECONDS_PER_HOUR / place.batches_per_hour
    each = {
        "lambda": spent.total_cost_usd + cold * prices.gb_s.median,
        "provisioned": requests
        + gb_s * prices.provisioned_duration_gb_s.median
        + gb * seconds * prices.provisioned_gb_s.median,
        "cluster": profile.cluster.price_per_hour.median
        / SECONDS_PER_HOUR
        * cluster.latency_s
        / profile.cluster.month_utilisation.median,
    }
    million = 1e6 / place.batch_tokens
    return [each[name] * million for name in CHOICES], (float(run.latency_s[-1]), cluster.latency_s)


def _cold_and_size(profile: PlatformProfile, problem: DeploymentProblem, place: _Place) -> tuple[float, float]:
    """GB-s of INIT that a batch pays on average, and GB of all instances.

    Batches come at random (Poisson), so that the instances of the last one are gone with probability
    exp(-keep-alive x rate); each then pays its INIT.
    """
    memory = [int(x.memory_mb) * x.replicas for layer in place.plan.layers for x in layer.experts]
    gates = (len(problem.layers) + 1) * (place.plan.non_moe_memory_mb or non_moe_memory_mb(problem, 0))
    gb = (sum(memory) + gates) / 1024
    gone = np.exp(-profile.start.keep_alive_s.median * place.batches_per_hour / SECONDS_PER_HOUR)
    init_s = profile.start.packages[profile.start.package].init_s.median
    return float(gone * init_s * gb), gb
