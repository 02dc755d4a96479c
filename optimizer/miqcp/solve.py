"""Solving problem (12) by SCIP or Gurobi, and what their answers are held against."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from moe.errors import InputError, nearest, shortened
from optimizer.evaluation import Solution, evaluate, fixed_latency_s, latency_budget_s
from optimizer.exact import Beta, Infeasible, ModelFronts, cheapest_layers, model_fronts
from optimizer.miqcp.decisions import Methods, decisions, layers_of
from optimizer.miqcp.problem12 import describe, money_unit, usable_methods
from optimizer.miqcp.programme import Backend, Point, SolverProgramme, Values
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, LayerPlan

PAPER_TIME_LIMIT_S = 180.0
AGREEMENT = 1e-5
"""By what share a solver's cost and latency of a plan, and its bound, may be off: more is a wrong programme."""


class NoIncumbent(RuntimeError):
    """The solver found no plan within its time limit, nor that there is none. A figure shows no bar for it.

    Attributes:
        solver: `miqcp-scip` or `miqcp-gurobi`.
        time_limit_s: that it had, s.
        lower_bound: in the objective's unit, None if the solver knows none.
    """

    def __init__(self, solver: str, time_limit_s: float, lower_bound: float | None) -> None:
        super().__init__(f"{solver}: no plan found within the time limit of {time_limit_s:g} s")
        self.solver, self.time_limit_s, self.lower_bound = solver, time_limit_s, lower_bound


def solve_miqcp(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    backend: Backend = "scip",
    time_limit_s: float = PAPER_TIME_LIMIT_S,
    start: DeploymentPlan | None = None,
    methods: Sequence[Methods] | None = None,
) -> Solution:
    """The best plan that the solver finds, with the solver's bound.

    Args:
        problem: the problem.
        beta: a minibatch size for each pipelined layer, or one for all (the paper).
        backend: `scip` or `gurobi`.
        time_limit_s: wall time, writing the programme down included, and the seconds that `start` took.
        start: an evaluated plan to begin with, if it is feasible; the answer is then no worse.
        methods: those that each layer chooses from; all that it can use by default.

    Raises Infeasible where the solver proves that no plan meets the limit, NoIncumbent where it finds none in
    time, InputError where an expert fits no memory size or the back end cannot be used.
    """
    if not time_limit_s > 0:
        raise InputError(f"time_limit_s: expected seconds > 0, got {time_limit_s:g}")
    began = time.perf_counter()
    solver = f"miqcp-{backend}"
    methods = methods or usable_methods(problem)
    if not any(layer.tokens.any() for layer in problem.layers):
        return _nothing_to_decide(problem, beta, methods, solver)
    programme = empty_programme(backend)
    describe(programme, problem, beta, methods)
    values = None
    if start is not None:
        began -= start.solve_s or 0.0
        values = start_values(problem, beta, methods, start) if start.feasible else None
    found = programme.solve(time_limit_s - (time.perf_counter() - began), values)
    if found.status == "infeasible":
        raise _infeasible(problem, beta, methods, solver)
    bound = None if found.bound is None else max(0.0, found.bound) * money_unit(problem)
    candidates = [plan for plan in (_best(problem, methods, solver, found.solutions),) if plan is not None]
    if values is not None and start is not None:
        candidates.append(start.model_copy(update={"solver": solver}))
    if not candidates:
        raise NoIncumbent(solver, time_limit_s, bound)
    plan = min(candidates, key=lambda x: evaluate(problem, x).objective_value)
    value = evaluate(problem, plan).objective_value
    if bound is not None and bound > value * (1 + AGREEMENT):
        raise RuntimeError(f"{solver}: lower bound {bound!r} above the cost {value!r} of a plan")
    bound = None if bound is None else min(bound, value)
    return Solution(plan.layers, bound, solver)


def _nothing_to_decide(
    problem: DeploymentProblem, beta: Beta, methods: Sequence[Methods], solver: str
) -> Solution:
    """The plan of a model that no token reaches. Raises Infeasible."""
    plan = DeploymentPlan(solver=solver, layers=layers_of(problem, {}, methods))
    if not evaluate(problem, plan).feasible:
        raise _infeasible(problem, beta, methods, solver)
    return Solution(plan.layers, 0.0, solver)


