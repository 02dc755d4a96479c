"""The rows of Fig. 14: every way to serve a model on the same test batches, the split of the gain, break-evens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from experiments.paper.break_even import LEVERS, crossing, saving_over_lambdaml
from experiments.paper.cluster import cluster_rows
from experiments.paper.figure import Rows
from experiments.paper.figures.fig13.rows import tuned_table
from experiments.paper.figures.fig14.readings import reading_rows
from experiments.paper.plans import (
    MILLION,
    late_columns,
    planning_limit,
    play,
    played_columns,
    problem_of,
    within_lambdaml,
)
from experiments.paper.routing import Cell, routing_of
from experiments.run.methods import title_of
from experiments.run.routing import HeldOutBatches, Routing
from experiments.run.whole_model import whole_plans
from experiments.tools.paper_numbers import BELOW_LAMBDAML
from moe.errors import InputError
from optimizer.baselines import kinds_broken, one_replica
from optimizer.blocks import make_blocks
from optimizer.bo import Alg2, Judge, Objective, Planner, Tuning, closed_form
from optimizer.margin import Optima
from optimizer.popularity import predictor
from optimizer.problem import with_tokens
from optimizer.solvers import solve
from simulator.plan import COMMUNICATIONS, Communication, DeploymentPlan, DeploymentProblem
from simulator.serving.layer import JUST_IN_TIME
from simulator.staged_plan import AnyPlan, StagedPlan

Part: TypeAlias = Literal["plans", "bo", "cluster", "split", "break-even", "readings"]

BO, NO_BO, REAL = "ODS, BO-predicted", "ODS, predicted without BO", "ODS, real distribution"
EXPECTED, UNIFORM = "ODS, expected counts", "best uniform"
STEPS = ("right-sizing", "replication", "method", "popularity", "BO")
"""What a plan may do beyond LambdaML's, in the order in which the gain is split; the last one is added later."""


class WayCell(Cell):
    """One part of the figure for one model."""

    part: Part
    run: int
    trials: int
    tuned_on: int
    objective: Objective
    late_share: float | None
    draws: int


@dataclass(frozen=True)
class Served:
    """What a cell's plans are for: the problem, its limit less the margin; the limit to keep; and the batches."""

    routing: Routing
    problem: DeploymentProblem
    limit_s: float
    tuned_on: HeldOutBatches
    test: HeldOutBatches

    @staticmethod
    def of(cell: WayCell) -> Served:
        """The same for every part of one model."""
        routing = routing_of(cell)
        tuned_on, test = routing.sets([cell.tuned_on, cell.batches], cell.batch_tokens, cell.seed)
        problem = within_lambdaml(problem_of(cell, routing.popularity(cell.batch_tokens)))
        assert problem.latency_limit_s is not None
        found = Served(routing, problem, problem.latency_limit_s, tuned_on, test)
        if cell.part in ("cluster", "break-even", "readings"):  # no plan
            return found
        expected = with_tokens(problem, found.predicted("expected"))
        planned_s = planning_limit(cell, routing, expected, cell.late_share, by_play=True)
        return replace(found, problem=problem.with_limit(planned_s))

    def predicted(self, counting: str) -> np.ndarray:
        """Popularity of the mean test batch as `bayes` predicts it from the profiled text."""
        ids = np.concatenate(self.test.batches.token_ids)
        tokens: np.ndarray = predictor("bayes", counting=counting).fit(self.routing.profiled).predict(ids)
        return tokens / len(self.test.batches)


def compute(cell: WayCell) -> Rows:
    """The rows of one part."""
    served = Served.of(cell)
    rows = {
        "plans": _plans,
        "bo": _tuned,
        "cluster": lambda cell, served: [{"row": "serving"} | row for row in cluster_rows(cell, served.test)],
        "split": _split,
        "break-even": _break_even,
        "readings": lambda cell, served: reading_rows(
            cell.spec, served.test.batches.mean, cell.platform, cell.draws, cell.seed
        ),
    }[cell.part](cell, served)
    return [cell.about | {"batch_tokens": cell.batch_tokens, "batches": served.test.kind} | row for row in rows]


def _plans(cell: WayCell, served: Served) -> list[dict[str, Any]]:
    problem = served.problem
    rule = solve(problem, "lambdaml")
    found = []
    for method in COMMUNICATIONS:
        plan = solve(problem, "lambdaml", method=method)
        row = _row(cell, served, f"LambdaML, {method}", plan)
        found.append(row | {"is_rule": plan.layers == rule.layers, "possible": kinds_broken(plan) < 2})
    real = with_tokens(problem, served.test.batches.mean)
    plans = {
        UNIFORM: solve(problem, "best-uniform"),
        NO_BO: solve(with_tokens(problem, served.predicted("hard")), "ods"),
        EXPECTED: solve(with_tokens(problem, served.predicted("expected")), "ods"),
        REAL: solve(real, "ods"),
    }
    found += [_row(cell, served, name, plan) | {"possible": True} for name, plan in plans.items()]
    return found + _whole(cell, served)


