"""Fig. 12: cost over the target throughput: ODS, MIQCP, random methods; and the best uniform plan, the optimum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from experiments.paper.axes import plain_log
from experiments.paper.claims import Claim, counted
from experiments.paper.figure import PaperFigure, Rows
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
from experiments.tools import style
from optimizer import NoIncumbent
from optimizer.exact import least_latency_s
from optimizer.margin import LATE_SHARE, solve_for
from optimizer.realised import realise
from simulator.plan import DeploymentProblem

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "MIQCP": ("miqcp", {}),
    "optimum": ("exact", {}),
    "ODS": ("ods", {}),
    "random": ("random", {}),
    "best uniform": ("best-uniform", {}),
    "best uniform, popularity known": ("best-uniform", {"popularity": "known"}),
}
"""By title; the slow one first, so that the others are done beside it."""

SAME = 1e-6


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


def claims(data: pd.DataFrame) -> list[Claim]:
    """ODS best; MIQCP fails at high targets."""
    found = []
    for (model, text), group in data.groupby(["model", "text"], sort=False):
        where = f"({model}, {text})"
        by = {(row.slack, row.solver): row for row in group.itertuples()}
        limits = sorted(group["slack"].unique())
        for rival in ("MIQCP", "random", "best uniform", "best uniform, popularity known"):
            won = [_no_dearer(by[limit, "ODS"], by[limit, rival]) for limit in limits]
            over = [_over(by[limit, rival], by[limit, "ODS"]) for limit in limits]
            costs = ", ".join("none" if x is None else f"{x - 1:+.1%}" for x in over)
            reason = f"{rival} over ODS, from the highest target down: {costs}"
            if not any(over):
                reason = f"{rival} has at no target a plan that keeps it"
            found.append(
                counted("12", f"ODS is no dearer than {rival} {where}", "at every target", won, "targets", reason)
            )  # fmt: skip
        missed = [limit for limit in limits if not _usable(by[limit, "MIQCP"])]
        high = [limit for limit in limits[: max(1, len(limits) // 3)] if limit in missed]
        found.append(
            Claim("12", f"MIQCP finds no plan at high targets {where}", "yes",
                  f"no plan at {len(missed)} of {len(limits)} targets", bool(high),
                  _why_none(missed, limits))
        )  # fmt: skip
        gap = [_over(by[limit, "ODS"], by[limit, "optimum"]) or 1.0 for limit in limits]
        found.append(
            Claim("12", f"ODS over the certified optimum {where}", "", f"at most {max(gap) - 1:.2%}", None,
                  value=max(gap) - 1)
        )  # fmt: skip
    return found


def _why_none(missed: list[float], limits: list[float]) -> str:
    """Where MIQCP has no plan that keeps the limit."""
    if not missed:
        return "SCIP finds a plan at each"
    if len(missed) == len(limits):
        return "SCIP, whose presolving is off since it is wrong here, finds none at low targets either"
    return f"none at {', '.join(f'{x:g}' for x in missed)} times the least latency"


def _usable(row: Any) -> bool:
    return bool(row.found) and row.feasible_share > 0


def _no_dearer(ods: Any, rival: Any) -> bool:
    """Whether ODS has a plan that keeps the limit, and the rival none that costs less."""
    if not _usable(ods):
        return False
    return not _usable(rival) or bool(ods.planned_usd <= rival.planned_usd * (1 + SAME))


def _over(row: Any, other: Any) -> float | None:
    """Cost over another's; None where there is no plan that keeps the limit."""
    return float(row.planned_usd / other.planned_usd) if _usable(row) and _usable(other) else None


STYLES = {
    "ODS": (style.BLUE, "o", "-"),
    "MIQCP": (style.RED, "s", "-"),
    "random": (style.SKY, "^", "-"),
    "best uniform": (style.GREY, "D", "-"),
    "best uniform, popularity known": (style.ORANGE, "v", "-"),
    "optimum": ("black", "", ":"),
}


def draw(data: pd.DataFrame) -> Figure:
    """Cost over target throughput, a panel for each model; hollow: the plan misses the target; x: no plan."""
    panels = list(data.groupby(["model", "text"], sort=False))
    figure = style.new_figure(3.7 * len(panels) + 0.4, 3.2)
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, ((model, text), group) in zip(every, panels, strict=True):
        for solver, (colour, marker, line) in STYLES.items():
            rows = group[group["solver"] == solver]
            low, high = (np.abs(rows["planned_usd"] - rows[f"planned_usd_{end}"]) for end in ("low", "high"))
            x = rows["target_tokens_per_s"]
            axes.errorbar(x, rows["planned_usd"], [low, high], color=colour, linestyle=line, linewidth=1.3,
                          capsize=2, label=solver, zorder=4 if solver == "optimum" else 3)  # fmt: skip
            for row in rows.itertuples():
                face = colour if row.feasible_share == 1 else "white"
                if row.found and marker:
                    axes.plot(row.target_tokens_per_s, row.planned_usd, marker, color=colour, markerfacecolor=face,
                              markersize=5, zorder=3)  # fmt: skip
        failed = group[(group["solver"] == "MIQCP") & ~group["found"].astype(bool)]["target_tokens_per_s"]
        axes.plot(
            failed, [0.03] * len(failed), "x", color=style.RED, transform=axes.get_xaxis_transform(), label="_"
        )
        axes.set_xlabel("target throughput, tokens/s")
        axes.set_title(f"{model}, {text}", loc="left", fontsize=9)
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        axes.grid(alpha=0.25)
    every[0].set_ylabel("billed cost, USD per million tokens")
    every[0].legend(
        frameon=False,
        fontsize=7.5,
        title="hollow: misses the target; x: MIQCP found no plan in its time",
        title_fontsize=7,
        alignment="left",
    )
    return figure


FIGURE = PaperFigure("12", Settings, cells, compute, table, claims, draw)
