"""The rows of Fig. 13: one run of one sampler, judged on batches that it was not tuned on."""

from __future__ import annotations

from typing import Literal, TypeAlias

from experiments.paper.drift import drifted_sets
from experiments.paper.figure import Rows
from experiments.paper.figures.fig13.memory import LAMBDA_SIZES_MB, MemoryBinds
from experiments.paper.plans import problem_of, within_lambdaml
from experiments.paper.routing import Cell, routing_of
from experiments.paper.settings import TextChoice
from experiments.run.routing import Routing
from optimizer.bo import (
    Alg2,
    Batches,
    Budget,
    Judge,
    KeyRange,
    Known,
    Objective,
    Planner,
    Tuned,
    Tuning,
    closed_form,
    sampler,
    tune,
)
from optimizer.popularity import ProfileTable, TablePredictor, predictor
from optimizer.realised import BilledOverflow

Counting: TypeAlias = Literal["hard", "expected"]
Change: TypeAlias = dict[str, bool | int | float]
"""Constants of Alg. 2 that are not the default ones."""


class TuneCell(Cell):
    """One run of one sampler."""

    home: TextChoice
    drift: float
    sampler: str
    objective: Objective
    counting: Counting
    change: Change
    run: int
    trials: int
    tuned_on: int
    memory: MemoryBinds | None = None


def compute(cell: TuneCell) -> Rows:
    """One row: bills, scores, errors, latencies on the test batches, untuned, tuned, and of the oracle's plan."""
    home, other = routing_of(cell.model_copy(update={"text": cell.home})), routing_of(cell)
    seed = cell.seed + cell.run
    tuned_on, test = drifted_sets(home, other, cell.drift, [cell.tuned_on, cell.batches], cell.batch_tokens, seed)
    planner, tuned = tuned_table(
        cell, home, tuned_on.batches, cell.sampler, cell.objective, cell.trials, seed, cell.counting, cell.change,
        cell.memory,
    )  # fmt: skip
    settings = Alg2(batches=cell.tuned_on)
    judge = Judge(planner, test.batches, closed_form(_overflow(cell.memory)), cell.objective, settings)
    before, after = (judge(x)[0] for x in (Tuning(), tuned.tuning))
    return [
        cell.about
        | {"binds": "latency" if cell.memory is None else "memory"}
        | {"drift": cell.drift, "sampler": cell.sampler, "objective": cell.objective, "counting": cell.counting}
        | {"change": ", ".join(f"{name}={value}" for name, value in cell.change.items())}
        | {"run": cell.run, "trials": len(tuned.rows)}
        | {"cost_ratio": after.cost / before.cost, "oracle_ratio": judge.oracle.cost / before.cost}
        | {"error_ratio": after.prediction_error_tokens / before.prediction_error_tokens}
        | {"latency_ratio": after.latency_s / before.latency_s, "late": after.over_limit}
        | {"gained": before.score - after.score, "gap": before.score - judge.oracle.score}
        | {"late_before": before.over_limit, "batches": test.kind}
    ]


def tuned_table(
    cell: Cell,
    routing: Routing,
    batches: Batches,
    name: str,
    objective: Objective,
    trials: int,
    seed: int,
    counting: Counting = "hard",
    change: Change | None = None,
    memory: MemoryBinds | None = None,
) -> tuple[Planner, Tuned]:
    """A sampler's run on some batches: the paper's predictor, at 81.24% of LambdaML's throughput; where memory
    binds, without a limit.

    All trials are run: none stops early, so that samplers have the same budget.
    """
    popularity = routing.popularity(cell.batch_tokens)
    if memory is None:
        problem = within_lambdaml(problem_of(cell, popularity))
    else:
        problem = memory.problem(problem_of(cell, popularity, LAMBDA_SIZES_MB), cell.model.title)
    made = predictor("bayes", counting=counting)
    assert isinstance(made, TablePredictor)
    table_ = ProfileTable.from_trace(routing.profiled)
    planner = Planner(problem, table_, made)
    settings = Alg2.model_validate({"batches": len(batches), "patience": trials} | (change or {}))
    judge = Judge(planner, batches, closed_form(_overflow(memory)), objective, settings)
    known = Known(planner, KeyRange.of(table_, batches, settings.by_frequency), batches)
    return planner, tune(judge, sampler(name, known, settings, seed), name, Budget(trials))


def _overflow(memory: MemoryBinds | None) -> BilledOverflow:
    return "foreseen" if memory is None else "retry"