def _whole(cell: WayCell, served: Served) -> list[dict[str, Any]]:
    """The whole model in one function, and in the fastest lanes that cost little more; a warm one keeps it."""
    popularity = np.array([layer.tokens for layer in served.problem.layers])
    made = make_blocks(cell.spec, popularity, cell.platform, cell.batch_tokens)
    whole = served.problem.with_blocks(made).with_limit(served.limit_s)

    def planned_s(optima: Optima) -> float | None:
        return planning_limit(cell, served.routing, whole, cell.late_share, by_play=True, optima=optima)

    about = {"possible": True, "planning_limit_s": None}  # each has its own
    return [
        _row(cell, replace(served, problem=whole), title_of(name), plan) | about
        for name, plan in whole_plans(whole, planned_s)
    ]


def _tuned(cell: WayCell, served: Served) -> list[dict[str, Any]]:
    planner, tuned = tuned_table(
        cell, served.routing, served.tuned_on.batches, "multi-epsilon", cell.objective, cell.trials,
        cell.seed + cell.run,
    )  # fmt: skip
    plan = _planned(planner, served, cell, tuned.tuning)
    return [_row(cell, served, BO, plan) | {"run": cell.run, "possible": True}]


def _planned(planner: Planner, served: Served, cell: WayCell, tuning: Tuning) -> DeploymentPlan:
    """The plan for the test batches with a tuned table."""
    judge = Judge(planner, served.test.batches, closed_form(), cell.objective, Alg2())
    return judge(tuning)[1]


def _row(cell: WayCell, served: Served, name: str, plan: AnyPlan) -> dict[str, Any]:
    """A plan played on the test batches; `gb_s_each` and `latency_s_each` are of each batch."""
    run = play(cell, served.problem, plan, served.test)
    just_in_time = play(cell, served.problem, plan, served.test, JUST_IN_TIME)
    each = [run.bill_of_batch(k).billed_gb_s for k in range(len(run.latency_s))]
    return (
        {"row": "serving", "name": name, "gb_s_each": each, "latency_s_each": run.latency_s.tolist()}
        | {
            "independent": served.test.independent,
            "methods": plan.shape_in_words if isinstance(plan, StagedPlan) else _methods(plan),
            "limit_s": served.limit_s,
            "planning_limit_s": served.problem.latency_limit_s,
        }
        | late_columns(run.latency_s, served.limit_s, served.test.independent)
        | played_columns(run, served.test)
        | {"total_usd": just_in_time.bill.total_cost_usd / cell.batch_tokens * MILLION}
    )


def _methods(plan: DeploymentPlan) -> str:
    """`10 x storage, 2 x direct`."""
    used = [layer.communication for layer in plan.layers]
    return ", ".join(f"{used.count(method)} x {method}" for method in dict.fromkeys(used))


def _split(cell: WayCell, served: Served) -> list[dict[str, Any]]:
    """Plans from LambdaML's to ODS's, each with one decision more, for each method that LambdaML may have.

    All are made for the predicted popularity and keep the limit for it, so that they differ in nothing else.
    """
    problem = with_tokens(served.problem, served.predicted("hard"))
    found = []
    for method in COMMUNICATIONS:
        start = solve(problem, "lambdaml", method=method)
        if kinds_broken(start) == 2:
            found.append({"row": "split", "name": "LambdaML", "lambdaml_method": method, "possible": False})
            continue
        plans = {"LambdaML": start} | _decided(problem, method)
        for step, plan in plans.items():
            row = _row(cell, served, step, plan)
            found.append(row | {"row": "split", "lambdaml_method": method, "possible": True})
    return found


def _decided(problem: DeploymentProblem, method: Communication) -> dict[str, DeploymentPlan]:
    """The plan after each decision: one size for all, replicas, the best method, each expert by its popularity."""

    def uniform(of: DeploymentProblem, methods: tuple[Communication, ...]) -> DeploymentPlan:
        return solve(of, "best-uniform", popularity="known", methods=methods)

    steps = {
        "right-sizing": lambda: uniform(one_replica(problem), (method,)),
        "replication": lambda: uniform(problem, (method,)),
        "method": lambda: uniform(problem, COMMUNICATIONS),
        "popularity": lambda: solve(problem, "ods"),
    }
    found = {}
    for step, make in steps.items():
        try:
            found[step] = make()
        except InputError:  # nothing fits with this method: the step changes nothing
            continue
    return found


def _break_even(cell: WayCell, served: Served) -> list[dict[str, Any]]:
    """What each constant alone must be for the optimum to save what the paper does, by its equations."""
    spec, profile, popularity = cell.spec, cell.platform, served.test.batches.mean
    now = saving_over_lambdaml(spec, popularity, profile)
    found: list[dict[str, Any]] = []
    for lever in LEVERS:
        factor = crossing(
            lambda x, lever=lever: saving_over_lambdaml(spec, popularity, lever.multiplied(profile, x)),  # type: ignore[misc]
            BELOW_LAMBDAML, 1 / 16, 16.0,
        )  # fmt: skip
        found.append({"name": lever.title, "unit": lever.unit, "value": lever.median(profile), "factor": factor})
    factor = crossing(lambda x: saving_over_lambdaml(spec, popularity * x, profile), BELOW_LAMBDAML, 1 / 64, 4.0)
    found.append({"name": "a batch", "unit": "tokens", "value": float(cell.batch_tokens), "factor": factor})
    return [
        {"row": "break-even", "closed_form_saving": now, "needed": x["factor"] and x["value"] * x["factor"]} | x
        for x in found
    ]
