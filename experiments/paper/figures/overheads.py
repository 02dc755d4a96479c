"""The overhead table: profiling, predicting, ODS, a trial of BO and BO until it has converged; seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.claims import Claim, bounded
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.plans import problem_of, within_lambdaml
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval
from experiments.paper.settings import FigureSettings
from optimizer.bo import Alg2, Budget, Judge, KeyRange, Known, Planner, closed_form, sampler, tune
from optimizer.popularity import ProfileTable, TablePredictor, predictor
from optimizer.popularity.synthetic import synthetic_trace
from optimizer.solvers import solve

if TYPE_CHECKING:
    import pandas as pd

PAPER_S = {
    "profiling 100 batches": 28.89,
    "predicting 10 batches": 20.31,
    "ODS": 2.27,
    "a trial of BO": 62.15,
    "BO until converged": 1257.89,
}
PROFILED, PREDICTED = 100, 10


class Settings(FigureSettings):
    """The overhead table: repetitions, and the batches that are counted where 100 are too many."""

    repetitions: int = Field(3, ge=2)
    profiled_batches: int = Field(PROFILED, ge=1)
    trials: int = Field(60, ge=12)
    tuned_on: int = Field(4, ge=1)


class TimedCell(Cell):
    """One repetition of everything."""

    repetition: int
    profiled_batches: int
    trials: int
    tuned_on: int


def cells(settings: Settings) -> list[TimedCell]:
    """One for each repetition, of the first model and text."""
    own = {name: getattr(settings, name) for name in ("profiled_batches", "trials", "tuned_on")}
    first = cell_fields(settings)[0]
    return [TimedCell(**first, **own, repetition=k) for k in range(settings.repetitions)]


def compute(cell: TimedCell) -> Rows:
    """A row for each overhead: seconds on the clock, and of the processor."""
    spec, found = cell.spec, []
    shape = {"layers": spec.moe_layers, "experts": spec.experts, "top_k": spec.top_k}
    profiled = synthetic_trace(1, cell.profiled_batches * cell.batch_tokens, **shape)
    served = synthetic_trace(2, PREDICTED * cell.batch_tokens, **shape)
    made = predictor("bayes", counting="hard")
    assert isinstance(made, TablePredictor)

    def row(what: str, wall_s: float, process_s: float | None, note: str = "") -> None:
        found.append(
            cell.about
            | {"what": what, "paper_s": PAPER_S[what], "wall_s": wall_s, "process_s": process_s, "note": note}
        )

    scale = PROFILED / cell.profiled_batches
    table_, wall_s, process_s = _timed(lambda: ProfileTable.from_trace(profiled))
    note = "counting routed tokens, without running the model"
    if scale != 1:
        note += f"; {cell.profiled_batches} batches, times {scale:g}"
    row("profiling 100 batches", wall_s * scale, process_s * scale, note)
    fitted = made.fit_table(table_)
    _, wall_s, process_s = _timed(lambda: fitted.predict(served.token_id))
    row("predicting 10 batches", wall_s, process_s)
    routing = routing_of(cell)
    problem = within_lambdaml(problem_of(cell, routing.popularity(cell.batch_tokens)))
    _, wall_s, process_s = _timed(lambda: solve(problem, "ods"))
    row("ODS", wall_s, process_s)
    tuned_on = routing.batches(cell.tuned_on, cell.batch_tokens, cell.seed + cell.repetition)
    settings = Alg2(batches=cell.tuned_on)
    table_ = ProfileTable.from_trace(routing.profiled)
    planner = Planner(problem, table_, predictor("bayes", counting="hard"))  # type: ignore[arg-type]
    judge = Judge(planner, tuned_on.batches, closed_form(), "bill", settings)
    known = Known(planner, KeyRange.of(table_, tuned_on.batches, True), tuned_on.batches)
    search = sampler("multi-epsilon", known, settings, cell.seed + cell.repetition)
    tuned, wall_s, process_s = _timed(lambda: tune(judge, search, "multi-epsilon", Budget(cell.trials)))
    trials = len(tuned.rows)
    row(
        "a trial of BO", wall_s / trials, process_s / trials, f"serving {cell.tuned_on} batches by the closed form"
    )
    row("BO until converged", wall_s, process_s, f"{trials} trials: {tuned.stopped}")
    return found


def _timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, seconds on the clock, seconds of the processor."""
    wall, process = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - process


def table(rows: Rows) -> pd.DataFrame:
    """Means over repetitions, with intervals; the note of the first."""
    import pandas as pd

    found = []
    for (what, paper_s), group in pd.DataFrame(rows).groupby(["what", "paper_s"], sort=False):
        found.append(
            {"what": what, "paper_s": paper_s, "model": group["model"].iloc[0]}
            | {k: max(0.0, x) for k, x in with_interval("wall_s", group["wall_s"].to_numpy()).items()}
            | {"process_s": float(np.mean(group["process_s"])), "repetitions": len(group)}
            | {"note": group["note"].iloc[0]}
        )
    return pd.DataFrame(found)


def claims(data: pd.DataFrame) -> list[Claim]:
    """Whether ours takes no longer than the paper's, on other machines."""
    return [
        bounded("overheads", f"{row.what}: at most the paper's seconds", row.paper_s,
                (row.wall_s, row.wall_s_low, row.wall_s_high), at_least=False, share=False,
                reason="; ".join(
                    x for x in ("another machine", f"{row.process_s:.3g} s of the processor", row.note) if x))
        for row in data.itertuples()
    ]  # fmt: skip


FIGURE = PaperFigure("overheads", Settings, cells, compute, table, claims, draw=None, alone=True)
