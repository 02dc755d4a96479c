"""Solving a problem for the command line: the plan, and what ODS has to say beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from moe.errors import InputError
from moe.files import write_whole
from optimizer.exact import Beta
from optimizer.ods import OdsSolution, solve_ods
from optimizer.solvers import check_options, solve, timed
from simulator.plan import OBJECTIVE_UNIT, DeploymentPlan, DeploymentProblem


def solve_traced(
    problem: DeploymentProblem, solver: str, trace: bool, *, beta: Beta, seed: int, **options: Any
) -> tuple[DeploymentPlan, OdsSolution | None]:
    """The plan, and with `ods` the rounds that led to it.

    Args:
        problem, solver, beta, seed: as `solve` takes them.
        trace: rounds are wanted, which only `ods` has.
        options: of the solver; None where not given.
    """
    given = {name: value for name, value in options.items() if value is not None}
    check_options(solver, given)
    if solver == "ods":
        return timed(problem, solver, partial(solve_ods, beta=beta, **given))
    if trace:
        raise InputError(f"--set trace: solver '{solver}' has no rounds; expected --solver ods")
    return solve(problem, solver, beta=beta, seed=seed, **given), None


def write_trace(path: Path, problem: DeploymentProblem, plan: DeploymentPlan, result: OdsSolution) -> None:
    """The rounds of Alg. 1, and Theorem 1's ratio beside the true gap, as JSON (docs/planning.md)."""
    text = json.dumps(trace_of(problem, plan, result), indent=1, allow_nan=False)
    write_whole(path, text + "\n")


def trace_of(problem: DeploymentProblem, plan: DeploymentPlan, result: OdsSolution) -> dict[str, Any]:
    """What `--set trace=FILE` writes; cost and optimum in the objective's unit."""
    return {
        "solver": plan.solver,
        "objective": plan.objective,
        "latency_limit_s": problem.latency_limit_s,
        "feasible": plan.feasible,
        "rounds": [asdict(x) for x in result.rounds],
        "single_method": result.single_method,
        "cost": plan.objective_value,
        "optimum": plan.lower_bound,
        "cost_over_optimum": _over_optimum(plan),
        "paper_ratio": result.paper_ratio,
    }


def show_ods(problem: DeploymentProblem, plan: DeploymentPlan, result: OdsSolution) -> None:
    """The rounds for a person, and Theorem 1's ratio beside the true one."""
    unit = OBJECTIVE_UNIT[problem.objective]
    for k, x in enumerate(result.rounds):
        then = f"layer {x.layer} gives up {x.method}" if x.layer is not None else "done"
        if x.layer is None and result.single_method:
            then = "no method is left to give up: the best single method is taken"
        click.echo(f"  round {k + 1}: {x.cost:.6g} {unit}, {x.latency_s:.6g} s; {then}")
    over = _over_optimum(plan)
    true = f"{over:.4f} x the optimum" if over is not None else "the limit is out of reach"
    click.echo(f"  Theorem 1's ratio (the paper's claim): {result.paper_ratio:.4f}; in truth: {true}")


def _over_optimum(plan: DeploymentPlan) -> float | None:
    """Cost over the optimum; None where a plan misses the limit or nothing costs anything."""
    cost = plan.objective_value
    return cost / plan.lower_bound if plan.feasible and cost and plan.lower_bound else None
