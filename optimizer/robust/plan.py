"""Robust planning: popularity as samples instead of one number.

What is minimised is the mean, or a quantile, of the bills that a plan comes to on the samples, each with its
overflow penalties (`optimizer.realised`: a replica that meets more tokens than fit runs as the least number
that fit). Sample average approximation over candidates: the exact plans for samples, for their mean, maximum and
quantiles, each under a few tightened limits. Layers are then recombined: exactly for the mean, by improving one
layer at a time for a quantile.

A plan that cannot serve a sample, or needs more than `max_replicas` replicas of an expert on one, is not taken.
One that overflows on some samples may be the best; on the problem's own popularity it may break a constraint, and
then says so.

Source: this project; the overflow rule is that of Liu, Wang, Wu, INFOCOM 2025, Alg. 2, feedback cases.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from moe.errors import InputError, nearest, shortened
from optimizer.evaluation import ROUNDING, Solution, fixed_latency_s, latency_budget_s
from optimizer.exact import Beta, cheapest_layers, model_fronts
from optimizer.exact.knapsack import cheapest, fastest, undominated
from optimizer.problem import with_tokens
from optimizer.realised import BilledOverflow
from optimizer.robust.lower_bound import mean_bound, sample_bounds
from optimizer.robust.outcomes import Outcomes
from simulator.plan import DeploymentProblem, LayerPlan

Risk: TypeAlias = Literal["mean", "quantile"]

SAMPLE_PLANS = 12
"""Of so many samples the own plans are candidates."""
QUANTILES = (0.5, 0.75, 0.9, 1.0)
"""Of each expert's tokens over the samples; a plan for each is a candidate."""
TIGHTER = (1.0, 0.97, 0.93, 0.88, 0.8)
"""Shares of what the limit leaves to the layers, under which each candidate is planned."""
STARTS = 4
"""Of the best whole candidates so many are improved layer by layer."""


@dataclass(frozen=True)
class Criterion:
    """What is minimised, and when a plan keeps the limit.

    Attributes:
        risk: `mean` of the samples' bills, or the `quantile` of them.
        quantile: which one; the least bill that this share of the samples does not exceed.
        limit_share: share of the samples whose latency must keep the limit; None: their mean must.
        overflow: `foreseen`: as many replicas as fit start at once; `retry`: first a call fails, and is billed.
    """

    risk: Risk = "mean"
    quantile: float = 0.9
    limit_share: float | None = None
    overflow: BilledOverflow = "foreseen"

    def __post_init__(self) -> None:
        for name, known in (("risk", get_args(Risk)), ("overflow", get_args(BilledOverflow))):
            value = getattr(self, name)
            if value not in known:
                raise InputError(
                    f"{name}: expected {' or '.join(known)}, got {shortened(value)}{nearest(value, known)}"
                )
        for name in ("quantile", "limit_share"):
            share = getattr(self, name)
            if share is not None and not 0 < share <= 1:
                raise InputError(f"{name}: expected more than 0 and at most 1, got {share:g}")

    def cost(self, bills: np.ndarray) -> np.ndarray:
        """The number that is minimised, of bills (..., samples)."""
        return bills.mean(axis=-1) if self.risk == "mean" else quantile_of(bills, self.quantile)

    def latency_s(self, latencies: np.ndarray) -> np.ndarray:
        """The number that the limit holds for, of latencies (..., samples)."""
        share = self.limit_share
        return latencies.mean(axis=-1) if share is None else quantile_of(latencies, share)

    @property
    def separable(self) -> bool:
        """Whether both are sums over the layers."""
        return self.risk == "mean" and self.limit_share is None


