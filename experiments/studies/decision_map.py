"""The decision map: where Lambda, a CPU cluster or provisioned concurrency is cheapest, and how sure that is.

In each cell a plan is made for the profile as it stands; the bills are then those of the platform that it turns
out to be: draws of the uncertain constants, the same ones in every cell (paired), more of them where it is close.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.studies.decision_map_file import ON_CONSTANT, DecisionMap
from experiments.studies.headline import S3_BANDWIDTH
from experiments.studies.whole_bill import cheapest_in_all
from experiments.studies.worth_of_knowing import worth_of_knowing
from moe.routing.synthetic import zipf
from moe.spec import MoESpec, load_spec
from moe.statistics import wilson
from optimizer.problem import make_problem
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.uncertainty import Factors, drawn_factors
from simulator.profiles.walk import constant_at, with_constant
from simulator.records import bill
from simulator.serving.cluster import SECONDS_PER_HOUR, run_on_cluster
from simulator.serving.layer import Serving
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
        everything: what knowing all of them would save. measured: constants with an interval of their own.
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


def make_map(
    asked: DecisionMap, workers: int, update: Callable[[int, int], None] = lambda done, total: None
) -> Found:
    """Evaluate every cell. `update` is told (cells done, cells). Raises InputError for names that do not exist."""
    from joblib import Parallel, delayed

    spec, profile = load_spec(asked.spec), load_profile(asked.profile)
    fixed = [ON_CONSTANT[a] for a in (asked.x.axis, asked.y.axis) if a in ON_CONSTANT]
    sure = drawn_factors(profile, asked.draws.most, asked.seed, asked.spread, fixed)
    places = [(float(x), float(y)) for y in asked.y.values() for x in asked.x.values()]
    cells: list[Cell] = []
    worths: list[np.ndarray] = []
    everything: list[float] = []
    with Parallel(n_jobs=workers, return_as="generator") as parallel:
        results = parallel(delayed(_cell)(asked, spec, profile, sure, x, y) for x, y in places)
        for cell, worth, whole in results:
            cells.append(cell)
            worths.append(worth)
            everything.append(whole)
            update(len(cells), len(places))
    mean = np.mean(worths, axis=0)
    order = np.argsort(-mean)
    return Found(
        cells,
        {sure.names[k]: float(mean[k]) for k in order},
        float(np.mean(everything)),
        [name for name, known in zip(sure.names, sure.measured, strict=True) if known],
    )


def _cell(
    asked: DecisionMap, spec: MoESpec, profile: PlatformProfile, sure: Factors, x: float, y: float
) -> tuple[Cell, np.ndarray, float]:
    """One cell, and what knowing each constant, and all, would save there."""
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
    return cell, worth_of_knowing(np.log(sure.factors[: len(usd)]), usd), known


def _place(asked: DecisionMap, spec: MoESpec, profile: PlatformProfile, x: float, y: float) -> _Place:
    """What is deployed in a cell: the plan with the least total bill by the profile as it stands."""
    at = {"batch_tokens": asked.batch_tokens, "batches_per_hour": asked.batches_per_hour, "skew": asked.skew}
    for axis, value in ((asked.x.axis, x), (asked.y.axis, y)):
        if axis in at:
            at[axis] = value
        elif axis == "s3_bandwidth":
            for path in S3_BANDWIDTH:
                profile = with_constant(profile, path, constant_at(profile, path).scaled(value))
        else:
            profile = with_constant(profile, ON_CONSTANT[axis], value)
    popularity = zipf(spec.moe_layers, spec.experts, at["skew"], np.random.default_rng(asked.seed))
    tokens = at["batch_tokens"] * spec.top_k * popularity
    problem = _problem(asked, spec, tokens, profile)
    plan = cheapest_in_all(problem)
    return _Place(x, y, profile, tokens, at["batch_tokens"], at["batches_per_hour"], plan)


def _problem(asked: DecisionMap, spec: MoESpec, tokens: np.ndarray, profile: PlatformProfile) -> DeploymentProblem:
    options: dict[str, Any] = {} if asked.memory_mb is None else {"memory_mb": asked.memory_mb}
    return make_problem(
        spec,
        tokens,
        profile,
        objective="usd",
        max_replicas=asked.max_replicas,
        non_moe_memory_mb=asked.non_moe_memory_mb,
        **options,
    )


def _bills(
    asked: DecisionMap, spec: MoESpec, place: _Place, sure: Factors, draw: int
) -> tuple[list[float], tuple[float, float]]:
    """USD per million tokens of each choice on one draw of the platform, and both latencies, s."""
    profile = sure.applied(place.profile, draw)
    problem = _problem(asked, spec, place.tokens, profile)
    runs = 2 if asked.reload == "when-cold" else 1
    serving = Serving(start="just-in-time", reload=asked.reload)
    run = simulate(problem, place.plan, profile, serving=serving, runs=runs, seed=asked.seed)
    rows = [row for row in run.records if row.batch == runs - 1]
    cold, gb = _cold_and_size(profile, problem, place)
    spent = bill(rows)
    requests = spent.total_cost_usd - sum(row.compute_cost_usd for row in rows)
    gb_s = sum(row.billed_gb_s for row in rows)
    prices, cluster = profile.prices, run_on_cluster(spec, place.tokens, place.batch_tokens, profile.cluster)
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
    gates = (len(problem.layers) + 1) * max(problem.layers[0].non_moe_memory_mb or 0, 0)
    gb = (sum(memory) + gates) / 1024
    gone = np.exp(-profile.start.keep_alive_s.median * place.batches_per_hour / SECONDS_PER_HOUR)
    init_s = profile.start.packages[profile.start.package].init_s.median
    return float(gone * init_s * gb), gb
