"""Regret of a prediction: how much dearer its plan is, on the real tokens, than the plan made from these.

Source: this project (page "Predictors" of docs/); overflow as in Alg. 2 of Liu, Wang, Wu, INFOCOM 2025.
"""

from dataclasses import dataclass

import numpy as np

from moe.errors import InputError
from optimizer.evaluation import ROUNDING
from optimizer.exact import Infeasible
from optimizer.problem import with_tokens
from optimizer.realised import realise
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.serving.overflow import replicas_run


@dataclass(frozen=True)
class OnRealTokens:
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

    made: OnRealTokens | None
    best: OnRealTokens
    failure: str | None = None

    @property
    def share(self) -> float | None:
        """Cost of the made plan over that of the best, minus 1."""
        return None if self.made is None else self.made.cost / self.best.cost - 1


def on_real_tokens(problem: DeploymentProblem, plan: DeploymentPlan) -> OnRealTokens:
    """What a plan made for other tokens comes to on the problem's (`optimizer.realised`).

    Raises InputError where an expert of the plan has no room for a token.
    """
    tokens = [layer.tokens for layer in problem.layers]
    found = realise(problem, plan, np.array(tokens))
    if found.failed is not None:
        raise InputError(found.failed)
    runs = replicas_run(problem, plan, tokens, "foreseen")
    overflowed = sum(int((g - layer.replicas).sum()) for g, layer in zip(runs, plan.layers, strict=True))
    limit = problem.latency_limit_s
    late = limit is not None and found.latency_s > limit * (1 + ROUNDING)
    return OnRealTokens(found.cost(problem), found.latency_s, late, overflowed)


def best_on_real_tokens(problem: DeploymentProblem, solver: str = "exact") -> OnRealTokens:
    """The plan made from the problem's own tokens, on these. Raises Infeasible where none keeps the limit."""
    return on_real_tokens(problem, solve(problem, solver))


def regret(
    problem: DeploymentProblem, predicted: np.ndarray, best: OnRealTokens | None = None, solver: str = "exact"
) -> Regret:
    """The regret of a prediction.

    Args:
        problem: its tokens are the real ones of a batch.
        predicted: tokens of each expert in a batch, shape (layers, experts).
        best: of the problem, to save solving it again.
        solver: that makes both plans.

    Raises Infeasible where no plan keeps the limit on the real tokens, InputError for another shape.
    """
    best = best or best_on_real_tokens(problem, solver)
    try:
        plan = solve(with_tokens(problem, predicted), solver)
    except Infeasible as error:
        return Regret(None, best, f"no plan for the predicted tokens: {error}")
    try:
        return Regret(on_real_tokens(problem, plan), best)
    except InputError as error:
        return Regret(None, best, f"the batch fails: {error}")
