"""What robust plans are worth on batches that no sample saw: their bills, and how many are late. This project's.

`bayes` learns from the profiled part of the first text; samples predict the first half of each held-out text from
bootstrap draws of it; plans are judged on batches of the second half.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.claims import Claim
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.plans import problem_of
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval
from experiments.paper.settings import FigureSettings, TextChoice
from experiments.run.routing import HeldOutBatches, Routing
from optimizer.evaluation import ROUNDING
from optimizer.exact import least_latency_s
from optimizer.popularity import Predictor, predictor
from optimizer.realised import realise
from optimizer.robust import Criterion, bootstrap, plan_robustly
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem, Objective

if TYPE_CHECKING:
    import pandas as pd

EXACT, MEAN, IN_TIME = (
    "exact, for the prediction",
    "mean bill, mean latency",
    "mean bill, 95% of the samples in time",
)
CRITERIA = {
    MEAN: Criterion(),
    IN_TIME: Criterion(limit_share=0.95),
    "90% quantile of the bill, 95% of the samples in time": Criterion("quantile", 0.9, 0.95),
}


class Settings(FigureSettings):
    """The table of robust plans.

    Attributes:
        texts: the first is profiled, batches of each are served.
        samples: of the popularity, that plans are made from.
        tightness: where the limit lies between the least latency and that of the cheapest plan.
        objectives: that plans are made for.
    """

    samples: int = Field(30, ge=2)
    tightness: float = Field(0.2, gt=0, lt=1)
    objectives: tuple[Objective, ...] = ("gb_s", "usd")


class RobustCell(Cell):
    """The plans of one model for one objective."""

    home: TextChoice
    samples: int
    tightness: float
    objective: Objective


def cells(settings: Settings) -> list[RobustCell]:
    """One for each model, text and objective."""
    own = {"home": settings.texts[0], "samples": settings.samples, "tightness": settings.tightness}
    return [
        RobustCell(**fields, **own, objective=objective)
        for fields in cell_fields(settings)
        for objective in settings.objectives
    ]


def compute(cell: RobustCell) -> Rows:
    """A row for each plan. `spread`, `prediction_error`: of an expert's tokens, as shares of the mean load."""
    profiled = routing_of(cell.model_copy(update={"text": cell.home})).profiled
    routing = routing_of(cell)
    n, tokens = routing.sequence_tokens, routing.held_out.tokens
    half = routing.held_out_sequences // 2 * n
    planned = routing.held_out.slice(0, half)
    later = Routing(profiled, routing.held_out.slice(half, tokens), n)
    batches = later.batches(cell.batches, cell.batch_tokens, cell.seed)
    a_batch = cell.batch_tokens / half
    samples = a_batch * bootstrap(_bayes, profiled, planned, cell.samples, cell.seed)
    predicted = a_batch * _bayes().fit(profiled).predict(planned.token_id, planned)
    problem = _limited(cell, problem_of(cell, predicted).model_copy(update={"objective": cell.objective}))
    real = batches.batches.real
    about = cell.about | {"objective": cell.objective, "limit_s": problem.latency_limit_s, "batches": batches.kind}
    about |= {"spread": float(samples.std(axis=0).mean() / samples.mean())}
    about |= {"prediction_error": float(np.abs(predicted - real).mean() / real.mean())}
    return [about | row for row in _plans(problem, samples, batches)]


def _limited(cell: RobustCell, problem: DeploymentProblem) -> DeploymentProblem:
    least_s = least_latency_s(problem)
    free_s = solve(problem, "exact").latency_s or least_s
    return problem.with_limit(least_s + cell.tightness * (free_s - least_s))


def _bayes() -> Predictor:
    return predictor("bayes", counting="expected")


def _plans(problem: DeploymentProblem, samples: np.ndarray, batches: HeldOutBatches) -> Iterator[dict[str, Any]]:
    yield {"plan": EXACT} | _served(problem, solve(problem, "exact"), batches)
    for name, criterion in CRITERIA.items():
        found = plan_robustly(problem, samples, criterion)
        on_samples = {"sample_cost": found.cost, "lower_bound": found.cost_bound}
        plan = DeploymentPlan(solver="robust", layers=found.layers)
        yield {"plan": name} | _served(problem, plan, batches) | on_samples


def _served(problem: DeploymentProblem, plan: DeploymentPlan, batches: HeldOutBatches) -> dict[str, Any]:
    """Bills, in the objective's unit, and latencies of the batches, by the closed form."""
    limit_s = problem.latency_limit_s
    assert limit_s is not None
    real = [realise(problem, plan, tokens) for tokens in batches.real]
    latency_s = np.array([x.latency_s for x in real])
    return (
        with_interval("cost", [x.cost(problem) for x in real], batches.independent)
        | with_interval("latency_s", latency_s, batches.independent)
        | {"late": float(np.mean(latency_s > limit_s * (1 + ROUNDING)))}
    )


def table(rows: Rows) -> pd.DataFrame:
    """The rows, as they are."""
    import pandas as pd

    return pd.DataFrame(rows)


def claims(data: pd.DataFrame) -> list[Claim]:
    """What asking that 95% of the samples be in time costs, and how many batches are then late."""
    found = []
    for (model, text, objective), group in data.groupby(["model", "text", "objective"], sort=False):
        by = group.set_index("plan")
        exact, robust = by.loc[EXACT], by.loc[IN_TIME]
        dearer = float(robust["cost"] / exact["cost"] - 1)
        said = "; ".join(f"{row.Index}: {row.late:.0%} late, {row.latency_s:.1f} s" for row in by.itertuples())
        found.append(
            Claim("robust", f"late batches with a robust plan, and its bill over the exact one ("
                  f"{objective})", "", f"{robust['late']:.0%} instead of {exact['late']:.0%}, {dearer:+.1%}", None,
                  f"limit {exact['limit_s']:.1f} s; {said}; the samples vary by {exact['spread']:.1%} of the mean "
                  f"load, the prediction is {exact['prediction_error']:.1%} of it off", dearer,
                  case=f"{model}, {text}")
        )  # fmt: skip
    return found


FIGURE = PaperFigure("robust", Settings, cells, compute, table, claims)
