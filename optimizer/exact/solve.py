"""The certified optimum of the deployment problem, and its whole cost-latency front.

The problem separates: experts meet only in their layer's latency (`layer_fronts`), layers only in the latency
limit (`knapsack`). Under one limit most minibatch sizes need only a bound (`lagrangian`, `layer_ranges`). Source:
this project; the problem is (12) of Liu, Wang, Wu, INFOCOM 2025.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from moe.errors import InputError
from optimizer.evaluation import ROUNDING, Solution, evaluate, fixed_cost, fixed_latency_s, latency_budget_s
from optimizer.exact.knapsack import Front, cheapest, fastest, merged, relax, undominated
from optimizer.exact.lagrangian import NEAR, cheapest_within
from optimizer.exact.layer_fronts import LayerFront, LayerOptions, alike_layers, listed_options
from optimizer.exact.layer_plan import layer_plan
from optimizer.exact.one_minibatch import cheapest_global_beta
from optimizer.exact.whole_bill import cheapest_setting, each_setting, settings_of
from optimizer.exact.whole_fronts import whole_front
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, LayerPlan

Beta: TypeAlias = Literal["per-layer", "global"]

PREFERRED: tuple[Communication, ...] = ("storage", "direct", "pipelined")
"""Of methods that come to the same, the first is taken."""


class Infeasible(InputError):
    """No plan meets the latency limit.

    Attributes:
        least_latency_s: the least latency of any plan, s.
    """

    def __init__(self, latency_limit_s: float, least_latency_s: float) -> None:
        super().__init__(
            f"latency_limit_s: {latency_limit_s:g} s is out of reach, the least achievable latency is "
            f"{least_latency_s:.6g} s"
        )
        self.least_latency_s = least_latency_s


@dataclass(frozen=True)
class ModelFronts:
    """The exact fronts of all layers, whatever the latency limit: make once, solve for many limits.

    Attributes:
        methods: communication methods that each layer chooses from.
        options: of each layer; alike layers share theirs.
        by_method: of each layer, the front with each method; alike layers share theirs.
        fronts: of each layer, over all methods.
    """

    methods: tuple[tuple[Communication, ...], ...]
    options: tuple[LayerOptions, ...]
    by_method: tuple[dict[Communication, LayerFront], ...]
    fronts: tuple[LayerFront, ...]

    def restricted(self, methods: Sequence[tuple[Communication, ...]]) -> "ModelFronts":
        """The same with these methods of each layer only; with all where a layer can use none of them."""
        usable, fronts = [], []
        for found, wanted in zip(self.by_method, methods, strict=True):
            kept = wanted if any(len(found[method]) for method in wanted) else tuple(found)
            usable.append(kept)
            fronts.append(LayerFront.joined([found[method] for method in kept]))
        return ModelFronts(tuple(usable), self.options, self.by_method, tuple(fronts))

    def bound(self, problem: DeploymentProblem) -> float | None:
        """The optimum under the problem's limit, in the objective's unit: what no plan with these methods, and
        per-layer beta or global, goes below; None where the limit is out of reach."""
        found = cheapest([x.pair() for x in self.fronts], latency_budget_s(problem))
        return None if found is None else found.cost + fixed_cost(problem)


def model_fronts(problem: DeploymentProblem, methods: Sequence[Communication] = PREFERRED) -> ModelFronts:
    """The exact fronts of a problem's layers.

    Args:
        problem: its latency limit is not looked at.
        methods: communication methods to choose from.

    Raises InputError where an expert fits no memory size.
    """
    first_like = alike_layers(problem)
    options = listed_options(problem)
    by_method = {
        e: {method: whole_front(x, method).with_gate(x.gate) for method in methods} for e, x in options.items()
    }
    fronts = {e: LayerFront.joined(list(found.values())) for e, found in by_method.items()}
    return ModelFronts(
        methods=(tuple(methods),) * len(first_like),
        options=tuple(options[e] for e in first_like),
        by_method=tuple(by_method[e] for e in first_like),
        fronts=tuple(fronts[e] for e in first_like),
    )


def solve_exact(
    problem: DeploymentProblem, beta: Beta = "per-layer", fronts: ModelFronts | None = None, gap: float = 0.0
) -> Solution:
    """The cheapest layers' plans within the latency limit, with their certificate: a lower bound on every plan's
    objective. With the objective `total` also the memory of the non-MoE functions and `reload` (`whole_bill`).

    Args:
        problem: the problem.
        beta: a minibatch size for each layer, or one for all layers that are `pipelined` (the paper).
        fronts: of this problem under whatever limit, to solve for many limits; without them only those labels
            are made that this limit asks for.
        gap: how far the plan may be from its bound, as a share of its objective; 0: the optimum.

    Raises Infeasible when no plan meets the limit, InputError where an expert fits no memory size or the gap is
    no share.
    """
    if not 0 <= gap < 1:
        raise InputError(f"gap: expected a share from 0 to below 1, got {gap}")
    if fronts is not None:
        layers, latency = cheapest_layers(problem, fronts, beta)
        return _certified(problem, Solution(layers), latency + fixed_latency_s(problem), None, gap)
    if beta == "global":
        return each_setting(problem, PREFERRED, lambda settled: _with_one_beta(settled, gap))
    best = cheapest_setting(problem, PREFERRED, gap)
    found = best.setting.settled(Solution(best.found.plans()), None)
    return _certified(problem, found, best.latency_s, float(best.bounds.min()), gap)


def _with_one_beta(problem: DeploymentProblem, gap: float) -> Solution:
    """The cheapest layers' plans whose pipelined layers share a minibatch size."""
    budget, methods = latency_budget_s(problem), (PREFERRED,) * len(problem.layers)
    price = cheapest_within(problem, PREFERRED, budget, NEAR).price
    layers, latency, bound = cheapest_global_beta(problem, methods, budget, price, gap)
    return _certified(
        problem, Solution(layers), latency + fixed_latency_s(problem), bound + fixed_cost(problem), gap
    )


