"""The model that is not cut, in a run's table: the first question of every reader."""

import numpy as np
import pytest

from experiments.run.methods import Row, title_of
from experiments.run.whole_model import DEARER, cut_of, shape_finding, whole_plans
from moe.spec import load_spec
from optimizer.baselines.shapes import whole_model
from optimizer.blocks import SHAPES
from optimizer.exact import Infeasible
from optimizer.exact.shapes import solve_shapes
from optimizer.margin import Optima, planning_limit
from optimizer.problem import make_problem
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import load_profile
from simulator.staged_plan import AnyPlan, BlocksStage, StagedPlan
from simulator.staged_plan import whole_model as whole_model_of


def problem_of(name: str, tokens: int = 10_240) -> DeploymentProblem:
    spec = load_spec(name)
    popularity = np.full((spec.moe_layers, spec.experts), tokens * spec.top_k / spec.experts)
    return make_problem(spec, popularity, load_profile(), shapes=SHAPES)


def test_one_function_and_as_many_lanes_as_cost_little_more() -> None:
    (name, one), (many_name, many) = whole_plans(problem_of("bert-moe"), lambda _: None)
    (stage,) = many.stages
    assert isinstance(stage, BlocksStage)
    assert title_of(name) == "whole model, one function"
    assert title_of(many_name) == f"whole model, {stage.lanes} lanes"
    assert one.total_cost_usd is not None
    assert many.total_cost_usd is not None
    assert one.total_cost_usd < many.total_cost_usd <= one.total_cost_usd * (1 + DEARER)
    assert (one.latency_s or 0) > 10 * (many.latency_s or 0)


def test_a_model_that_fits_no_function_has_no_such_row() -> None:
    problem = problem_of("olmoe-1b-7b")
    assert whole_plans(problem, lambda _: None) == []
    assert "must be cut: 13.8 GB of parameters need 13," in shape_finding([], cut_of(problem), "ODS")


def test_where_no_lanes_meet_the_limit_the_cheapest_is_shown_as_late() -> None:
    problem = problem_of("bert-moe").with_limit(0.1)
    plans = whole_plans(problem, lambda _: 0.1)
    assert [plan.feasible for _, plan in plans] == [False, False]


def test_each_row_has_the_margin_that_its_own_batches_need() -> None:
    """One function serves them as the closed form says, lanes take 10% longer."""
    problem = problem_of("bert-moe").with_limit(60.0)

    def latencies_s(plan: AnyPlan, first: int | None) -> np.ndarray:
        assert isinstance(plan, StagedPlan)
        stage, seconds = whole_model_of(plan), plan.latency_s or 0.0
        assert stage is not None
        return np.full(first or 200, seconds * (1.1 if stage.lanes > 1 else 1.0))

    asked = []

    def planned_s(optima: Optima) -> float | None:
        asked.append(planning_limit(problem, 0.05, latencies_s, optima))
        return asked[-1].limit_s

    for (_, plan), planned in zip(whole_plans(problem, planned_s), asked, strict=True):
        assert planned.late_share == 0
        assert (latencies_s(plan, 1) <= 60.0).all()
    assert asked[0].limit_s == 60.0
    tight = problem.with_limit(1.05 * (whole_plans(problem, lambda _: None)[1][1].latency_s or 0.0))
    (_, one), (_, many) = whole_plans(
        tight, lambda optima: planning_limit(tight, 0.05, latencies_s, optima).limit_s
    )
    assert (one.feasible, many.feasible) == (False, True), "one function is too slow for the limit"
    assert (latencies_s(many, 1) <= (tight.latency_limit_s or 0.0)).all()


@pytest.mark.parametrize("limit_s", [None, 5.0, 0.4])
def test_the_best_whole_model_is_the_optimum_of_one_stage(limit_s: float | None) -> None:
    problem = problem_of("bert-moe").model_copy(update={"objective": "total"}).with_limit(limit_s)
    plain, certified = (
        evaluate_staged(problem, x.plan(""))
        for x in (whole_model(problem), solve_shapes(problem, ("whole-model",)))
    )
    assert plain.total_cost_usd == pytest.approx(certified.total_cost_usd, rel=1e-12)
    assert plain.feasible
    with pytest.raises(Infeasible) as late:
        whole_model(problem.with_limit(0.01))
    fastest = whole_model(problem.with_limit(late.value.least_latency_s * (1 + 1e-9)))
    assert evaluate_staged(problem, fastest.plan("")).latency_s == pytest.approx(late.value.least_latency_s)


def test_cutting_pays_before_the_wall() -> None:
    """Memory that only parameters need comes with vCPUs that are less than a vCPU each is worth."""
    cut = cut_of(problem_of("bert-moe"))
    assert cut.parameter_bytes == pytest.approx(1.113e9, rel=1e-3)
    assert cut.parameter_bytes < cut.pays_from_bytes < cut.must_from_bytes
    assert cut.must_from_bytes == pytest.approx(10_240 * 2**20, rel=0.02)


def test_the_finding_names_the_cheapest_shape() -> None:
    def row(method: str, usd: float) -> Row:
        return Row(method, "lambda", usd, usd, usd, 1.0, None, 100)

    cut = cut_of(problem_of("minilm-moe", 256))
    cheaper = shape_finding([row("ODS", 1.0), row("whole model, one function", 0.5)], cut, "ODS")
    assert "The whole model in one function costs $0.50, 50.0% below ODS's" in cheaper
    assert "cutting this model does not pay" in cheaper
    dearer = shape_finding([row("ODS", 1.0), row("whole model, one function", 1.5)], cut, "ODS")
    assert "cutting this model pays" in dearer
