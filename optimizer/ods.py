"""ODS, optimal deployment selection: Alg. 1 of Liu, Wang, Wu, INFOCOM 2025.

Three problems, each with one communication method for all layers, are solved under the latency limit; then each
layer takes its cheapest method, and while the model is too slow the slowest layer gives its method up.

Settled here, where the paper leaves it open:

- A method that one layer cannot use (`direct`, payloads too large) is left out there only (`per-layer`): in
  that method's problem the layer takes the best of the other methods, its cost with the method is infinite.
  `paper` leaves the method out of all layers.
- Where a method meets the limit in no way, its layers' costs and latencies are those of the cheapest among its
  fastest plans, not infinite: in a mix the method may still be what makes one slow layer fast enough.
- Layers that are alike may swap their plans of a method: the fastest comes first.
- Step 4 takes the cheapest single method among those that meet the limit; only if none does, among all, and
  the plan says that it is infeasible.
- The inner solvers `scip` and `gurobi` (the paper's) have a time limit for each problem; where they find no plan
  in it, nor that there is none, the method's costs are infinite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias, get_args

import numpy as np

from moe.errors import InputError, nearest, shortened
from optimizer.evaluation import ROUNDING, Solution, evaluate_layer, fixed_cost, fixed_latency_s, latency_budget_s
from optimizer.exact import PREFERRED, Beta, ModelFronts, cheapest_layers, model_fronts
from optimizer.exact.lagrangian import Model, cheapest_of
from optimizer.exact.layer_fronts import LayerOptions, listed_options
from optimizer.miqcp import NoIncumbent, fixed_method_miqcp
from simulator.plan import (
    COMMUNICATIONS,
    Communication,
    DeploymentProblem,
    LayerPlan,
    ProblemLayer,
    objective_value,
)

Mode: TypeAlias = Literal["per-layer", "paper"]

Inner: TypeAlias = Literal["exact", "scip", "gurobi"]
"""What solves the problem with one method: step 1."""

PAPER_INNER_LIMIT_S = 60.0


@dataclass(frozen=True)
class OdsRound:
    """One round of Alg. 1: what the mix came to, and which layer then gave up which method (None: none)."""

    cost: float
    latency_s: float
    layer: int | None
    method: Communication | None


@dataclass(frozen=True, kw_only=True)
class OdsSolution(Solution):
    """What ODS found; its `lower_bound` is the optimum.

    Attributes:
        rounds: in order.
        single_method: step 4 was taken: no mix met the limit.
        paper_ratio: the paper's claim (Theorem 1) of how far from the optimum a plan can be,
            sum_e max_a c / sum_e min_a c. Not a certificate: the denominator is no lower bound.
    """

    rounds: tuple[OdsRound, ...]
    single_method: bool
    paper_ratio: float


def solve_ods(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    methods: Mode = "per-layer",
    inner: Inner = "exact",
    time_limit_s: float = PAPER_INNER_LIMIT_S,
    fronts: ModelFronts | None = None,
) -> OdsSolution:
    """Alg. 1 over a solver of the problem with its method fixed.

    Args:
        problem: the problem.
        beta: minibatch sizes, of each layer or one for the model.
        methods: what becomes of a method that one layer cannot use: `per-layer` or `paper`.
        inner: the solver of step 1: `exact`, or the programme (12) by `scip` or `gurobi`.
        time_limit_s: of `scip` and `gurobi`, for each method.
        fronts: of the problem's layers, where they are there already; for one limit none are needed.

    Raises InputError where an expert fits no memory size or the inner solver cannot be used, NoIncumbent where it
    finds a plan in time with no method.
    """
    if methods not in ("per-layer", "paper"):
        raise InputError(f"methods: expected 'per-layer' or 'paper', got {shortened(methods)}")
    if inner not in get_args(Inner):
        raise InputError(f"inner: no inner solver {shortened(inner)}{nearest(inner, get_args(Inner))}")
    if fronts is None and (inner != "exact" or beta == "global"):
        fronts = model_fronts(problem)
    options = listed_options(problem) if fronts is None else dict(enumerate(fronts.options))
    plans: dict[Communication, tuple[LayerPlan | None, ...]] = {}
    models: list[Model] = []
    for method in COMMUNICATIONS:
        if not any(x.can_use(method) for x in options.values()):
            plans[method] = (None,) * len(problem.layers)
        elif fronts is None:
            models.append(fixed_method_model(problem, method, options))
            plans[method] = fixed_method_within(problem, method, models[-1])
        elif inner == "exact":
            plans[method] = fixed_method_exact(problem, fronts, method, beta)
        else:
            plans[method] = fixed_method_miqcp(problem, fronts, method, beta, inner, time_limit_s)
    bound = optimum(problem, models) if fronts is None else fronts.bound(problem)
    plans = {method: _fastest_first(problem, layers) for method, layers in plans.items()}
    cost, latency = _layer_costs(problem, plans)
    if np.isinf(cost).all(axis=0).any():
        raise NoIncumbent(f"ods-{inner}", time_limit_s, None)
    if methods == "paper":
        cost[np.isinf(cost).any(axis=1)] = np.inf
    fixed = fixed_cost(problem), fixed_latency_s(problem)
    chosen, rounds, single = _select(cost, latency, latency_budget_s(problem), *fixed)
    layers = [plans[COMMUNICATIONS[a]][e] for e, a in enumerate(chosen)]
    least = float(cost.min(axis=0).sum())
    most = float(np.where(np.isfinite(cost), cost, 0.0).max(axis=0).sum())
    return OdsSolution(
        layers=tuple(x for x in layers if x is not None),
        lower_bound=bound,
        name=None if inner == "exact" else f"ods-{inner}",
        rounds=tuple(rounds),
        single_method=single,
        paper_ratio=most / least if least > 0 else 1.0,
    )


def fixed_method_model(
    problem: DeploymentProblem, method: Communication, options: Mapping[int, LayerOptions] | None = None
) -> Model:
    """The layers, to be searched with one method; a layer that cannot use it has the others."""
    return Model(problem, (method,), PREFERRED, options)


def fixed_method_within(
    problem: DeploymentProblem, method: Communication, model: Model
) -> tuple[LayerPlan | None, ...]:
    """The same as `fixed_method_exact`, without whole fronts: for one limit, per-layer beta; searches `model`."""
    found = cheapest_of(model, latency_budget_s(problem))
    usable = [options.can_use(method) for options in found.options]
    return tuple(layer if can else None for layer, can in zip(found.plans(), usable, strict=True))


def optimum(problem: DeploymentProblem, models: Sequence[Model]) -> float | None:
    """The least objective of any plan within the limit (per-layer beta), from where the searches with each method
    have come; None where it is out of reach."""
    found = cheapest_of(Model.joined(problem, models), latency_budget_s(problem))
    return found.bound + fixed_cost(problem) if np.isfinite(found.bound) else None


def fixed_method_exact(
    problem: DeploymentProblem, fronts: ModelFronts, method: Communication, beta: Beta = "per-layer"
) -> tuple[LayerPlan | None, ...]:
    """The cheapest plan within the limit with one method for all layers that can use it; where none meets the
    limit, the cheapest of the fastest. None for the layers that cannot (they took the best of the others)."""
    only = fronts.restricted([(method,)] * len(problem.layers))
    layers, _ = cheapest_layers(problem, only, beta)
    usable = [len(found[method]) > 0 for found in fronts.by_method]
    return tuple(layer if can else None for layer, can in zip(layers, usable, strict=True))


def _fastest_first(
    problem: DeploymentProblem, plans: tuple[LayerPlan | None, ...]
) -> tuple[LayerPlan | None, ...]:
    """One method's plans, those of layers that are alike by rising latency."""
    alike: dict[ProblemLayer, list[int]] = {}
    for e, layer in enumerate(problem.layers):
        alike.setdefault(layer, []).append(e)
    found = list(plans)
    for places in alike.values():
        own = [plan for e in places if (plan := plans[e]) is not None]
        if len(own) > 1:
            own.sort(key=partial(_latency_s, problem, places[0]))
            for e, plan in zip(places, own, strict=True):
                found[e] = plan
    return tuple(found)


