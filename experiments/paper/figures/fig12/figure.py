"""Fig. 12: cost over the target throughput: ODS, MIQCP, random methods; and the best uniform plan, the optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.fig12.claims import claims
from experiments.paper.figures.fig12.picture import draw
from experiments.paper.plans import (
    MILLION,
    late_columns,
    planning_limit,
    predicted_popularity,
    problem_of,
    usd_per_million,
)
from experiments.paper.routing import Cell, cell_fields, routing_of, with_interval
from experiments.paper.settings import FigureSettings
from optimizer import NoIncumbent
from optimizer.exact import least_latency_s
from optimizer.margin import LATE_SHARE, solve_for
from optimizer.realised import realise
from simulator.plan import DeploymentProblem

if TYPE_CHECKING:
    import pandas as pd

SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "MIQCP": ("miqcp", {}),
    "optimum": ("exact", {}),
    "ODS": ("ods", {}),
    "random": ("random", {}),
    "best uniform": ("best-uniform", {}),
    "best uniform, popularity known": ("best-uniform", {"popularity": "known"}),
}
"""By title; the slow one first, so that the others are done beside it."""


class Settings(FigureSettings):
    """Fig. 12: `slack`: latency limits as multiples of the least latency; seconds of MIQCP; random draws;
    `late_share`: of the batches may be late, null: plans are made for the limit itself, as in the paper."""

    slack: tuple[float, ...] = (1.02, 1.1, 1.25, 1.5, 2.0, 3.0)
    miqcp_s: float = Field(20.0, gt=0)
    draws: int = Field(5, ge=2)
    late_share: float | None = LATE_SHARE


class LimitCell(Cell):
    """One solver under one limit."""

    slack: float
    solver: str
    miqcp_s: float
    draws: int
    late_share: float | None


def cells(settings: Settings) -> list[LimitCell]:
    """One for each model, text, limit and solver."""
    own = {name: getattr(settings, name) for name in ("miqcp_s", "draws", "late_share")}
    return [
        LimitCell(**fields, **own, slack=slack, solver=solver)
        for solver in SOLVERS
        for fields in cell_fields(settings)
        for slack in settings.slack
    ]


def compute(cell: LimitCell) -> Rows:
    """A row for each plan: its cost as planned, and what it comes to on the test batches."""
    routing = routing_of(cell)
    problem = problem_of(cell, predicted_popularity(cell, routing))
    limit_s = cell.slack * least_latency_s(problem)
    problem = problem.with_limit(limit_s)
    planned_s = planning_limit(cell, routing, problem, cell.late_share)
    about = cell.about | {"slack": cell.slack, "target_tokens_per_s": cell.batch_tokens / limit_s}
    about |= {"planning_limit_s": planned_s}
    name, options = SOLVERS[cell.solver]
    about |= {"solver": cell.solver}
    seeds = range(cell.seed, cell.seed + cell.draws) if cell.solver == "random" else [cell.seed]
    if name == "miqcp":
        options = {"time_limit_s": cell.miqcp_s}
    found = []
    batches = routing.batches(cell.batches, cell.batch_tokens, cell.seed)
    for seed in seeds:
        try:
            plan = solve_for(problem, planned_s, name, seed=seed, **options)
        except NoIncumbent as none:
            found.append(about | _nothing(problem, none))
            continue
        usd_per_gb_s = problem.platform.price_per_gb_s
        real = [realise(problem, plan, tokens) for tokens in batches.real]
        bills = [x.billed_gb_s * usd_per_gb_s / cell.batch_tokens * MILLION for x in real]
        found.append(
            about
            | {
                "found": True,
                "feasible": plan.feasible,
                "planned_usd": usd_per_million(problem, plan.billed_gb_s),
                "seed": seed,
            }
            | {"bound_usd": usd_per_million(problem, plan.lower_bound), "latency_s": plan.latency_s}
            | with_interval("realised_usd", bills, batches.independent)
            | late_columns([x.latency_s for x in real], limit_s, batches.independent)
            | {"batches": batches.kind}
        )
    return found


def _nothing(problem: DeploymentProblem, none: NoIncumbent) -> dict[str, Any]:
    return {"found": False, "feasible": False, "bound_usd": usd_per_million(problem, none.lower_bound), "seed": 0}


LATE = ("late_share", "late_share_low", "late_share_high")
GROUP = ["model", "text", "experts", "top_k", "slack", "target_tokens_per_s", "solver"]


def table(rows: Rows) -> pd.DataFrame:
    """A row for each solver and limit; of random methods the mean over draws that keep the limit, if any do."""
    import pandas as pd

    found: list[dict[str, Any]] = []
    for key, group in pd.DataFrame(rows).groupby(GROUP, sort=False):
        there = group[group["found"].astype(bool)]
        keeps = there[there["feasible"].astype(bool)]
        there = keeps if len(keeps) else there
        row = dict(zip(GROUP, key, strict=True)) | {"found": len(there) > 0}
        row["feasible_share"] = float(group["feasible"].astype(bool).mean())
        if len(there):
            row |= with_interval("planned_usd", there["planned_usd"].to_numpy(float))
            row |= {"bound_usd": there["bound_usd"].astype(float).min(), "latency_s": there["latency_s"].mean()}
            ends = ("realised_usd", "realised_usd_low", "realised_usd_high", "planning_limit_s")
            row |= {name: float(there[name].mean()) for name in (*ends, *LATE)}
            row |= {"batches": there["batches"].iloc[0]}
        found.append(row)
    return pd.DataFrame(found).sort_values(
        ["model", "text", "target_tokens_per_s"], kind="stable", ignore_index=True
    )


FIGURE = PaperFigure("12", Settings, cells, compute, table, claims, draw)
