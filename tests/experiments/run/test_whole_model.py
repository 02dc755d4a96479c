"""The whole model beside the plans: if these fail, a run says wrongly whether the model must be cut."""

import itertools

import numpy as np
import pytest

from experiments.run.methods import Row, title_of, whole_or_cut
from experiments.run.whole_model import DEARER, cut_of, whole_model_plans
from moe.spec import load_spec
from optimizer.blocks import SHAPES
from optimizer.problem import make_problem
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import MB
from simulator.profiles.schema import load_profile
from simulator.staged_plan import BlocksStage, StagedPlan
from tests.optimizer.staged_problems import staged_problem


def test_the_whole_model_is_the_cheapest_function_and_the_fastest_lanes_near_it() -> None:
    """Of all memory sizes, lanes and hand-overs, tried one by one."""
    problem = staged_problem(4, input_bytes_per_token=4.0)
    assert problem.blocks is not None
    found = []
    for memory_mb, lanes in itertools.product(problem.blocks.memory_mb, range(1, 8)):
        stage = BlocksStage(first_layer=0, last_layer=2, memory_mb=memory_mb, lanes=lanes, handover="payload")
        came_to = evaluate_staged(problem, StagedPlan(solver="", stages=(stage,)))
        if came_to.feasible:
            found.append((came_to.total_cost_usd, came_to.latency_s, lanes))
    least = min(usd for usd, _, lanes in found if lanes == 1)
    fastest = min(latency_s for usd, latency_s, lanes in found if lanes > 1 and usd <= least * (1 + DEARER))
    ((name, one), (other, several)), why_not = whole_model_plans(problem, None)
    assert (name, why_not) == ("whole-model", "")
    assert one.total_cost_usd == pytest.approx(least, rel=1e-12)
    assert several.latency_s == pytest.approx(fastest, rel=1e-12)
    assert isinstance(several.stages[0], BlocksStage)
    assert title_of(other) == f"whole model, {several.stages[0].lanes} lanes"


def test_a_limit_that_one_function_misses_is_a_violation_not_a_missing_row() -> None:
    problem = staged_problem(4, input_bytes_per_token=4.0).with_limit(1e-6)
    plans, why_not = whole_model_plans(problem, 1e-6)
    assert plans
    assert why_not == ""
    assert plans[0][1].violations == ((None, None, "latency"),)


def test_a_model_that_no_function_holds_says_so() -> None:
    problem = staged_problem(4)
    assert problem.blocks is not None
    large = tuple(x.model_copy(update={"parameter_bytes": 9000.0 * MB}) for x in problem.blocks.layers)
    problem = problem.with_blocks(problem.blocks.model_copy(update={"layers": large}))
    plans, why_not = whole_model_plans(problem, None)
    assert plans == []
    assert "10,240 MB" in why_not
    assert whole_or_cut([], why_not).startswith(" No function holds the whole model: ")


@pytest.mark.parametrize(("usd", "says"), [(0.5, "50.0% below ODS's"), (3.0, "3 times ODS's")])
def test_the_finding_says_whether_cutting_pays(usd: float, says: str) -> None:
    rows = [
        Row("ODS", "lambda", 0.4, 0.5, 1.0, 8.0, None, 100),
        Row("whole model", "lambda", usd, usd, usd, 2.0, None, 400),
    ]
    found = whole_or_cut(rows, "")
    assert says in found
    assert ("does not pay" in found) == (usd < 1)


def test_cutting_pays_before_the_wall() -> None:
    """Memory that only parameters need comes with vCPUs that are less than a vCPU each is worth."""
    spec = load_spec("bert-moe")
    cut = cut_of(make_problem(spec, np.full((12, 4), 2560.0), load_profile(), shapes=SHAPES))
    assert cut.parameter_bytes == pytest.approx(1.113e9, rel=1e-3)
    assert cut.parameter_bytes < cut.pays_from_bytes < cut.must_from_bytes
    assert cut.must_from_bytes == pytest.approx(10_240 * 2**20, rel=0.02)
    assert "It has 1.1 GB of parameters" in str(cut)