def _certified(
    problem: DeploymentProblem, found: Solution, latency_s: float, bound: float | None, gap: float
) -> Solution:
    """A solution with its bound: its own value, where it is the optimum. Raises Infeasible where it is late."""
    limit_s = problem.latency_limit_s
    if limit_s is not None and latency_s > limit_s * (1 + ROUNDING):
        raise Infeasible(limit_s, latency_s)
    plan = DeploymentPlan(
        solver="exact", layers=found.layers, non_moe_memory_mb=found.non_moe_memory_mb, reload=found.reload
    )
    value = evaluate(problem, plan).objective_value
    return replace(found, lower_bound=value if bound is None or gap == 0 else min(bound, value))


def front(problem: DeploymentProblem, tolerance: float = 0.0) -> Front:
    """The cost-latency curve of the whole model, over all latency limits at once (per-layer beta).

    Args:
        problem: its latency limit is not looked at.
        tolerance: 0 for the exact front; else points may cost that share more than the exact ones.

    Returns:
        cost in the objective's unit (points,) falling, and latency in s (points,) rising.

    Raises InputError where an expert fits no memory size, and for a tolerance below 0.

    >>> import serverless_moe as smoe
    >>> spec, tokens = smoe.load_spec("bert-moe"), [[5120, 2560, 1536, 1024]] * 12
    >>> problem = smoe.make_problem(spec, tokens, smoe.load_profile(), latency_limit_s=60)
    >>> cost, latency_s = smoe.front(problem, tolerance=0.01)
    >>> cost.shape == latency_s.shape, bool(cost[0] > cost[-1]), bool(latency_s[0] < latency_s[-1])
    (True, True, True)
    """
    if not 0 <= tolerance < np.inf:
        raise InputError(f"tolerance: expected a share of the cost, at least 0, got {tolerance}")
    costs, latencies = [], []
    for settled in (x.problem for x in settings_of(problem)):
        cost, latency = merged([x.pair() for x in model_fronts(settled).fronts], tolerance)
        costs.append(cost + fixed_cost(settled))
        latencies.append(latency + fixed_latency_s(settled))
    every, when = np.concatenate(costs), np.concatenate(latencies)
    kept = undominated(every, when)
    return every[kept], when[kept]


def least_latency_s(problem: DeploymentProblem) -> float:
    """The least latency of any plan (per-layer beta), s. Raises InputError where an expert fits no memory size."""
    return cheapest_setting(problem.with_limit(1e-30), PREFERRED).latency_s  # out of reach of any


def cheapest_layers(
    problem: DeploymentProblem, fronts: ModelFronts, beta: Beta
) -> tuple[tuple[LayerPlan, ...], float]:
    """The cheapest layers' plans within the latency limit, and the sum of their latencies in s; where
    none meets the limit, the cheapest of the fastest plans."""
    pairs = [x.pair() for x in fronts.fronts]
    budget = latency_budget_s(problem)
    found = cheapest(pairs, budget)
    if beta == "global" and any("pipelined" in usable for usable in fronts.methods):
        price = relax(pairs, budget).price if found is not None else 0.0
        return cheapest_global_beta(problem, fronts.methods, budget, price)[:2]
    found = found or fastest(pairs)
    layers = [layer_plan(x, y, k) for x, y, k in zip(fronts.options, fronts.fronts, found.labels, strict=True)]
    return tuple(layers), found.latency_s