@dataclass(frozen=True, kw_only=True)
class RobustSolution(Solution):
    """A robust plan, and what it is worth. Costs are in the objective's unit.

    Attributes:
        cost: the criterion's number for it: mean or quantile of the bills on the samples.
        latency_s: mean, or quantile, of the latencies on the samples, as the limit asks.
        over_limit: share of the samples above the limit.
        cost_bound: no plan that keeps the limit costs less (`robust.lower_bound`); None where it is out of reach.
        mean_plan_cost, mean_plan_latency_s: of the exact plan for the mean popularity, which may miss the limit;
            infinite where it cannot serve a sample.
        samples: their number.
    """

    cost: float
    latency_s: float
    over_limit: float
    cost_bound: float | None
    mean_plan_cost: float
    mean_plan_latency_s: float
    samples: int

    @property
    def stochastic_gain(self) -> float:
        """Value of the stochastic solution: what planning on the mean popularity costs more. Below 0 the plan for
        the mean is cheaper, and misses the limit on the samples."""
        return self.mean_plan_cost - self.cost

    @property
    def perfect_information_at_most(self) -> float | None:
        """Expected value of perfect information, from above: what knowing each batch's popularity could save."""
        return None if self.cost_bound is None else self.cost - self.cost_bound


def quantile_of(values: np.ndarray, share: float) -> np.ndarray:
    """The least of the values (..., samples) that at least this share of them does not exceed."""
    k = math.ceil(share * values.shape[-1] - 1e-9) - 1
    return np.asarray(np.sort(values, axis=-1)[..., max(k, 0)])


def solve_robust(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    samples: np.ndarray | None = None,
    risk: Risk = "mean",
    quantile: float = 0.9,
    limit_share: float | None = None,
    overflow: BilledOverflow = "foreseen",
) -> Solution:
    """The plan of `plan_robustly`; without samples the cheapest (or fastest) for the problem's popularity."""
    if samples is None:
        return Solution(cheapest_layers(problem, model_fronts(problem), beta)[0])
    return plan_robustly(problem, samples, Criterion(risk, quantile, limit_share, overflow), beta)


def plan_robustly(
    problem: DeploymentProblem,
    samples: np.ndarray,
    criterion: Criterion | None = None,
    beta: Beta = "per-layer",
) -> RobustSolution:
    """The candidate of least mean (or quantile) bill whose latency keeps the limit, or the fastest candidate.

    Args:
        problem: sizes, platform, limit; its popularity is what the plan file's numbers are for.
        samples: popularity, shape (samples, layers, experts).
        criterion: the mean of bills and latencies by default.
        beta: with `global`, candidates are taken whole.

    Raises InputError for samples of another shape, and where no candidate can serve all samples.
    """
    criterion = criterion or Criterion()
    samples = _checked(problem, samples)
    candidates = _candidates(problem, samples, beta)
    outcomes = Outcomes.of(problem, candidates, samples, criterion.overflow)
    labels = _selected(problem, outcomes, criterion, recombine=beta == "per-layer")
    bills, latencies = outcomes.totals(labels)
    limit = problem.latency_limit_s or np.inf
    mean_bills, mean_latencies = outcomes.totals(outcomes.whole[0])
    if criterion.risk == "mean":
        bound = mean_bound(problem, samples, criterion.limit_share)
    else:
        bound = float(criterion.cost(sample_bounds(problem, samples)))
    return RobustSolution(
        layers=outcomes.plan(labels),
        cost=float(criterion.cost(bills)),
        latency_s=float(criterion.latency_s(latencies)),
        over_limit=float(np.mean(latencies > limit * (1 + ROUNDING))),
        cost_bound=bound,
        mean_plan_cost=float(criterion.cost(mean_bills)),
        mean_plan_latency_s=float(criterion.latency_s(mean_latencies)),
        samples=len(samples),
    )


def _candidates(problem: DeploymentProblem, samples: np.ndarray, beta: Beta) -> list[tuple[LayerPlan, ...]]:
    """Layers' plans for several popularities and limits; the first is that for the mean under the limit."""
    some = np.unique(np.linspace(0, len(samples) - 1, SAMPLE_PLANS).astype(int))
    levels = [samples.mean(axis=0), *np.quantile(samples, QUANTILES, axis=0), *samples[some]]
    # Overflow counts whole tokens: what holds d + G on g replicas holds each replica's share of d, rounded up.
    most = samples.max(axis=0)
    levels.append(np.where(most > 0, np.ceil(most) + problem.platform.max_replicas, 0.0))
    budget, fixed = latency_budget_s(problem), fixed_latency_s(problem)
    shares = TIGHTER if np.isfinite(budget) and budget > 0 else TIGHTER[:1]
    found: list[tuple[LayerPlan, ...]] = []
    for k in sorted(np.unique(levels, axis=0, return_index=True)[1]):
        level = with_tokens(problem, levels[k])
        try:
            fronts = model_fronts(level)
        except InputError:  # some expert's tokens fit nowhere
            if not found:
                raise
            continue
        for share in shares:
            limited = level.with_limit(None if np.isinf(budget) else fixed + share * budget)
            found.append(cheapest_layers(limited, fronts, beta)[0])
    return found


