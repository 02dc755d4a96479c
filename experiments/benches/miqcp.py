"""MIQCP beside ODS and the exact solver, at equal time (the paper's Fig. 12 at one limit)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optimizer import NoIncumbent, solve
from optimizer.miqcp import Backend
from simulator.plan import DeploymentPlan, DeploymentProblem


@dataclass(frozen=True)
class Rival:
    """How one solver did.

    Attributes:
        name: of the solver.
        cost, lower_bound: in the objective's unit; None: no plan, no bound.
        gap: by the solver's own bound; over_optimum: cost over the exact solver's, minus 1.
        feasible: None without a plan.
        seconds: it took, wall time; a warm start's included.
    """

    name: str
    cost: float | None
    lower_bound: float | None
    gap: float | None
    over_optimum: float | None
    feasible: bool | None
    seconds: float


def at_equal_time(
    problem: DeploymentProblem, time_limit_s: float = 20.0, backend: Backend = "scip"
) -> list[Rival]:
    """Exact, ODS, MIQCP, and MIQCP warm-started with ODS's plan, whose seconds count against it.

    Args:
        problem: with the latency limit to compare at.
        time_limit_s: of each MIQCP.
        backend: `scip` or `gurobi`.

    Raises Infeasible where the limit is out of reach, InputError where the back end cannot be used.
    """
    jobs: dict[str, Callable[[], DeploymentPlan]] = {
        "exact": lambda: solve(problem, "exact"),
        "ods": lambda: solve(problem, "ods"),
        "miqcp": lambda: solve(problem, "miqcp", backend=backend, time_limit_s=time_limit_s),
        "miqcp from ods": lambda: solve(
            problem, "miqcp", backend=backend, time_limit_s=time_limit_s, warm_start="ods"
        ),
    }
    found: list[Rival] = []
    optimum = 0.0
    for name, job in jobs.items():
        try:
            plan = job()
        except NoIncumbent as error:
            found.append(Rival(name, None, error.lower_bound, None, None, None, error.time_limit_s))
            continue
        cost = plan.objective_value
        optimum = optimum if found else cost
        over = cost / optimum - 1 if optimum else 0.0
        found.append(Rival(name, cost, plan.lower_bound, plan.gap, over, plan.feasible, plan.solve_s or 0.0))
    return found
