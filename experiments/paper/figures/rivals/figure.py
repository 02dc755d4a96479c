"""Every rival's plans, as planned and as served, beside the certified front. This project's figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.cluster import cluster_rows
from experiments.paper.figure import PaperFigure, Rows
from experiments.paper.figures.rivals.claims import claims
from experiments.paper.figures.rivals.contenders import Answer, bills, broken, played, realised, rivals
from experiments.paper.figures.rivals.picture import draw
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
from experiments.run.routing import HeldOutBatches
from moe.errors import InputError
from optimizer.blocks import make_blocks
from optimizer.exact import ModelFronts, least_latency_s, model_fronts
from optimizer.margin import LATE_SHARE
from optimizer.problem import PAPER_MEMORY_MB
from simulator.plan import DeploymentPlan, DeploymentProblem

if TYPE_CHECKING:
    import pandas as pd

LIMITS_OF_FRONT = 200


class Settings(FigureSettings):
    """The rivals' figure.

    Attributes:
        slack: latency limits as multiples of the least latency.
        draws: of random methods.
        memory_mb: sizes that every plan may choose from; the paper's, and the 10,240 MB of LambdaML's rule today.
        late_share: of the batches may be late; null: plans are made for the limit itself.
    """

    slack: tuple[float, ...] = (1.05, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0)
    draws: int = Field(5, ge=2)
    memory_mb: tuple[int, ...] = (*PAPER_MEMORY_MB, 10240)
    late_share: float | None = LATE_SHARE


class RivalCell(Cell):
    """Every rival's plan under one limit; without a limit: the front and the cluster."""

    slack: float | None
    most: float
    draws: int
    memory_mb: tuple[int, ...]
    late_share: float | None


def cells(settings: Settings) -> list[RivalCell]:
    """One for each model, text and limit, and one for the front and the cluster."""
    own = {name: getattr(settings, name) for name in ("draws", "memory_mb", "late_share")}
    own["most"] = max(settings.slack)
    return [
        RivalCell(**fields, **own, slack=slack)
        for fields in cell_fields(settings)
        for slack in (None, *settings.slack)
    ]


def compute(cell: RivalCell) -> Rows:
    """Rows `front`: the certified optimum under many limits; `cluster`; `plan`: of a rival under a limit."""
    routing = routing_of(cell)
    batches = routing.batches(cell.batches, cell.batch_tokens, cell.seed)
    problem = problem_of(cell, predicted_popularity(cell, routing), cell.memory_mb)
    fronts = model_fronts(problem)
    if cell.slack is None:
        rows = _front(cell, problem, fronts) + [
            {"row": "cluster", "rival": row["name"], "realised_usd": row["billed_usd"]}
            | {f"realised_usd_{end}": row[f"billed_usd_{end}"] for end in ("low", "high")}
            | {name: row[name] for name in ("tokens_per_s", "tokens_per_s_low", "tokens_per_s_high")}
            for row in cluster_rows(cell, batches)
        ]
    else:
        problem = problem.with_limit(cell.slack * least_latency_s(problem))
        tight = problem.with_limit(planning_limit(cell, routing, problem, cell.late_share))
        rows = _plans(cell, problem, tight, fronts, routing.popularity(cell.batch_tokens), batches)
    return [cell.about | {"slack": cell.slack, "batches": batches.kind} | row for row in rows]


def _front(cell: RivalCell, problem: DeploymentProblem, fronts: ModelFronts) -> list[dict[str, Any]]:
    """The least cost of any plan of single experts, under limits as far apart as their throughputs are."""
    least_s = least_latency_s(problem)
    found = []
    for tokens_per_s in np.linspace(1 / cell.most, 1, LIMITS_OF_FRONT) * cell.batch_tokens / least_s:
        limit_s = cell.batch_tokens / tokens_per_s * (1 + 1e-9)
        about = {"row": "front", "rival": "front", "limit_s": limit_s, "target_tokens_per_s": tokens_per_s}
        found.append(about | {"planned_usd": usd_per_million(problem, fronts.bound(problem.with_limit(limit_s)))})
    return found


