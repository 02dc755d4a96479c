"""plan of problems with blocks: what a user is told of the cheapest shape, and of one that cannot be."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments.plan.shape_front import draw_shape_front, shape_front
from experiments.tools.known_batches import played_s
from experiments.tools.shapes import EXPERTS, LANES, WHOLE, shape_of
from moe.spec import load_spec
from optimizer.blocks import SHAPES
from optimizer.exact import Infeasible
from optimizer.margin import Lateness
from optimizer.popularity.popularity_file import save_samples
from optimizer.problem import make_problem
from optimizer.solvers import solve_any
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import load_profile
from simulator.serving.layer import JUST_IN_TIME
from simulator.staged_plan import StagedPlan, read_any_plan
from tests.experiments.conftest import Run
from tests.optimizer.staged_problems import staged_problem


def minilm() -> DeploymentProblem:
    spec = load_spec("minilm-moe")
    return make_problem(spec, np.full((6, 4), 512.0), load_profile(), objective="total", shapes=SHAPES)


def written(problem: DeploymentProblem, folder: Path) -> str:
    path = folder / "problem.json"
    path.write_text(problem.model_dump_json(by_alias=True))
    return str(path)


def test_a_problem_made_with_all_shapes_is_solved_over_all(smoe: Run, tmp_path: Path) -> None:
    problem, plan = str(tmp_path / "p.json"), tmp_path / "plan.json"
    made = ("problem", "minilm-moe", "--batch-tokens", "2048", "--objective", "total", "--out", problem)
    assert smoe(*made, "--shapes", "all", "--weights", "int8")[0] == 0
    code, out, _err = smoe("plan", problem, "--out", str(plan), "--json")
    assert code == 0
    found = json.loads(out)
    assert found["schema"] == "deployment-plan/2"
    assert found["gap"] == 0
    assert [stage["shape"] for stage in found["stages"]] == ["blocks"]
    assert json.loads(plan.read_text())["stages"] == found["stages"]
    today = json.loads(smoe("plan", problem, "--shapes", "expert-functions", "--json")[1])
    assert today["schema"] == "deployment-plan/1"
    assert today["total_cost_usd"] > found["total_cost_usd"]


def test_a_plan_is_shown_stage_by_stage(smoe: Run, tmp_path: Path) -> None:
    _code, out, _err = smoe("plan", written(minilm(), tmp_path))
    assert "0-5" in out
    assert "the certified optimum of these shapes" in out
    assert "USD per million tokens" in out


@pytest.mark.parametrize("solver", ["whole-model", "blocks", "gillis"])
def test_rivals_never_beat_the_optimum(solver: str) -> None:
    problem = minilm()
    best, rival = solve_any(problem), solve_any(problem, solver)
    assert isinstance(rival, StagedPlan)
    assert rival.feasible
    assert rival.lower_bound is None
    assert (rival.total_cost_usd or 0) >= (best.total_cost_usd or 0) * (1 - 1e-12)
    if solver == "gillis":
        fastest = shape_front(problem, ("blocks",), points=2).plans[0]
        assert rival.latency_s == pytest.approx(fastest.latency_s, rel=1e-9)


def test_blocks_of_so_many_layers_are_cut_there() -> None:
    plan = solve_any(minilm(), "blocks", layers=4)
    assert isinstance(plan, StagedPlan)
    assert [(stage.first_layer, stage.last_layer) for stage in plan.stages] == [(0, 3), (4, 5)]


def test_a_limit_out_of_reach_of_blocks_says_the_least_latency_of_any_size() -> None:
    def least_s(**options: int) -> float:
        with pytest.raises(Infeasible) as late:
            solve_any(minilm().with_limit(1e-4), "blocks", **options)
        return late.value.least_latency_s

    assert least_s() == min(least_s(layers=m) for m in (1, 2, 3, 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shapes", "blokcs"), "no shape 'blokcs'; did you mean 'blocks'"),
        (("--shapes", "blocks", "--objective", "gb_s"), "objective: expected total"),
        (("--shapes", "blocks", "--solver", "ods"), "--shapes: expected with --solver exact, got 'ods'"),
        (("--set", "group=2"), "--set group: expected with a plan of expert functions alone"),
        (("--solver", "blocks", "--set", "layers=9"), "layers: expected from 1 to 6, got 9"),
        (("--solver", "blocks", "--set", "gap=0.1"), "solver 'blocks': no option 'gap'"),
        (("--solver", "whole-modle"), "did you mean 'whole-model'"),
        (("--late-share", "0.05"), "--late-share: expected together with --set samples=FILE"),
        (("--set", "samples=x.parquet"), "--set samples: expected with a plan of expert functions alone"),
        (("--latency-limit", "0.0001"), "0.0001 s is out of reach, the least achievable latency is"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    smoe: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, _out, err = smoe("plan", written(minilm(), tmp_path), *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_shapes_of_a_problem_that_knows_none_are_refused(smoe: Run, tmp_path: Path) -> None:
    code, _out, err = smoe("plan", written(minilm().with_blocks(None), tmp_path), "--shapes", "blocks")
    assert code == 2
    assert "expected a problem with `blocks` (deployment-problem/2)" in err


def test_the_front_falls_and_says_from_where_cutting_pays(tmp_path: Path) -> None:
    whole, cut = shape_front(minilm(), points=8), shape_front(staged_problem(7), points=8)
    for data in (whole, cut):
        costs = [plan.total_cost_usd or 0.0 for plan in data.plans]
        assert costs == sorted(costs, reverse=True)
        assert all(plan.gap == 0 for plan in data.plans)
    assert set(whole.shapes) == {WHOLE, LANES}
    assert whole.cut_from_s is None
    assert cut.cut_from_s == cut.plans[-1].latency_s, "its last layer alone is blocks, at every latency"
    draw_shape_front(whole, tmp_path / "front")
    assert (tmp_path / "front.svg").stat().st_size > 5000


def test_front_is_written_and_printed(smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.plan.shape_front.shape_front", partial(shape_front, points=4))
    table, figure = tmp_path / "front.csv", tmp_path / "front.png"
    code, out, err = smoe(
        "plan", written(minilm(), tmp_path), "--front", "--out", str(table), "--set", f"figure={figure}"
    )
    assert code == 0, err
    assert "cutting the model never pays" in out
    assert table.read_text().startswith("latency_s,total_cost_usd")
    assert figure.exists()


def test_what_a_shape_is_called() -> None:
    problem = minilm()
    assert shape_of(solve_any(problem)) == WHOLE
    assert shape_of(solve_any(problem.with_limit(0.3))) == LANES
    assert shape_of(solve_any(problem, shapes=("expert-functions",))) == EXPERTS


def test_a_written_plan_is_read_again(smoe: Run, tmp_path: Path) -> None:
    problem, path = minilm(), tmp_path / "plan.json"
    assert smoe("plan", written(problem, tmp_path), "--out", str(path), "--solver", "whole-model")[0] == 0
    plan = read_any_plan(path, problem)
    assert isinstance(plan, StagedPlan)
    assert plan.solver == "whole-model"


def test_a_plan_with_stages_keeps_the_share_of_late_batches_that_it_promises(smoe: Run, tmp_path: Path) -> None:
    """Planned at the limit itself, as good as every batch that is played would be late."""
    problem, samples, limit_s = minilm(), tmp_path / "samples.parquet", 0.3
    tokens = np.array([[x.tokens for x in layer.experts] for layer in problem.layers])
    save_samples(np.broadcast_to(tokens, (60, *tokens.shape)), samples)
    asked = ("plan", written(problem, tmp_path), "--latency-limit", str(limit_s), "--json")
    promised = ("--late-share", "0.1", "--set", f"samples={samples}", "--profile", "aws-us-east-1-2026")
    code, out, err = smoe(*asked, *promised, "--out", str(tmp_path / "plan.json"))
    assert code == 0, err
    found, plan = json.loads(out), read_any_plan(tmp_path / "plan.json", problem)
    assert found["planning_limit_s"] < limit_s
    assert found["late_share"] <= 0.1
    assert found["feasible"] is True
    at_the_limit = solve_any(problem.with_limit(limit_s))
    assert found["total_cost_usd"] > at_the_limit.objective_value
    fresh = np.broadcast_to(tokens.astype(int), (60, *tokens.shape))
    promise, none = (
        Lateness.of(played_s(problem, each, load_profile(), JUST_IN_TIME, fresh, seed=99), limit_s)
        for each in (plan, at_the_limit)
    )
    assert promise is not None
    assert none is not None
    assert promise.low <= 0.1 < none.low
