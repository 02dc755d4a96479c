"""All solvers of the deployment problem behind one interface: problem in, evaluated plan out."""

import inspect
from collections.abc import Callable
from typing import Any

from moe.errors import InputError, nearest
from optimizer.baselines import best_uniform, lambdaml, random_methods
from optimizer.exact import Beta, solve_exact
from optimizer.ods import FixedMethod, Mode, solve_ods
from optimizer.replicas_only import replicas_only
from optimizer.rivals import best_memory, memory_only, reactive
from optimizer.robust import solve_robust
from simulator.plan import DeploymentPlan, DeploymentProblem

Solver = Callable[..., DeploymentPlan]


def _ods(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    methods: Mode = "per-layer",
    fixed_method: FixedMethod | None = None,
) -> DeploymentPlan:
    return solve_ods(problem, beta, methods, fixed_method).plan


SOLVERS: dict[str, Solver] = {
    "exact": solve_exact,
    "ods": _ods,
    "lambdaml": lambdaml,
    "best-uniform": best_uniform,
    "best-memory": best_memory,
    "memory-only": memory_only,
    "replicas-only": replicas_only,
    "reactive": reactive,
    "robust": solve_robust,
    "random": random_methods,
}
"""By name; each takes the problem, `beta`, `seed` if it draws random numbers, and options of its own."""


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
    takes = list(inspect.signature(SOLVERS[solver]).parameters)
    for name in options:
        if name not in takes:
            known = [x for x in takes if x not in ("problem", "beta", "seed")]
            raise InputError(f"solver '{solver}': no option '{name}'{nearest(name, known)}")
    if "seed" in takes:
        options["seed"] = seed
    return SOLVERS[solver](problem, beta=beta, **options)
