"""What a plan of a whole model comes to in closed form, and how a solver's answer becomes an evaluated plan.

Source: Liu, Wang, Wu, INFOCOM 2025, problem (12); the equations of a layer are those of `optimizer.cost_model`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe.shown import Shown
from optimizer.cost_model import chosen, outcome
from simulator.plan import (
    DeploymentPlan,
    DeploymentProblem,
    LayerPlan,
    Violation,
    constraint_violations,
    objective_value,
)

ROUNDING = 1e-12
"""A latency above its limit, or a cost above its bound, by less than this share is rounding."""


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """What a plan comes to by the closed form.

    Attributes:
        billed_gb_s: the paper's bill: GB-s of all experts' functions.
        billed_cost_usd: that times the price.
        full_cost_usd: billed_cost_usd and the price of the requests that the experts cause.
        latency_s: of the model, head to tail.
        layer_gb_s, layer_latency_s: of each MoE layer, shape (layers,).
        violations: constraints that the plan breaks, latency included.
        objective_value: billed_gb_s or full_cost_usd, as the problem's objective says.
    """

    billed_gb_s: float
    billed_cost_usd: float
    full_cost_usd: float
    latency_s: float
    layer_gb_s: np.ndarray
    layer_latency_s: np.ndarray
    violations: tuple[Violation, ...]
    objective_value: float

    @property
    def feasible(self) -> bool:
        """Whether the plan keeps every constraint."""
        return not self.violations

    def _facts(self) -> dict[str, Any]:
        numbers = ("billed_gb_s", "full_cost_usd", "latency_s", "feasible")
        return {name: getattr(self, name) for name in numbers}


def fixed_latency_s(problem: DeploymentProblem) -> float:
    """Latency that no plan changes: head, tail and the non-MoE layers."""
    return problem.head_s + problem.tail_s + sum(layer.non_moe_s for layer in problem.layers)


def evaluate(problem: DeploymentProblem, plan: DeploymentPlan) -> Evaluation:
    """Cost (Eq. 3-5), latency (Eq. 7, 9, 11, 12d) and violations of a plan, feasible or not.

    Raises InputError when the plan has other layers, experts or memory sizes than the problem.

    >>> import serverless_moe as smoe
    >>> spec, tokens = smoe.load_spec("bert-moe"), [[5120, 2560, 1536, 1024]] * 12
    >>> problem = smoe.make_problem(spec, tokens, smoe.load_profile(), latency_limit_s=60)
    >>> found = smoe.evaluate(problem, smoe.plan(problem, "lambdaml"))
    >>> found.feasible, found.layer_gb_s.shape
    (True, (12,))
    """
    violations = constraint_violations(problem, plan)
    gb_s, requests, latency = np.array(
        [evaluate_layer(problem, e, layer_plan) for e, layer_plan in enumerate(plan.layers)]
    ).T
    model_latency = float(fixed_latency_s(problem) + latency.sum())
    limit = problem.latency_limit_s
    if limit is not None and model_latency > limit * (1 + ROUNDING):
        violations.append((None, None, "latency"))
    billed = float(gb_s.sum())
    billed_usd = billed * problem.platform.price_per_gb_s
    full_usd = billed_usd + float(requests.sum())
    return Evaluation(
        billed_gb_s=billed,
        billed_cost_usd=billed_usd,
        full_cost_usd=full_usd,
        latency_s=model_latency,
        layer_gb_s=gb_s,
        layer_latency_s=latency,
        violations=tuple(violations),
        objective_value=objective_value(problem.objective, billed, full_usd),
    )


def evaluate_layer(problem: DeploymentProblem, e: int, plan: LayerPlan) -> tuple[float, float, float]:
    """GB-s, price of the requests in USD, and latency in s of layer e under its part of a plan."""
    layer = problem.layers[e]
    reached = layer.tokens > 0
    if not reached.any():
        return 0.0, 0.0, 0.0
    x = chosen(problem, e, plan)
    result = outcome(problem.platform, layer, x, plan.communication, float(plan.minibatch_tokens or 1))
    return float(result.gb_s.sum()), float(result.requests_usd.sum()), result.latency_s(reached)


@dataclass(frozen=True)
class Solution:
    """What a solver returns; `optimizer.solvers.solve` times and evaluates it.

    Attributes:
        layers: how each layer is deployed.
        lower_bound: no plan within the limit has a lower objective, in its unit; None if the solver knows none.
        name: of the solver, where options are part of it (`miqcp-scip`); None: the one that it was asked for by.
    """

    layers: tuple[LayerPlan, ...]
    lower_bound: float | None = None
    name: str | None = None


def with_evaluation(
    problem: DeploymentProblem,
    plan: DeploymentPlan,
    lower_bound: float | None = None,
    solve_s: float | None = None,
) -> DeploymentPlan:
    """The plan with its cost, latency, violations, bound and gap filled in.

    Args:
        problem: what the plan is for.
        plan: layers and solver name; the rest is overwritten.
        lower_bound: a bound on every feasible plan's objective, in the objective's unit; None if unknown.
        solve_s: wall time of the solver, s.
    """
    result = evaluate(problem, plan)
    gap = None
    if lower_bound is not None:
        value = result.objective_value
        gap = 0.0 if value <= lower_bound * (1 + ROUNDING) else 1 - lower_bound / value
    return plan.model_copy(
        update={
            "objective": problem.objective,
            "billed_gb_s": result.billed_gb_s,
            "billed_cost_usd": result.billed_cost_usd,
            "full_cost_usd": result.full_cost_usd,
            "latency_s": result.latency_s,
            "feasible": result.feasible,
            "violations": result.violations,
            "lower_bound": lower_bound,
            "gap": gap,
            "solve_s": solve_s,
        }
    )
