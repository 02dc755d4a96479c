"""The contract of shapes: if these fail, a plan with stages is read as another one than was written."""

import json
from pathlib import Path
from typing import Any

import pytest

from moe.errors import InputError
from simulator.plan import DeploymentPlan, DeploymentProblem, read_problem
from simulator.staged_plan import StagedPlan, read_any_plan
from tests.conftest import EXAMPLES, reference
from tests.optimizer.staged_problems import random_staged_plan, staged_problem

BLOCKS = {"shape": "blocks", "memory_mb": 3008, "lanes": 2, "handover": "storage"}


def _read(tmp_path: Path, stages: list[dict[str, Any]], **keys: Any) -> DeploymentPlan | StagedPlan:
    """What is read of a file with these stages, for a problem of three layers and seven sequences."""
    data = {"schema": "deployment-plan/2", "solver": "hand", "stages": stages, **keys}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data))
    return read_any_plan(path, staged_problem(1, max_lanes=5))


def _blocks(first: int, last: int, **changes: Any) -> dict[str, Any]:
    return {"first_layer": first, "last_layer": last} | BLOCKS | changes


def test_a_staged_plan_and_its_problem_come_back_as_they_were_written(tmp_path: Path) -> None:
    problem = staged_problem(1)
    plan = random_staged_plan(4, problem)
    (tmp_path / "problem.json").write_text(problem.model_dump_json(by_alias=True))
    (tmp_path / "plan.json").write_text(plan.model_dump_json(by_alias=True))
    again = read_problem(tmp_path / "problem.json")
    assert again == problem
    assert json.loads((tmp_path / "problem.json").read_text())["schema"] == "deployment-problem/2"
    assert read_any_plan(tmp_path / "plan.json", again) == plan


def test_plan_1_and_problem_1_are_read_as_before() -> None:
    problem, plan, _ = reference("tiny")
    assert read_any_plan(EXAMPLES / "tiny.plan.json", problem) == plan
    written = problem.model_dump(by_alias=True)
    assert written["schema"] == "deployment-problem/1"
    assert "blocks" not in written


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([_blocks(0, 0), _blocks(2, 2)], r"stages.1.first_layer: expected 1, got 2: .* \(gap\)"),
        ([_blocks(0, 1), _blocks(1, 2)], r"stages.1.first_layer: expected 2, got 1: .* \(overlap\)"),
        ([_blocks(0, 1)], "stages: expected layers 0 to 2, as in the problem, got 0 to 1"),
        ([_blocks(0, 3)], "stages: expected layers 0 to 2, as in the problem, got 0 to 3"),
        ([_blocks(0, 0), _blocks(1, 0)], "stages.1.last_layer: expected at least 1, got 0"),
        ([_blocks(0, 2, lanes=6)], r"stages.0.lanes: expected at most 5 \(max_lanes 5, 7 sequences"),
        ([_blocks(0, 2, memory_mb=2048)], r"stages.0.memory_mb: expected one of .*1769, 3008, 10240.*, got 2048"),
        ([_blocks(0, 2, shape="block")], r"stages.0.shape: got 'block'; did you mean 'blocks'"),
        ([_blocks(0, 2, handover="s3")], r"stages.0.handover: expected 'payload' or 'storage', got 's3'"),
        ([_blocks(0, 2, memory=1)], "stages.0.memory: unknown key; did you mean 'memory_mb'"),
        (
            [
                {
                    "first_layer": 0,
                    "last_layer": 2,
                    "shape": "expert-functions",
                    "layer": {"communication": "storage", "experts": [{"memory_mb": 512, "replicas": 1}]},
                }
            ],
            "stages.0.last_layer: expected 0, the one layer of expert-functions, got 2",
        ),
    ],
)
def test_a_bad_stage_is_refused_in_one_line(tmp_path: Path, stages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        _read(tmp_path, stages)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path))


def test_a_stage_of_one_layer_has_the_layers_experts_and_sizes(tmp_path: Path) -> None:
    layer = {"communication": "storage", "experts": [{"memory_mb": 640, "replicas": 1}] * 9}
    stages = [_blocks(0, 1), {"first_layer": 2, "last_layer": 2, "shape": "expert-functions", "layer": layer}]
    with pytest.raises(InputError, match=r"stages.1.layer.experts: expected \d, got 9"):
        _read(tmp_path, stages)


def test_stages_are_no_key_of_plan_1(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="stages: expected with schema deployment-plan/2, got"):
        _read(tmp_path, [_blocks(0, 2)], schema="deployment-plan/1", layers=[])


def test_blocks_belong_to_problem_2() -> None:
    data = staged_problem(1).model_dump(by_alias=True)
    for change in ({"schema": "deployment-problem/1"}, {"blocks": None}):
        with pytest.raises(ValueError, match="expected with deployment-problem/2"):
            DeploymentProblem.model_validate(data | change)
    data["blocks"] |= {"weights": "fp8"}
    with pytest.raises(ValueError, match="fp32"):
        DeploymentProblem.model_validate(data)


def test_blocks_need_a_problem_that_says_what_they_may_be(tmp_path: Path) -> None:
    plan = random_staged_plan(0, staged_problem(1), experts=0.0)
    (tmp_path / "plan.json").write_text(plan.model_dump_json(by_alias=True))
    with pytest.raises(InputError, match="expected a problem with `blocks`"):
        read_any_plan(tmp_path / "plan.json", staged_problem(1).with_blocks(None))