def _selected(problem: DeploymentProblem, outcomes: Outcomes, criterion: Criterion, recombine: bool) -> np.ndarray:
    """A label of each layer: the least cost within the limit, or the fastest."""
    served = [outcomes.served(e) for e in range(len(outcomes.layers))]
    if not all(map(len, served)):
        raise InputError("samples: no candidate can serve them all with max_replicas replicas of an expert")
    whole = outcomes.whole
    starts = whole[[all(k in part for k, part in zip(row, served, strict=True)) for row in whole]]
    if recombine:
        budget = latency_budget_s(problem)
        means = [_mean_selection(outcomes, served, share * budget) for share in TIGHTER]
        if criterion.separable:
            return means[0]
        starts = np.concatenate([starts, means])
    if not len(starts):
        raise InputError("samples: no plan can serve them all with max_replicas replicas of an expert")
    limit = problem.latency_limit_s or np.inf
    order = _by_rank(outcomes.totals(starts), criterion, limit)
    if not recombine:
        return np.asarray(starts[order[0]])
    improved = [_improved(outcomes, served, starts[k], criterion, limit) for k in order[:STARTS]]
    return np.asarray(improved[_by_rank(outcomes.totals(np.array(improved)), criterion, limit)[0]])


def _mean_selection(outcomes: Outcomes, served: list[np.ndarray], budget_s: float) -> np.ndarray:
    """The least mean bill whose mean latency is within the budget, or the fastest: exact over the candidates."""
    fronts, kept = [], []
    for cost, latency, k in zip(outcomes.cost, outcomes.latency_s, served, strict=True):
        mean_cost, mean_latency = cost[k].mean(axis=1), latency[k].mean(axis=1)
        best = undominated(mean_cost, mean_latency)
        fronts.append((mean_cost[best], mean_latency[best]))
        kept.append(k[best])
    found = cheapest(fronts, budget_s) or fastest(fronts)
    return np.array([k[label] for k, label in zip(kept, found.labels, strict=True)])


def _improved(
    outcomes: Outcomes, served: list[np.ndarray], labels: np.ndarray, criterion: Criterion, limit_s: float
) -> np.ndarray:
    """The plan after changing one layer at a time, as long as that helps."""
    labels = labels.copy()
    while True:
        before = labels.copy()
        for e, candidates in enumerate(served):
            options = np.repeat(labels[None], len(candidates) + 1, axis=0)
            options[1:, e] = candidates
            labels = options[_by_rank(outcomes.totals(options), criterion, limit_s)[0]]
        if (labels == before).all():
            return labels


def _by_rank(totals: tuple[np.ndarray, np.ndarray], criterion: Criterion, limit_s: float) -> np.ndarray:
    """Indices of plans from the best on: within the limit by cost, then by how far they miss it."""
    bills, latencies = totals
    over = np.maximum(criterion.latency_s(latencies) - limit_s * (1 + ROUNDING), 0.0)
    return np.lexsort((criterion.cost(bills), over))


def _checked(problem: DeploymentProblem, samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, float)
    shape = (len(problem.layers), len(problem.layers[0].experts))
    if samples.ndim != 3 or samples.shape[1:] != shape or not len(samples):
        raise InputError(
            f"samples: expected popularity of {shape[0]} layers x {shape[1]} experts for each, got "
            f"{' x '.join(map(str, samples.shape))}"
        )
    if not np.isfinite(samples).all() or (samples < 0).any():
        raise InputError("samples: expected a number of tokens >= 0 for every expert")
    return samples
