"""All solvers of the deployment problem behind one interface: problem in, evaluated plan out.

A solver returns its idea alone, a Solution: how to deploy each layer, and a bound if it knows one. It is timed,
checked, evaluated and named here. One of your own is named as `module:function`, or by the entry point that its
package registers (group `serverless_moe.solvers`); it may return a DeploymentPlan as well.
"""

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar

from moe.errors import InputError, nearest, shortened
from moe.files import validated
from moe.plugins import load_object
from optimizer.baselines import (
    best_memory,
    best_uniform,
    lambdaml,
    memory_only,
    random_methods,
    reactive,
    replicas_only,
)
from optimizer.baselines.shapes import gillis, layer_blocks, whole_model
from optimizer.blocks import SHAPES, ShapeName
from optimizer.evaluation import Solution, with_evaluation
from optimizer.exact import PREFERRED, Beta, each_setting, solve_exact
from optimizer.exact.shapes import StagedSolution, solve_shapes
from optimizer.miqcp import PAPER_TIME_LIMIT_S, Backend, solve_miqcp
from optimizer.ods import solve_ods
from optimizer.robust import solve_robust
from optimizer.staged_evaluation import with_staged_evaluation
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.staged_plan import AnyPlan, StagedPlan, blocks_of

Solver = Callable[..., Solution | DeploymentPlan]
Found = TypeVar("Found", bound=Solution)


def _miqcp(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    backend: Backend = "scip",
    time_limit_s: float = PAPER_TIME_LIMIT_S,
    warm_start: Literal["ods"] | None = None,
) -> Solution:
    if warm_start not in (None, "ods"):
        raise InputError(f"warm_start: no warm start {shortened(warm_start)}{nearest(warm_start, ['ods'])}")
    start = None if warm_start is None else solve(problem, "ods", beta=beta)
    return solve_miqcp(problem, beta, backend, time_limit_s, start)


