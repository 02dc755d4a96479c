"""What robust plans are worth on batches that no sample saw: their bills and how many are late."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe.errors import InputError
from moe.spec import MoESpec
from moe.trace import RoutingTrace, resampled
from optimizer.evaluation import ROUNDING, fixed_latency_s
from optimizer.exact import model_fronts
from optimizer.exact.knapsack import fastest
from optimizer.popularity import Predictor, predictor
from optimizer.problem import make_problem
from optimizer.realised import realise
from optimizer.robust import Criterion, bootstrap, plan_robustly
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem, Objective
from simulator.profiles.schema import PlatformProfile

CRITERIA = (Criterion(), Criterion(limit_share=0.95), Criterion("quantile", 0.9, 0.95))
SAMPLES = 30
BATCHES = 40
TIGHTNESS = 0.2
"""Where the limit lies between the least latency and that of the cheapest plan."""


@dataclass(frozen=True)
class RobustRow:
    """One plan on the unseen batches; costs in the objective's unit.

    Attributes:
        objective, plan: `gb_s` or `usd`; what planned.
        unseen_cost: mean bill. unseen_latency_s: mean. unseen_late: share of batches over the limit.
        latency_limit_s: of the plan.
        sample_cost, lower_bound: on the samples, what was minimised and its bound; None for the exact plan.
        cpu_s: to plan, samples not included.
    """

    objective: str
    plan: str
    latency_limit_s: float
    unseen_cost: float
    unseen_latency_s: float
    unseen_late: float
    sample_cost: float | None
    lower_bound: float | None
    cpu_s: float


@dataclass(frozen=True)
class RobustStudy:
    """The rows, and how far samples and prediction are from what comes.

    Attributes:
        spread: standard deviation of an expert's tokens over the samples, as a share of the mean load.
        prediction_error: mean |predicted - real| on the unseen batches, as a share of the mean load.
        rows: by objective, the exact plan first.
    """

    spread: float
    prediction_error: float
    rows: tuple[RobustRow, ...]


def study_robust(
    profiled: RoutingTrace, served: RoutingTrace, spec: MoESpec, profile: PlatformProfile, seed: int = 0
) -> RobustStudy:
    """Plan for the first half of the served tokens from samples of their popularity; judge on the second half.

    The unseen batches are bootstrap samples of the second half's sequences. Where the model has more layers than
    were recorded, each recorded layer stands for several.

    Args:
        profiled: what the predictor (`bayes`) learns from.
        served: other tokens.
        spec, profile: of the problem.
        seed: of samples and batches.

    Raises InputError where experts or top-k of traces and model differ.
    """
    known = (spec.experts, spec.top_k)
    for name, trace in (("profiled", profiled), ("serve", served)):
        if (trace.num_experts, trace.top_k) != known:
            raise InputError(f"{name}: expected {known} experts and top-k, got {(trace.num_experts, trace.top_k)}")
    layers = [e * profiled.layers // spec.moe_layers for e in range(spec.moe_layers)]
    profiled, served = profiled.with_layers(layers), served.with_layers(layers)
    middle = int(np.searchsorted(served.sequence, served.sequence[served.tokens // 2]))
    planned, unseen = served.slice(0, middle), served.slice(middle, served.tokens)
    samples = bootstrap(_bayes, profiled, planned, SAMPLES, seed)
    predicted = _bayes().fit(profiled).predict(planned.token_id, planned)
    rngs = np.random.default_rng(seed + 1).spawn(BATCHES)
    batches = np.array([resampled(unseen, rng).popularity() * (planned.tokens / unseen.tokens) for rng in rngs])
    rows: list[RobustRow] = []
    objectives: tuple[Objective, ...] = ("gb_s", "usd")
    for objective in objectives:
        problem = _limited(make_problem(spec, predicted, profile, objective=objective))
        rows += _rows(problem, samples, batches)
    return RobustStudy(
        spread=float(samples.std(axis=0).mean() / samples.mean()),
        prediction_error=float(np.abs(predicted - batches).mean() / batches.mean()),
        rows=tuple(rows),
    )


def _bayes() -> Predictor:
    return predictor("bayes", counting="expected")


def _limited(problem: DeploymentProblem) -> DeploymentProblem:
    fronts = model_fronts(problem)
    least = fastest([front.pair() for front in fronts.fronts]).latency_s + fixed_latency_s(problem)
    free = solve(problem, "exact", fronts=fronts).latency_s or least
    return problem.with_limit(least + TIGHTNESS * (free - least))


def _rows(problem: DeploymentProblem, samples: np.ndarray, batches: np.ndarray) -> list[RobustRow]:
    began = time.process_time()
    exact = solve(problem, "exact")
    rows = [_row(problem, "exact, for the prediction", exact, batches, time.process_time() - began)]
    for criterion in CRITERIA:
        began = time.process_time()
        found = plan_robustly(problem, samples, criterion)
        seconds = time.process_time() - began
        name = "mean bill" if criterion.risk == "mean" else f"{criterion.quantile:.0%} quantile of the bill"
        share = criterion.limit_share
        name += ", mean latency" if share is None else f", {share:.0%} of the samples in time"
        plan = DeploymentPlan(solver="robust", layers=found.layers)
        rows.append(_row(problem, name, plan, batches, seconds, (found.cost, found.cost_bound)))
    return rows


def _row(
    problem: DeploymentProblem,
    name: str,
    plan: DeploymentPlan,
    batches: np.ndarray,
    seconds: float,
    on_samples: tuple[float | None, float | None] = (None, None),
) -> RobustRow:
    limit = problem.latency_limit_s or np.inf
    real = [realise(problem, plan, tokens) for tokens in batches]
    latencies = np.array([x.latency_s for x in real])
    return RobustRow(
        objective=problem.objective,
        plan=name,
        latency_limit_s=limit,
        unseen_cost=float(np.mean([x.cost(problem) for x in real])),
        unseen_latency_s=float(latencies.mean()),
        unseen_late=float(np.mean(latencies > limit * (1 + ROUNDING))),
        sample_cost=on_samples[0],
        lower_bound=on_samples[1],
        cpu_s=seconds,
    )


def markdown(rows: Sequence[RobustRow]) -> str:
    """One table."""
    lines = [
        "| objective | plan | unseen bill | latency, s (limit) | late | on the samples | bound | CPU s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        samples = "" if row.sample_cost is None else f"{row.sample_cost:.6g}"
        bound = "" if row.lower_bound is None else f"{row.lower_bound:.6g}"
        lines.append(
            f"| {row.objective} | {row.plan} | {row.unseen_cost:.6g} | {row.unseen_latency_s:.2f} "
            f"({row.latency_limit_s:.2f}) | {row.unseen_late:.0%} | {samples} | {bound} | {row.cpu_s:.1f} |"
        )
    return "\n".join(lines)
