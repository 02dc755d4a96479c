"""What a tuning comes to on batches: plan, serve, compare (the second half of a trial of Alg. 2)."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from moe.errors import InputError, nearest, shortened
from moe.trace import Batches
from optimizer.bo.alg2 import Alg2
from optimizer.bo.planner import Planner
from optimizer.bo.space import Tuning
from optimizer.popularity import prediction_error
from optimizer.realised import Evaluate, Realised, errors
from simulator.plan import DeploymentPlan

Objective: TypeAlias = Literal["bill", "bill+slo"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

CHEAPER = 1 - 1e-9
"""A bill below the oracle's by more than rounding."""


@dataclass(frozen=True)
class Judged:
    """What the batches came to.

    Attributes:
        score: what is minimised; infinite where a batch failed.
        cost: mean bill of a batch, in the problem's unit.
        latency_s: mean latency of a batch.
        over_limit: share of the batches whose latency is over the limit.
        prediction_error_tokens: mean over layers and experts of |predicted - real| in the mean batch.
        rho: rho' of the worst error seen, 0 without any.
        wrong_batches: batches with an overflow or a misprediction.
        failed: why the first batch that failed did; None if none did.
        cheaper_than_oracle: the bill is below that of the plan made from the real counts.
        scores: of each batch; nothing in a history.
    """

    score: float
    cost: float
    latency_s: float
    over_limit: float
    prediction_error_tokens: float
    rho: float
    wrong_batches: tuple[int, ...]
    failed: str | None
    cheaper_than_oracle: bool = False
    scores: tuple[float, ...] = ()


class Judge:
    """Judges tunings on a fixed set of batches; `oracle` is the plan made from their mean real counts, judged.

    Args:
        planner: predicts and plans.
        batches: what is served.
        evaluate: serves them: the closed form or a simulation.
        objective: `bill`: the mean bill (the paper). `bill+slo`: each batch's bill x (1 + slo_penalty x
            max(0, latency / limit - 1)), then the mean.
        settings: alpha, rho_1..3 and slo_penalty.

    Raises InputError for an unknown objective, and for `bill+slo` without a latency limit.
    """

    def __init__(
        self, planner: Planner, batches: Batches, evaluate: Evaluate, objective: Objective, settings: Alg2
    ) -> None:
        if objective not in OBJECTIVES:
            raise InputError(f"objective: no objective {shortened(objective)}{nearest(objective, OBJECTIVES)}")
        if objective == "bill+slo" and planner.problem.latency_limit_s is None:
            raise InputError("objective bill+slo: expected a problem with latency_limit_s, got null")
        self.planner, self.batches, self.evaluate = planner, batches, evaluate
        self.objective, self.settings = objective, settings
        self.oracle = self._judged(batches.mean, planner.plan(batches.mean))

    def __call__(self, tuning: Tuning) -> tuple[Judged, DeploymentPlan]:
        """Predict, plan and serve."""
        popularity = self.planner.popularity(self.batches, tuning)
        plan = self.planner.plan(popularity, tuning.margin)
        judged = self._judged(popularity, plan)
        cheaper = judged.cost < self.oracle.cost * CHEAPER
        return replace(judged, cheaper_than_oracle=cheaper), plan

    def _judged(self, popularity: np.ndarray, plan: DeploymentPlan) -> Judged:
        problem, settings, real = self.planner.problem, self.settings, self.batches.real
        served = self.evaluate(problem, plan, real)
        limit = problem.latency_limit_s or np.inf
        latency = np.array([x.latency_s for x in served])
        planned = self.planner.problem_for(popularity)
        alpha = settings.alpha * float(self.batches.mean.mean())
        seen = [errors(planned, plan, tokens, alpha) for tokens in real]
        rho = max(x.rho(settings.rho_1, settings.rho_2, settings.rho_3) for x in seen)
        scores = [self._score(x, limit) for x in served]
        return Judged(
            score=float(np.mean(scores)),
            cost=float(np.mean([x.cost(problem) for x in served])),
            latency_s=float(latency.mean()),
            over_limit=float((latency > limit * (1 + 1e-9)).mean()),
            prediction_error_tokens=prediction_error(popularity, self.batches.mean).tokens,
            rho=rho,
            wrong_batches=tuple(k for k, x in enumerate(seen) if x.any),
            failed=next((x.failed for x in served if x.failed is not None), None),
            scores=tuple(scores),
        )

    def _score(self, batch: Realised, limit_s: float) -> float:
        cost = batch.cost(self.planner.problem)
        if self.objective == "bill" or batch.failed is not None:
            return cost
        return cost * (1 + self.settings.slo_penalty * max(0.0, batch.latency_s / limit_s - 1))
