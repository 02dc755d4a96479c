"""All solvers of the deployment problem behind one interface: problem in, evaluated plan out."""

from collections.abc import Callable
from typing import Any

from moe.errors import InputError, nearest
from optimizer.exact import Beta, solve_exact
from optimizer.ods import solve_ods
from simulator.plan import DeploymentPlan, DeploymentProblem

Solver = Callable[..., DeploymentPlan]


def _exact(problem: DeploymentProblem, beta: Beta, seed: int, **options: Any) -> DeploymentPlan:
    return solve_exact(problem, beta, **options)


def _ods(problem: DeploymentProblem, beta: Beta, seed: int, **options: Any) -> DeploymentPlan:
    return solve_ods(problem, beta, **options).plan


SOLVERS: dict[str, Solver] = {"exact": _exact, "ods": _ods}


def solve(
    problem: DeploymentProblem,
    solver: str = "exact",
    *,
    beta: Beta = "per-layer",
    seed: int = 0,
    **options: Any,
) -> DeploymentPlan:
    """The deployment plan that a solver makes, with its cost, latency, violations, bound, gap and seconds.

    Args:
        problem: the problem; its `latency_limit_s` and `objective` say what is sought.
        solver: a name in SOLVERS.
        beta: `per-layer`: each pipelined layer has its own minibatch size; `global`: all share one (paper).
        seed: of solvers that draw random numbers.
        options: what this solver takes besides; see its function.

    Raises InputError for an unknown solver or option and for an expert that fits no memory size; Infeasible
    (an InputError that carries the least latency) where an exact solver finds the latency limit out of reach.
    """
    if solver not in SOLVERS:
        raise InputError(f"solver: no solver '{solver}'{nearest(solver, SOLVERS)}")
    if beta not in ("per-layer", "global"):
        raise InputError(f"beta: expected 'per-layer' or 'global', got '{beta}'")
    return SOLVERS[solver](problem, beta, seed, **options)
