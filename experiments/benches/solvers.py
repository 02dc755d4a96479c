"""A leaderboard of solvers on ten problems that are kept with the code: cost, whether the plan holds, seconds.

The problems stand in `experiments/configs/solvers/`, packed, their hashes in `problems.yaml`: from 12 x 4 to 58 x
256, three objectives, expert functions alone or any shape. Rows are of the same problem as long as its hash is the
same.
"""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moe.errors import InputError, nearest
from moe.files import read_mapping
from optimizer import NoIncumbent
from optimizer.exact import Infeasible
from optimizer.solvers import STAGED, find_solver, has_stages, solve_any
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import load_profile
from simulator.serving.simulate import simulate
from simulator.staged_plan import AnyPlan, StagedPlan

FOLDER = Path(__file__).parents[1] / "configs" / "solvers"

OF_EXPERTS = (
    "exact",
    "ods",
    "lambdaml",
    "best-uniform",
    "best-memory",
    "memory-only",
    "replicas-only",
    "reactive",
    "random",
)
"""Solvers of expert functions that are on the board by themselves; programmes with a time limit are not."""

OF_LARGE = ("exact", "ods")
"""The same on a problem of more than 10,000 experts, where the others take minutes each."""

PLAYED, MOST_PLAYED_EXPERTS = 40, 40_000
"""Batches that a plan is played for; fewer of a large model, so that batches x experts are no more than that."""


@dataclass(frozen=True)
class Row:
    """How one solver did on one problem.

    Attributes:
        problem, solver: their names.
        cost: in the objective's unit, by the closed form; None: no plan.
        latency_s: of the plan, by the closed form.
        over_front: cost over the certified least of any plan as fast as this one, or as the limit if that is more,
            minus 1.
        broken: kinds of constraints that the plan breaks.
        late_share: of batches played on the platform as simulated; played: how many.
        seconds: process time of the solver.
        why_not: what it said in place of a plan.
    """

    problem: str
    solver: str
    cost: float | None = None
    latency_s: float | None = None
    over_front: float | None = None
    broken: tuple[str, ...] = ()
    late_share: float | None = None
    played: int = 0
    seconds: float = 0.0
    why_not: str | None = None


def problem_names() -> list[str]:
    """The problems, small ones first."""
    return list(read_mapping(FOLDER / "problems.yaml"))


def read_kept(name: str) -> DeploymentProblem:
    """A problem of the board. Raises InputError for an unknown one and for a file that was changed."""
    hashes = read_mapping(FOLDER / "problems.yaml")
    if name not in hashes:
        raise InputError(f"--problem: no problem '{name}'{nearest(name, hashes)}")
    path = FOLDER / f"{name}.json.gz"
    text = gzip.decompress(path.read_bytes())
    found = hashlib.sha256(text).hexdigest()
    if found != hashes[name]:
        raise InputError(f"{path}: expected SHA-256 {hashes[name]}, as problems.yaml has it, got {found}")
    return DeploymentProblem.model_validate_json(text)


def board(problems: Sequence[str] = (), solvers: Sequence[str] = (), seed: int = 0) -> Iterator[Row]:
    """One row for each problem and solver.

    Args:
        problems: names; all by default.
        solvers: that join the board (`module:function`, or any name that `plan` knows).
        seed: of solvers that draw, and of what is played.

    Raises InputError for an unknown problem or solver.
    """
    for solver in solvers:
        if solver not in STAGED:
            find_solver(solver)
    for name in problems or problem_names():
        problem = read_kept(name)
        large = len(problem.layers) * len(problem.layers[0].experts) > 10_000
        of_problem = tuple(STAGED) if problem.blocks else OF_LARGE if large else OF_EXPERTS
        certified = _Certified(problem)
        for solver in (*of_problem, *(x for x in solvers if x not in of_problem)):
            yield _row(name, problem, solver, certified, seed)


class _Certified:
    """The least cost of any plan of a problem, by the latency that it may have."""

    def __init__(self, problem: DeploymentProblem) -> None:
        self._problem, self._bounds = problem, dict[float, float]()

    def within(self, latency_s: float) -> float:
        """Of any plan within a latency, a certified bound."""
        if latency_s not in self._bounds:
            plan = solve_any(self._problem.with_limit(latency_s), "exact")
            self._bounds[latency_s] = plan.lower_bound or 0.0
        return self._bounds[latency_s]


def _row(name: str, problem: DeploymentProblem, solver: str, certified: _Certified, seed: int) -> Row:
    limit_s = problem.latency_limit_s or np.inf
    takes_seed: dict[str, Any] = {} if has_stages(problem, solver) else {"seed": seed}
    began = time.process_time()
    try:
        plan = solve_any(problem, solver, **takes_seed)
    except (Infeasible, NoIncumbent, InputError) as error:
        return Row(name, solver, seconds=time.process_time() - began, why_not=str(error))
    seconds = time.process_time() - began
    latency_s = plan.latency_s or 0.0
    broken = tuple(sorted({kind for *_, kind in plan.violations}))
    over = None
    if not set(broken) - {"latency"}:
        over = _cost(plan) / certified.within(max(latency_s, limit_s)) - 1
    late_share, played = _played(problem, plan, seed)
    return Row(name, solver, _cost(plan), latency_s, over, broken, late_share, played, seconds)


def _cost(plan: AnyPlan) -> float:
    """In the objective's unit: of a plan with stages the whole bill."""
    return (plan.total_cost_usd or 0.0) if isinstance(plan, StagedPlan) else plan.objective_value


def _played(problem: DeploymentProblem, plan: AnyPlan, seed: int) -> tuple[float, int]:
    """The share of batches that were late or failed, and how many were played."""
    experts = len(problem.layers) * len(problem.layers[0].experts)
    runs = max(2, min(PLAYED, MOST_PLAYED_EXPERTS // experts))
    run = simulate(problem, plan, load_profile(), runs=runs, seed=seed)
    late = ~(run.latency_s <= (problem.latency_limit_s or np.inf) * (1 + 1e-9))
    return float(late.mean()), runs
