"""Fig. 2: the CPU cluster against Lambda at 3008 MB, GPT2; and what the paper's 22.9 tokens/s hang on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.break_even import LEVERS, crossing, lambdaml_tokens_per_s
from experiments.paper.cluster import cluster_rows
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.fig02.claims import claims
from experiments.paper.figures.fig02.picture import draw
from experiments.paper.figures.fig02.ways import BY_TOKEN, LAMBDA, PAPER_TOKENS_PER_S
from experiments.paper.plans import play, played_columns, problem_of
from experiments.paper.routing import Cell, cell_fields, routing_of
from experiments.paper.settings import FigureSettings
from optimizer.solvers import solve
from simulator.serving.layer import AS_PAPER
from simulator.serving.simulate import Decode, simulate

if TYPE_CHECKING:
    import pandas as pd


class Settings(FigureSettings):
    """Fig. 2: `decode_steps`: tokens that each sequence generates one by one, in the row that does so."""

    decode_steps: int = Field(4, ge=1)
    factor: float = Field(64.0, gt=1)


class ServeCell(Cell):
    """One model."""

    decode_steps: int
    factor: float


def cells(settings: Settings) -> list[ServeCell]:
    """One for each model and text."""
    own = {"decode_steps": settings.decode_steps, "factor": settings.factor}
    return [ServeCell(**fields, **own) for fields in cell_fields(settings)]


def compute(cell: ServeCell) -> Rows:
    """Rows `serving`: ways to serve the model; rows `constant`: what each must be for the paper's throughput."""
    routing = routing_of(cell)
    batches = routing.batches(cell.batches, cell.batch_tokens, cell.seed)
    popularity = routing.popularity(cell.batch_tokens)
    problem = problem_of(cell, popularity)
    plan = solve(problem, "lambdaml")
    run = play(cell, problem, plan, batches)
    found = [
        cell.about
        | {"row": "serving", "name": LAMBDA, "method": plan.layers[0].communication}
        | played_columns(run, batches)
    ]
    decode = Decode(cell.decode_steps, cell.batch_tokens // cell.sequence_tokens)
    stepped = simulate(
        problem, plan, cell.platform, routing=batches.real[:1], serving=AS_PAPER, decode=decode, seed=cell.seed
    )
    step_s = float(stepped.decode_s.mean())
    found.append(cell.about | {"row": "serving", "name": BY_TOKEN, "tokens_per_s": decode.sequences / step_s})
    found += [
        cell.about | {"row": "serving"} | row
        for row in cluster_rows(cell, batches)
        if not row["better_transformer"]
    ]
    return found + [cell.about | {"row": "constant"} | row for row in _constants(cell, popularity)]


def _constants(cell: ServeCell, popularity: np.ndarray) -> list[dict[str, Any]]:
    """For each constant alone: what it must be for a throughput of 22.9 tokens/s; none where it never is."""
    profile, spec, found = cell.platform, cell.spec, []
    for lever in LEVERS:
        factor = crossing(
            lambda x, lever=lever: lambdaml_tokens_per_s(spec, popularity, lever.multiplied(profile, x)),  # type: ignore[misc]
            PAPER_TOKENS_PER_S,
            1 / cell.factor,
            cell.factor,
        )
        now = lever.median(profile)
        found.append(
            {"name": lever.title, "unit": lever.unit, "value": now, "factor": factor}
            | {"needed": None if factor is None else now * factor}
        )
    return found


def table(rows: Rows) -> pd.DataFrame:
    """The rows, as they are."""
    import pandas as pd

    return pd.DataFrame(rows)


FIGURE = PaperFigure("2", Settings, cells, compute, table, claims, draw)
