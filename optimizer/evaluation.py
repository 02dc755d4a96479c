"""What a plan of a whole model comes to in closed form, and how a solver's answer becomes an evaluated plan.

Source: Liu, Wang, Wu, INFOCOM 2025, problem (12); the equations of a layer are those of `optimizer.cost_model`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe.shown import Shown
from optimizer.cost_model import GateBill, chosen, gate_bill, load_s, non_moe_usd, outcome
from simulator.plan import (
    DeploymentPlan,
    DeploymentProblem,
    LayerPlan,
    Objective,
    Reload,
    Violation,
    constraint_violations,
    objective_value,
)
from simulator.serving.settled import served_so

ROUNDING = 1e-12
"""A latency above its limit, or a cost above its bound, by less than this share is rounding."""


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """What a plan comes to by the closed form.

    Attributes:
        billed_gb_s: the paper's bill: GB-s of all experts' functions.
        billed_cost_usd: that times the price.
        full_cost_usd: billed_cost_usd and the price of the requests that the experts cause.
        total_cost_usd: the whole bill: full, and gate and non-MoE functions, each next one started just in time.
        latency_s: of the model, head to tail.
        layer_gb_s, layer_latency_s: of each MoE layer, shape (layers,).
        violations: constraints that the plan breaks, latency included.
        objective: the problem's.
    """

    billed_gb_s: float
    billed_cost_usd: float
    full_cost_usd: float
    total_cost_usd: float
    latency_s: float
    layer_gb_s: np.ndarray
    layer_latency_s: np.ndarray
    violations: tuple[Violation, ...]
    objective: Objective

    @property
    def objective_value(self) -> float:
        """The bill that the problem's objective counts."""
        value: float = objective_value(self, self.objective)
        return value

    @property
    def feasible(self) -> bool:
        """Whether the plan keeps every constraint."""
        return not self.violations

    def _facts(self) -> dict[str, Any]:
        numbers = ("billed_gb_s", "full_cost_usd", "total_cost_usd", "latency_s", "feasible")
        return {name: getattr(self, name) for name in numbers}


def fixed_latency_s(problem: DeploymentProblem) -> float:
    """Latency that no plan changes: head, tail and the non-MoE layers."""
    head_s = load_s(problem.platform, problem.head_s)
    return head_s + problem.tail_s + sum(layer.non_moe_s for layer in problem.layers)


def latency_budget_s(problem: DeploymentProblem) -> float:
    """Latency that the limit leaves to the MoE layers, s."""
    limit = problem.latency_limit_s
    return np.inf if limit is None else limit - fixed_latency_s(problem)


def fixed_cost(problem: DeploymentProblem) -> float:
    """Cost in the objective's unit that no plan's layers change: `total` has the rest of non-MoE functions."""
    return non_moe_usd(problem) if problem.objective == "total" else 0.0


def counted_gate(problem: DeploymentProblem, e: int) -> GateBill:
    """The gate's bill of layer e as far as the objective counts it: with `total`."""
    return gate_bill(problem, e) if problem.objective == "total" else GateBill()


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
    problem = served_so(problem, plan.non_moe_memory_mb, plan.reload)
    layers = [evaluate_layer(problem, e, layer_plan) for e, layer_plan in enumerate(plan.layers)]
    gb_s, latency = (np.array([getattr(x, name) for x in layers]) for name in ("billed_gb_s", "latency_s"))
    model_latency = float(fixed_latency_s(problem) + latency.sum())
    limit = problem.latency_limit_s
    if limit is not None and model_latency > limit * (1 + ROUNDING):
        violations.append((None, None, "latency"))
    billed = float(gb_s.sum())
    return Evaluation(
        billed_gb_s=billed,
        billed_cost_usd=billed * problem.platform.price_per_gb_s,
        full_cost_usd=sum(x.full_cost_usd for x in layers),
        total_cost_usd=sum(x.total_cost_usd for x in layers) + non_moe_usd(problem),
        latency_s=model_latency,
        layer_gb_s=gb_s,
        layer_latency_s=latency,
        violations=tuple(violations),
        objective=problem.objective,
    )


@dataclass(frozen=True)
class LayerEvaluation:
    """Bills and latency of one layer; the total is of its experts and its gate (`cost_model.GateBill`)."""

    billed_gb_s: float
    full_cost_usd: float
    total_cost_usd: float
    latency_s: float


def evaluate_layer(problem: DeploymentProblem, e: int, plan: LayerPlan) -> LayerEvaluation:
    """What layer e comes to under its part of a plan."""
    layer = problem.layers[e]
    reached = layer.tokens > 0
    if not reached.any():
        return LayerEvaluation(0.0, 0.0, 0.0, 0.0)
    x = chosen(problem, e, plan)
    result = outcome(problem.platform, layer, x, plan.communication, float(plan.minibatch_tokens or 1))
    gb_s, latency = float(result.gb_s.sum()), result.latency_s(reached)
    full = gb_s * problem.platform.price_per_gb_s + float(result.requests_usd.sum())
    gate = gate_bill(problem, e).usd(plan.communication, latency)
    return LayerEvaluation(gb_s, full, full + float(gate), latency)


@dataclass(frozen=True)
class Solution:
    """What a solver returns; `optimizer.solvers.solve` times and evaluates it.

    Attributes:
        layers: how each layer is deployed.
        lower_bound: no plan within the limit has a lower objective, in its unit; None if the solver knows none.
        non_moe_memory_mb, reload: with the objective `total`, which decides them as well.
        name: of the solver, where options are part of it (`miqcp-scip`); None: the one that it was asked for by.
    """

    layers: tuple[LayerPlan, ...]
    lower_bound: float | None = None
    name: str | None = None
    non_moe_memory_mb: int | None = None
    reload: Reload | None = None


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
            "total_cost_usd": result.total_cost_usd,
            "latency_s": result.latency_s,
            "feasible": result.feasible,
            "violations": result.violations,
            "lower_bound": lower_bound,
            "gap": gap,
            "solve_s": solve_s,
        }
    )