SOLVERS: dict[str, Solver] = {
    "exact": solve_exact,
    "ods": solve_ods,
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

STAGED: dict[str, Callable[..., StagedSolution]] = {
    "exact": solve_shapes,
    "whole-model": whole_model,
    "blocks": layer_blocks,
    "gillis": gillis,
}
"""Solvers whose plans have stages, for problems with `blocks`; the bill is the whole one."""

EXPERTS_BILL_ONLY = ("miqcp", "robust")
"""What cannot minimise the whole bill: programme (12) has no gates, nor have the samples' realised bills."""

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
        solver: a name in SOLVERS, `module:function` of your own (docs/planning.md), or an entry point's name.
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
        raise InputError(f"beta: expected 'per-layer' or 'global', got {shortened(beta)}")
    given = {"beta": beta, "seed": seed} | options
    arguments = {name: value for name, value in given.items() if name in takes}
    return timed(problem, solver, lambda each: _solution(solver, find_solver(solver)(each, **arguments)))[0]


def has_stages(problem: DeploymentProblem, solver: str, shapes: Sequence[ShapeName] | None = None) -> bool:
    """Whether a solver's plan of a problem has stages: `exact` with the whole bill, unless expert functions alone
    are asked for, and the rivals that cut the model otherwise."""
    if solver != "exact":
        return solver in STAGED
    if shapes is None:
        return problem.blocks is not None and problem.objective == "total"
    return not set(shapes) <= {"expert-functions"}


def solve_stages(
    problem: DeploymentProblem,
    solver: str = "exact",
    *,
    shapes: Sequence[ShapeName] | None = None,
    **options: Any,
) -> StagedPlan:
    """The plan with stages that a solver makes, evaluated, with bound, gap and seconds.

    Args:
        problem: with `blocks`, and the objective `total`.
        solver: a name in STAGED.
        shapes: with `exact`: how the model may be cut; None: in any way.
        options: what this solver takes besides; see its function.

    Raises InputError for an unknown option, another objective, and what fits no function; Infeasible where `exact`
    finds the latency limit out of reach.
    """
    blocks_of(problem)
    if problem.objective != "total":
        raise InputError(f"objective: expected total, which a plan with stages minimises, got {problem.objective}")
    if solver == "exact":
        options["shapes"] = shapes or SHAPES
    elif shapes is not None:
        raise InputError(f"shapes: expected with solver exact, got '{solver}', whose shape is its own")
    takes = [name for name in inspect.signature(STAGED[solver]).parameters if name not in ("problem", "pairs")]
    for name in options:
        if name not in takes:
            raise InputError(f"solver '{solver}': no option {shortened(name)} for stages{nearest(name, takes)}")
    started = time.perf_counter()
    found = STAGED[solver](problem, **options)
    return with_staged_evaluation(problem, found.plan(solver), found.lower_bound, time.perf_counter() - started)


def solve_any(
    problem: DeploymentProblem,
    solver: str = "exact",
    *,
    shapes: Sequence[ShapeName] | None = None,
    **options: Any,
) -> AnyPlan:
    """The plan that a solver makes: with stages where `has_stages` says so, else of expert functions (`solve`).

    >>> import serverless_moe as smoe
    >>> spec, tokens = smoe.load_spec("bert-moe"), [[5120, 2560, 1536, 1024]] * 12
    >>> problem = smoe.make_problem(spec, tokens, smoe.load_profile(), objective="total", shapes=["whole-model"])
    >>> smoe.plan(problem).shape_in_words
    '1 function of 1,769 MB'
    """
    if has_stages(problem, solver, shapes):
        return solve_stages(problem, solver, shapes=shapes, **options)
    return solve(problem.with_blocks(None), solver, **options)


def timed(
    problem: DeploymentProblem, name: str, solver: Callable[[DeploymentProblem], Found]
) -> tuple[DeploymentPlan, Found]:
    """A solver's plan, timed, checked, evaluated and named, and what the solver returned: rounds of ODS, ...

    With the objective `total` memory of the non-MoE functions and `reload` are chosen to suit the solver's layers.

    Args:
        problem: what the plan is for.
        name: of the plan's solver, unless the solution has one.
        solver: solves the problem, or with `total` one with nothing but layers to decide.

    Raises InputError for layers that do not fit the problem, an objective that the solver does not know, and what
    the solver raises.
    """
    if problem.objective == "total" and name in EXPERTS_BILL_ONLY:
        raise InputError(f"solver '{name}': expected objective gb_s or usd, got total")
    started = time.perf_counter()
    settles = problem.objective != "total" or name == "exact"
    found = solver(problem) if settles else each_setting(problem, PREFERRED, solver)
    solve_s = time.perf_counter() - started
    answer: dict[str, object] = {"solver": found.name or name, "layers": found.layers}
    answer |= {"non_moe_memory_mb": found.non_moe_memory_mb, "reload": found.reload}
    plan = validated(DeploymentPlan, answer, f"solver '{name}'")
    try:
        return with_evaluation(problem, plan, found.lower_bound, solve_s), found
    except InputError as error:
        raise InputError(f"solver '{name}': {error}") from None


def _solution(solver: str, found: Solution | DeploymentPlan) -> Solution:
    """What a solver returned, as a Solution. Of a plan the layers alone count, whatever it says of itself."""
    if isinstance(found, DeploymentPlan):
        return Solution(found.layers)
    if not isinstance(found, Solution):
        raise InputError(f"solver '{solver}': expected a Solution or a DeploymentPlan, got {type(found).__name__}")
    return found


def find_solver(name: str) -> Solver:
    """A packaged solver, `module:function`, or one that a package registers. Raises InputError."""
    if name in SOLVERS:
        return SOLVERS[name]
    if ":" in name:
        found: Solver = load_object(name, "solver")
        return found
    registered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in registered:
        known = [*SOLVERS, *STAGED, *registered]
        raise InputError(f"solver: no solver {shortened(name)}{nearest(name, known)}")
    try:
        loaded: Solver = registered[name].load()
    except Exception as error:  # of the package's own code
        raise InputError(f"solver '{name}': {registered[name].value}: {type(error).__name__}: {error}") from None
    if not inspect.isfunction(loaded):
        raise InputError(f"solver '{name}': expected {registered[name].value} to be a function")
    return loaded


def check_options(solver: str, options: Iterable[str]) -> list[str]:
    """The options that a solver takes. Raises InputError for an unknown solver and for any other option."""
    takes = list(inspect.signature(find_solver(solver)).parameters)
    for name in options:
        if name not in takes:
            known = [x for x in takes if x not in ("problem", "beta", "seed")]
            raise InputError(f"solver '{solver}': no option {shortened(name)}{nearest(name, known)}")
    return takes