def _plans(
    cell: RivalCell,
    problem: DeploymentProblem,
    tight: DeploymentProblem,
    fronts: ModelFronts,
    history: np.ndarray,
    batches: HeldOutBatches,
) -> list[dict[str, Any]]:
    """A row for each rival's plan, made for the tighter limit; for random methods one for each draw."""
    limit_s = problem.latency_limit_s
    assert limit_s is not None
    about = {"row": "plan", "limit_s": limit_s, "target_tokens_per_s": cell.batch_tokens / limit_s}
    about |= {"planning_limit_s": tight.latency_limit_s}
    optimum = fronts.bound(tight)
    popularity = np.array([layer.tokens for layer in problem.layers])
    blocks = make_blocks(cell.spec, popularity, cell.platform, cell.batch_tokens)
    found: list[dict[str, Any]] = []
    for draw_ in range(cell.draws):
        for name, rival in rivals(tight, blocks, history, cell.seed + draw_).items():
            if draw_ and name != "random":
                continue
            mine = about | {"rival": name, "draw": draw_}
            try:
                answer = rival(tight)
            except InputError as error:
                found.append(mine | {"found": False, "feasible": False, "failure": str(error)})
                continue
            found.append(
                mine
                | _planned(problem, answer, fronts, optimum)
                | _served(cell, problem, answer, batches, limit_s)
            )
    return found


def _planned(
    problem: DeploymentProblem, answer: Answer, fronts: ModelFronts, optimum: float | None
) -> dict[str, Any]:
    """What a plan costs by itself, and over the optimum: of those for its limit, and of all as fast as it is."""
    own, plan = played(problem, answer)
    violations = broken(own.with_limit(problem.latency_limit_s), plan)
    gb_s, _ = bills(answer)
    assert plan.latency_s is not None
    as_fast = fronts.bound(problem.with_limit(plan.latency_s * (1 + 1e-9)))
    return {
        "found": True,
        "feasible": not violations,
        "breaks": ", ".join(sorted({kind for _, _, kind in violations})),
        "single_experts": isinstance(answer, DeploymentPlan),
        "planned_usd": usd_per_million(problem, gb_s),
        "planned_latency_s": plan.latency_s,
        "planned_tokens_per_s": problem.served_tokens / plan.latency_s,
        "above_optimum": None if optimum is None else gb_s / optimum - 1,
        "above_front": None if as_fast is None else gb_s / as_fast - 1,
    }


def _served(
    cell: RivalCell, problem: DeploymentProblem, answer: Answer, batches: HeldOutBatches, limit_s: float
) -> dict[str, Any]:
    """What it comes to on the test batches, by the closed form; of those that do not fail."""
    real = [x for tokens in batches.real if not (x := realised(problem, answer, tokens)).failed]
    failed = 1 - len(real) / len(batches.real)
    if not real:
        return {"realised_failed": failed}
    usd = problem.platform.price_per_gb_s / cell.batch_tokens * MILLION
    return (
        with_interval("realised_usd", [x.billed_gb_s * usd for x in real], batches.independent)
        | with_interval("tokens_per_s", [cell.batch_tokens / x.latency_s for x in real], batches.independent)
        | late_columns([x.latency_s for x in real], limit_s, batches.independent)
        | {"realised_failed": failed}
    )


SAME_FOR_DRAWS = ("target_tokens_per_s", "limit_s", "planning_limit_s", "single_experts", "batches", "failure")
MEANS = (
    *("planned_latency_s", "planned_tokens_per_s", "above_optimum", "above_front"),
    *("realised_usd", "realised_usd_low", "realised_usd_high"),
    *("tokens_per_s", "tokens_per_s_low", "tokens_per_s_high", "late_share", "late_share_low"),
    *("late_share_high", "realised_failed"),
)


def table(rows: Rows) -> pd.DataFrame:
    """A row for each rival and limit; then the front's and the cluster's rows.

    Of random methods: means over draws that keep the limit, if any do; the interval of the planned cost over them;
    what any draw breaks; `least_above_front`, the least of any draw.
    """
    import pandas as pd

    data = pd.DataFrame(rows)
    plans, rest = data[data["row"] == "plan"], data[data["row"] != "plan"]
    about = ["model", "text", "experts", "top_k", "row", "slack", "rival"]
    found = []
    for key, group in plans.groupby(about, sort=False):
        row = dict(zip(about, key, strict=True)) | {x: group[x].iloc[0] for x in SAME_FOR_DRAWS if x in group}
        row |= {
            "found": bool(group["found"].all()),
            "feasible_share": float(group["feasible"].astype(bool).mean()),
        }
        there = group[group["found"].astype(bool)]
        if len(there):
            row["least_above_front"] = there["above_front"].astype(float).min()
            row["breaks"] = ", ".join(sorted({kind for x in there["breaks"] for kind in x.split(", ") if kind}))
            keeps = there[there["feasible"].astype(bool)]
            there = keeps if len(keeps) else there
            row |= with_interval("planned_usd", there["planned_usd"].to_numpy(float))
            row |= {x: there[x].astype(float).mean() for x in MEANS}
        found.append(row)
    return pd.concat([pd.DataFrame(found), rest.drop(columns=["draw", "found", "feasible"])], ignore_index=True)


FIGURE = PaperFigure("rivals", Settings, cells, compute, table, claims, draw)