def empty_programme(backend: Backend) -> SolverProgramme:
    """A programme of a back end, with nothing in it. Raises InputError where the back end cannot be used."""
    if backend == "scip":
        from optimizer.miqcp.scip import ScipProgramme

        return ScipProgramme()
    if backend == "gurobi":
        from optimizer.miqcp.gurobi import GurobiProgramme

        return GurobiProgramme()
    raise InputError(f"backend: no back end {shortened(backend)}{nearest(backend, get_args(Backend))}")


def start_values(
    problem: DeploymentProblem, beta: Beta, methods: Sequence[Methods], plan: DeploymentPlan
) -> Mapping[str, float]:
    """A plan as the values of all variables. Raises RuntimeError where it breaks the programme's constraints."""
    read = Values(decisions(problem, plan))
    describe(read, problem, beta, methods)
    if read.broken:
        raise RuntimeError(f"the plan of '{plan.solver}' is no solution of the programme: {read.broken[0]}")
    return read.values


def fixed_method_miqcp(
    problem: DeploymentProblem,
    fronts: ModelFronts,
    method: Communication,
    beta: Beta = "per-layer",
    backend: Backend = "scip",
    time_limit_s: float = 60.0,
) -> tuple[LayerPlan | None, ...]:
    """Alg. 1, step 1: the best plan found with one method for all layers that can use it; the others take the
    best of their methods.

    Args:
        problem: the problem.
        fronts: of this problem: where the solver proves that no plan meets the limit, the fastest is theirs.
        method: the method.
        beta: minibatch sizes, of each layer or one for the model.
        backend: `scip` or `gurobi`.
        time_limit_s: wall time (the paper: 60 s).

    Returns:
        each layer's plan; None where the layer cannot use the method, and everywhere if no plan was found in time.
    """
    usable = usable_methods(problem)
    methods = [(method,) if method in can else can for can in usable]
    try:
        layers = solve_miqcp(problem, beta, backend, time_limit_s, methods=methods).layers
    except NoIncumbent:
        return (None,) * len(problem.layers)
    except Infeasible:
        layers, _ = cheapest_layers(problem, fronts.restricted(methods), beta)
    return tuple(layer if method in can else None for layer, can in zip(layers, usable, strict=True))


def _best(
    problem: DeploymentProblem, methods: Sequence[Methods], solver: str, solutions: Iterator[Point]
) -> DeploymentPlan | None:
    """The first solution, best first, that the evaluator finds feasible: others miss the latency limit by no
    more than the solver's tolerance. Raises RuntimeError where solver and evaluator disagree."""
    unit = money_unit(problem)
    for solution in solutions:
        plan = DeploymentPlan(solver=solver, layers=layers_of(problem, solution.values, methods))
        found = evaluate(problem, plan)
        # Not the other way round: a solver that is stopped may leave auxiliary variables larger than they are.
        if found.objective_value > solution.objective * unit * (1 + AGREEMENT):
            raise RuntimeError(
                f"{solver}: cost {solution.objective * unit!r} of a plan that costs {found.objective_value!r}"
            )
        if found.feasible:
            return plan
        over = found.latency_s > (problem.latency_limit_s or 0.0) * (1 + AGREEMENT)
        if over or found.violations != ((None, None, "latency"),):
            raise RuntimeError(f"{solver}: a plan that breaks {found.violations[0]}, {found.latency_s!r} s")
    return None


def _infeasible(
    problem: DeploymentProblem, beta: Beta, methods: Sequence[Methods], solver: str
) -> Infeasible | RuntimeError:
    """Why there is no plan: the least latency, which is the exact solver's."""
    _, latency = cheapest_layers(problem, model_fronts(problem).restricted(methods), beta)
    if latency <= latency_budget_s(problem):
        return RuntimeError(f"{solver}: found no plan where there is one of {latency!r} s")
    return Infeasible(problem.latency_limit_s or 0.0, latency + fixed_latency_s(problem))
