"""Regret of a prediction: how much dearer its plan is, on the real tokens, than the plan made from these.

Source: this project (page "Predictors" of docs/); overflow as in Alg. 2 of Liu, Wang, Wu, INFOCOM 2025.
"""

from dataclasses import dataclass

import numpy as np

from moe.errors import InputError
from optimizer.cost_model import ROUNDING, evaluate
from optimizer.exact import Infeasible
from optimizer.solvers import solve
from simulator.overflow import replicas_that_fit
from simulator.plan import DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan


@dataclass(frozen=True)
class Realised:
    """A plan on real tokens.

    Attributes:
        cost: in the unit of the problem's objective, GB-s or USD.
        latency_s: of the batch.
        late: whether that is above the problem's latency limit.
        overflowed: replicas beyond the planned ones, since the planned ones do not hold the real tokens.
    """

    cost: float
    latency_s: float
    late: bool
    overflowed: int


@dataclass(frozen=True)
class Regret:
    """The plan made from a prediction beside the plan made from the real tokens, both on the real tokens.

    A plan for a wrong, balanced prediction can be cheaper than the best plan, and late: look at both.

    Attributes:
        made, best: the two; `made` is None where `failure` says why there is none.
        failure: no plan keeps the limit on the predicted tokens, or the plan has no room for a real one.
    """

    made: Realised | None
    best: Realised
    failure: str | None = None

    @property
    def share(self) -> float | None:
        """Cost of the made plan over that of the best, minus 1."""
        return None if self.made is None else self.made.cost / self.best.cost - 1


def with_tokens(problem: DeploymentProblem, popularity: np.ndarray) -> DeploymentProblem:
    """The problem with other tokens of its experts, (layers, experts). Raises InputError for another shape."""
    popularity = np.asarray(popularity, float)
    shape = (len(problem.layers), len(problem.layers[0].experts))
    if popularity.shape != shape:
        raise InputError(
            f"{problem.name}: expected popularity of its {shape[0]} layers x {shape[1]} experts, "
            f"got {' x '.join(map(str, popularity.shape))}"
        )
    layers = []
    for layer, tokens in zip(problem.layers, popularity.tolist(), strict=True):
        experts = [x.model_copy(update={"tokens": d}) for x, d in zip(layer.experts, tokens, strict=True)]
        layers.append(layer.model_copy(update={"experts": tuple(experts)}))
    return problem.model_copy(update={"layers": tuple(layers)})


def realised(problem: DeploymentProblem, plan: DeploymentPlan) -> Realised:
    """What a plan made for other tokens comes to on the problem's: Eq. 3-11 with the replicas that they need.

    Raises InputError where an expert of the plan has no room for a token.
    """
    layers, overflowed = [], 0
    for e, (layer, chosen) in enumerate(zip(problem.layers, plan.layers, strict=True)):
        replicas = replicas_that_fit(problem, e, chosen, layer.tokens)
        overflowed += int(replicas.sum() - chosen.replicas.sum())
        layers.append(_with_replicas(chosen, replicas))
    found = evaluate(problem, plan.model_copy(update={"layers": tuple(layers)}))
    limit = problem.latency_limit_s
    late = limit is not None and found.latency_s > limit * (1 + ROUNDING)
    return Realised(found.objective_value, found.latency_s, late, overflowed)


def best_realised(problem: DeploymentProblem, solver: str = "exact") -> Realised:
    """The plan made from the problem's own tokens, on these. Raises Infeasible where none keeps the limit."""
    return realised(problem, solve(problem, solver))


def regret(
    problem: DeploymentProblem, predicted: np.ndarray, best: Realised | None = None, solver: str = "exact"
) -> Regret:
    """The regret of a prediction.

    Args:
        problem: its tokens are the real ones of a batch.
        predicted: tokens of each expert in a batch, shape (layers, experts).
        best: of the problem, to save solving it again.
        solver: that makes both plans.

    Raises Infeasible where no plan keeps the limit on the real tokens, InputError for another shape.
    """
    best = best or best_realised(problem, solver)
    try:
        plan = solve(with_tokens(problem, predicted), solver)
    except Infeasible as error:
        return Regret(None, best, f"no plan for the predicted tokens: {error}")
    try:
        return Regret(realised(problem, plan), best)
    except InputError as error:
        return Regret(None, best, f"the batch fails: {error}")


def _with_replicas(layer: LayerPlan, replicas: np.ndarray) -> LayerPlan:
    experts = [
        ExpertPlan(memory_mb=x.memory_mb, replicas=g)
        for x, g in zip(layer.experts, replicas.tolist(), strict=True)
    ]
    return layer.model_copy(update={"experts": tuple(experts)})
