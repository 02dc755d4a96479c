"""A simulation or a plan over the draws of a calibrated profile: how far what it says may be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.tools import console
from moe.errors import InputError
from optimizer import Infeasible
from optimizer.evaluation import evaluate
from optimizer.problem import remade
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.uncertainty import drawn, most_draws
from simulator.serving.simulate import SimulatedRun

LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class OverDraws:
    """What came of each draw.

    Attributes:
        rows: numbers of each draw. what: the rows' numbers that are summed up.
    """

    rows: tuple[dict[str, Any], ...]
    what: tuple[str, ...]

    @property
    def quantiles(self) -> dict[str, dict[str, float]]:
        """5%, 50% and 95% over the draws that have the number."""
        known = {name: [row[name] for row in self.rows if row[name] is not None] for name in self.what}
        return {
            name: {f"p{100 * p:g}": float(np.quantile(values, p)) for p in LEVELS}
            for name, values in known.items()
            if values
        }

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {"draws": len(self.rows), "quantiles": self.quantiles, "rows": list(self.rows)}


def problems(
    problem: DeploymentProblem, profile: PlatformProfile | None, count: int
) -> Iterator[tuple[DeploymentProblem, PlatformProfile]]:
    """The problem and the profile of each draw. Raises InputError: there are not so many."""
    if profile is None:
        raise InputError("--set draws: expected together with --profile, a calibrated one")
    if count > most_draws(profile):
        drawn(profile, count - 1)  # says what is wrong
    began = time.perf_counter()
    with console.progress("draws of the profile", "draws") as update:
        for k in range(count):
            chosen = drawn(profile, k)
            yield remade(problem, profile, chosen), chosen
            update(k + 1, count, (k + 1) / max(time.perf_counter() - began, 1e-9))


def simulate_draws(
    problem: DeploymentProblem,
    profile: PlatformProfile | None,
    count: int,
    play: Callable[[DeploymentProblem, PlatformProfile], SimulatedRun],
) -> OverDraws:
    """A plan played on each draw, with the same random numbers: what differs is what the profile does not know."""
    rows = []
    for each, chosen in problems(problem, profile, count):
        run = play(each, chosen)
        rows.append(
            {
                "billed_gb_s": run.bill.billed_gb_s,
                "billed_cost_usd": run.bill.billed_cost_usd,
                "full_cost_usd": run.bill.full_cost_usd,
                "total_cost_usd": run.bill.total_cost_usd,
                "latency_s": run.mean_latency_s,
                "violations": len(run.violations),
            }
        )
    return OverDraws(tuple(rows), tuple(rows[0])[:-1])


def plan_draws(
    problem: DeploymentProblem,
    plan: DeploymentPlan,
    profile: PlatformProfile | None,
    count: int,
    solve: Callable[[DeploymentProblem], DeploymentPlan],
) -> OverDraws:
    """The problem solved again on each draw, beside the plan that was made: its cost there, and if it stays."""
    rows = []
    for each, _ in problems(problem, profile, count):
        kept = evaluate(each, plan)
        try:
            best: DeploymentPlan | None = solve(each)
        except Infeasible:
            best = None
        cost, own = kept.objective_value, None if best is None else evaluate(each, best).objective_value
        rows.append(
            {
                "cost": own,
                "latency_s": None if best is None else best.latency_s,
                "this_plan_cost": cost,
                "this_plan_latency_s": kept.latency_s,
                "this_plan_over_best": cost / own - 1 if own and not kept.violations else None,
                "this_plan_feasible": not kept.violations,
                "same_plan": best is not None and best.layers == plan.layers,
            }
        )
    return OverDraws(tuple(rows), tuple(rows[0])[:5])


def show(found: OverDraws, unit: str = "") -> None:
    """A table of quantiles over the draws."""
    from rich.table import Table

    table = Table(
        "over draws", *(f"p{100 * p:g}" for p in LEVELS), title=f"{len(found.rows)} draws of the profile"
    )
    for name, levels in found.quantiles.items():
        table.add_row(
            name + (f" ({unit})" if unit and "cost" in name else ""), *(f"{x:.6g}" for x in levels.values())
        )
    console.out.print(table)


def show_plans(found: OverDraws, unit: str) -> None:
    """The same, and how often the plan stays."""
    show(found, unit)
    rows: Sequence[dict[str, Any]] = found.rows
    same, fits = sum(row["same_plan"] for row in rows), sum(row["this_plan_feasible"] for row in rows)
    none = sum(row["cost"] is None for row in rows)
    console.out.print(
        f"The plan stays the best on {same} of {len(rows)} draws and keeps every limit on {fits}"
        + (f"; on {none} no plan does." if none else ".")
    )
