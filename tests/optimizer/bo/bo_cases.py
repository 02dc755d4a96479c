"""A small model whose tuning takes milliseconds: 2 layers of 4 experts, its trace, its batches, its planner."""

import numpy as np

from optimizer.bo import Alg2, Batches, Judge, KeyRange, Known, Objective, Planner, closed_form
from optimizer.popularity import ProfileTable, TablePredictor, predictor
from optimizer.problem import with_tokens
from simulator.plan import DeploymentProblem
from tests.conftest import reference
from tests.optimizer.popularity.test_scored import random_trace

SETTINGS = Alg2(pairs=40, batches=3, patience=100)


def small_problem(limit_s: float | None = None) -> DeploymentProblem:
    """The first two layers of bert-4, for batches of 600 tokens."""
    problem, _, _ = reference("bert-4")
    changes = {"layers": problem.layers[:2], "batch_tokens": 600.0, "latency_limit_s": limit_s}
    return with_tokens(problem.model_copy(update=changes), np.full((2, 4), 150.0))


def small_table() -> ProfileTable:
    """Of a profiled trace that knows half of the vocabulary."""
    return ProfileTable.from_trace(random_trace(1, tokens=400, vocabulary=20))


def small_batches(count: int = 3, seed: int = 5) -> Batches:
    """Of 600 tokens each."""
    return Batches.of([random_trace(seed + k, tokens=600, vocabulary=40) for k in range(count)])


def table_predictor(counting: str = "hard") -> TablePredictor:
    """The paper's predictor."""
    found = predictor("bayes", counting=counting)
    assert isinstance(found, TablePredictor)
    return found


def binding_limit_s() -> float:
    """A latency limit half way between the least latency and that of the cheapest plan of the real popularity."""
    planner = Planner(small_problem(), small_table(), table_predictor())
    popularity = small_batches().mean
    slow = planner.plan(popularity).latency_s
    planner.problem = small_problem(0.001)
    fast = planner.plan(popularity).latency_s
    assert slow is not None
    assert fast is not None
    return (slow + fast) / 2


def small_judge(
    objective: Objective = "bill+slo", settings: Alg2 = SETTINGS, batches: Batches | None = None
) -> tuple[Judge, Known]:
    """A judge of the small model under a limit that binds, and what samplers may know."""
    batches = batches or small_batches()
    table = small_table()
    planner = Planner(small_problem(binding_limit_s()), table, table_predictor())
    judge = Judge(planner, batches, closed_form(), objective, settings)
    return judge, Known(planner, KeyRange.of(table, batches), batches)
