"""Every solver and rival on the same problems under the same limits: bills, latency, gap to the optimum."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.paper.figures.rivals.contenders import Answer, bills, played, rivals
from moe.errors import InputError
from optimizer.evaluation import fixed_latency_s
from optimizer.exact import ModelFronts, model_fronts
from optimizer.exact.knapsack import fastest
from optimizer.solvers import solve
from simulator.plan import DeploymentProblem, read_problem
from simulator.serving.simulate import simulate

EXAMPLES = Path(__file__).parents[2] / "tests" / "reference" / "examples"
PROBLEMS = tuple(EXAMPLES / f"{name}.problem.json" for name in ("bert-4", "bert-8", "bert2bert-4"))
TIGHTNESS = (0.6, 0.2)
"""Where the limits lie between the least latency and that of the cheapest plan."""


@dataclass(frozen=True)
class RivalRow:
    """One rival on one problem under one limit.

    Attributes:
        problem, latency_limit_s: what was solved.
        rival: its name.
        objective: its bill, GB-s or USD as the problem says; Remoe's hot experts included.
        full_usd: with the experts' requests; total_usd: everything, on the ideal platform.
        latency_s: by the closed form. feasible: whether it keeps the limit and the constraints.
        above_optimum: objective over the certified optimum of the problem without groups, minus 1.
        seconds: of the processor.
        failure: why it has no plan; then there is no number.
    """

    problem: str
    latency_limit_s: float
    rival: str
    seconds: float
    objective: float | None = None
    full_usd: float | None = None
    total_usd: float | None = None
    latency_s: float | None = None
    feasible: bool | None = None
    above_optimum: float | None = None
    failure: str | None = None


def compare_rivals(
    paths: Sequence[Path] = PROBLEMS,
    tightness: Sequence[float] = TIGHTNESS,
    say: Callable[[str], None] | None = None,
) -> list[RivalRow]:
    """All rivals on all problems under limits of each tightness."""
    rows = []
    for path in paths:
        problem = read_problem(path)
        fronts = model_fronts(problem)
        for limit in _limits(problem, fronts, tightness):
            if say is not None:
                say(f"{problem.name}, limit {limit:.2f} s")
            rows += list(_rows(problem.with_limit(limit), limit, fronts))
    return rows


def _limits(problem: DeploymentProblem, fronts: ModelFronts, tightness: Sequence[float]) -> list[float]:
    least = fastest([front.pair() for front in fronts.fronts]).latency_s + fixed_latency_s(problem)
    free = solve(problem.with_limit(None), "exact", fronts=fronts).latency_s or least
    return [least + share * (free - least) for share in tightness]


def _rows(problem: DeploymentProblem, limit: float, fronts: ModelFronts) -> Iterator[RivalRow]:
    optimum = solve(problem, "exact", fronts=fronts).lower_bound or 0.0
    for name, rival in rivals(problem).items():
        began = time.process_time()
        try:
            answer = rival(problem)
        except InputError as error:
            yield RivalRow(problem.name, limit, name, time.process_time() - began, failure=str(error))
            continue
        yield _row(problem, limit, name, answer, time.process_time() - began, optimum)


def _row(
    problem: DeploymentProblem, limit: float, name: str, answer: Answer, seconds: float, optimum: float
) -> RivalRow:
    own, plan = played(problem, answer)
    gb_s, usd = bills(answer)
    objective = gb_s if problem.objective == "gb_s" else usd
    return RivalRow(
        problem=problem.name,
        latency_limit_s=limit,
        rival=name,
        seconds=seconds,
        objective=objective,
        full_usd=usd,
        total_usd=simulate(own, plan).bill.total_cost_usd,
        latency_s=plan.latency_s,
        feasible=plan.feasible,
        above_optimum=objective / optimum - 1 if optimum else None,
    )


def markdown(rows: Sequence[RivalRow]) -> str:
    """A table for each problem and limit."""
    parts = []
    for problem, limit in dict.fromkeys((row.problem, row.latency_limit_s) for row in rows):
        here = [row for row in rows if (row.problem, row.latency_limit_s) == (problem, limit)]
        parts.append(f"### {problem}, {limit:.2f} s\n")
        parts.append(
            "| rival | objective | over the optimum | full, USD | total, USD | latency, s | keeps all | CPU s |"
        )
        parts.append("|---|---:|---:|---:|---:|---:|---|---:|")
        parts += [_line(row) for row in here]
        parts.append("")
    return "\n".join(parts)


def _line(row: RivalRow) -> str:
    if row.failure is not None:
        return f"| {row.rival} | - | - | - | - | - | {row.failure} | {row.seconds:.2f} |"
    return (
        f"| {row.rival} | {row.objective:.2f} | {row.above_optimum:+.1%} | {row.full_usd:.6f} | "
        f"{row.total_usd:.6f} | {row.latency_s:.2f} | {'yes' if row.feasible else 'no'} | {row.seconds:.2f} |"
    )
