"""All solvers of the deployment problem behind one interface: problem in, evaluated plan out.

A solver of one's own is a function that takes a DeploymentProblem and returns a DeploymentPlan: named as
`module:function`, or by the entry point that its package registers (group `serverless_moe.solvers`).
"""

import inspect
import time
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, Literal

from moe.errors import InputError, nearest
from moe.plugins import load_object
from optimizer.baselines.one_decision_less import best_memory, memory_only, reactive
from optimizer.baselines.paper import best_uniform, lambdaml, random_methods
from optimizer.baselines.replicas_only import replicas_only
from optimizer.cost_model import with_evaluation
from optimizer.exact.solve import Beta, solve_exact
from optimizer.miqcp import PAPER_TIME_LIMIT_S, Backend, solve_miqcp
from optimizer.ods import PAPER_INNER_LIMIT_S, Inner, Mode, solve_ods
from optimizer.robust.plan import solve_robust
from simulator.plan import DeploymentPlan, DeploymentProblem, check_plan_fits

Solver = Callable[..., DeploymentPlan]


def _ods(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    methods: Mode = "per-layer",
    inner: Inner = "exact",
    time_limit_s: float = PAPER_INNER_LIMIT_S,
) -> DeploymentPlan:
    return solve_ods(problem, beta, methods, inner, time_limit_s).plan


def _miqcp(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    backend: Backend = "scip",
    time_limit_s: float = PAPER_TIME_LIMIT_S,
    warm_start: Literal["ods"] | None = None,
) -> DeploymentPlan:
    if warm_start not in (None, "ods"):
        raise InputError(f"warm_start: no warm start '{warm_start}'{nearest(warm_start, ['ods'])}")
    start = None if warm_start is None else solve_ods(problem, beta).plan
    return solve_miqcp(problem, beta, backend, time_limit_s, start)


SOLVERS: dict[str, Solver] = {
    "exact": solve_exact,
    "ods": _ods,
    "miqcp": _miqcp,
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

ENTRY_POINTS = "serverless_moe.solvers"


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
        solver: a name in SOLVERS, `module:function`, or an entry point's name.
        beta: `per-layer`: each pipelined layer has its own minibatch size; `global`: all share one (paper).
        seed: of solvers that draw random numbers.
        options: what this solver takes besides; see its function.

    Raises InputError for an unknown solver or option and for an expert that fits no memory size; Infeasible
    (an InputError that carries the least latency) where `exact` or `miqcp` finds the latency limit out of reach;
    NoIncumbent where a solver's time limit passes without a plan.

    >>> import serverless_moe as smoe
    >>> spec, tokens = smoe.load_spec("bert-moe"), [[5120, 2560, 1536, 1024]] * 12
    >>> problem = smoe.make_problem(spec, tokens, smoe.load_profile(), latency_limit_s=60)
    >>> plan = smoe.plan(problem)
    >>> plan.solver, plan.gap, plan.latency_s <= 60
    ('exact', 0.0, True)
    >>> smoe.plan(problem, "ods", beta="global").billed_gb_s >= plan.billed_gb_s
    True
    """
    takes = check_options(solver, options)
    if beta not in ("per-layer", "global"):
        raise InputError(f"beta: expected 'per-layer' or 'global', got '{beta}'")
    given = {"beta": beta, "seed": seed} | options
    arguments = {name: value for name, value in given.items() if name in takes}
    if solver in SOLVERS:
        return SOLVERS[solver](problem, **arguments)
    return _own_plan(problem, solver, arguments)


def _own_plan(problem: DeploymentProblem, solver: str, arguments: dict[str, Any]) -> DeploymentPlan:
    """The plan of a solver of the user's own, checked to fit the problem and evaluated here."""
    started = time.perf_counter()
    plan = find_solver(solver)(problem, **arguments)
    if not isinstance(plan, DeploymentPlan):
        raise InputError(f"solver '{solver}': expected a DeploymentPlan, got {type(plan).__name__}")
    try:
        check_plan_fits(problem, plan)
    except InputError as error:
        raise InputError(f"solver '{solver}': {error}") from None
    plan = plan.model_copy(update={"solver": solver})
    return with_evaluation(problem, plan, solve_s=time.perf_counter() - started)


def find_solver(name: str) -> Solver:
    """A packaged solver, `module:function`, or one that a package registers. Raises InputError."""
    if name in SOLVERS:
        return SOLVERS[name]
    if ":" in name:
        found: Solver = load_object(name, "solver")
        return found
    registered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in registered:
        raise InputError(f"solver: no solver '{name}'{nearest(name, [*SOLVERS, *registered])}")
    loaded: Solver = registered[name].load()
    return loaded


def check_options(solver: str, options: Iterable[str]) -> list[str]:
    """The options that a solver takes. Raises InputError for an unknown solver and for any other option."""
    takes = list(inspect.signature(find_solver(solver)).parameters)
    for name in options:
        if name not in takes:
            known = [x for x in takes if x not in ("problem", "beta", "seed")]
            raise InputError(f"solver '{solver}': no option '{name}'{nearest(name, known)}")
    return takes