def _latency_s(problem: DeploymentProblem, e: int, plan: LayerPlan) -> float:
    return evaluate_layer(problem, e, plan).latency_s


def _layer_costs(
    problem: DeploymentProblem, plans: dict[Communication, tuple[LayerPlan | None, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """c[a, e] in the objective's unit, infinite where a cannot be used, and the latencies in s."""
    cost = np.full((len(COMMUNICATIONS), len(problem.layers)), np.inf)
    latency = np.full_like(cost, np.inf)
    for a, method in enumerate(COMMUNICATIONS):
        for e, layer in enumerate(plans[method]):
            if layer is not None:
                found = evaluate_layer(problem, e, layer)
                cost[a, e], latency[a, e] = objective_value(found, problem.objective), found.latency_s
    return cost, latency


def _select(
    cost: np.ndarray, latency: np.ndarray, budget_s: float, fixed: float, fixed_s: float
) -> tuple[np.ndarray, list[OdsRound], bool]:
    """Steps 2-4 of Alg. 1: the method of each layer, the rounds, and whether step 4 was taken."""
    every = np.arange(cost.shape[1])
    left = cost.copy()
    rounds: list[OdsRound] = []
    within = budget_s * (1 + ROUNDING)
    for _ in range(2 * len(every) + 1):
        chosen = left.argmin(axis=0)
        model_cost, model_latency = float(cost[chosen, every].sum()), latency[chosen, every]
        slowest_first = np.argsort(-model_latency, kind="stable")
        droppable = [e for e in slowest_first if np.isfinite(left[:, e]).sum() > 1]
        done = model_latency.sum() <= within
        layer = None if done or not droppable else int(droppable[0])
        method = None if layer is None else COMMUNICATIONS[chosen[layer]]
        rounds.append(OdsRound(fixed + model_cost, fixed_s + float(model_latency.sum()), layer, method))
        if done:
            return chosen, rounds, False
        if layer is None:
            break
        left[chosen[layer], layer] = np.inf
    total, slow = cost.sum(axis=1), latency.sum(axis=1) > within
    best = min(range(len(total)), key=lambda a: (bool(np.isinf(total[a])), bool(slow[a]), total[a]))
    return np.full(len(every), best), rounds, True
