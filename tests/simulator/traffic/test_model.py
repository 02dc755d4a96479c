"""Requests of a deployed model, played: if these fail, a contender's monthly bill and percentiles mean nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.staged_evaluation import evaluate_staged
from simulator.cloud.platform import ideal_platform
from simulator.plan import DeploymentPlan
from simulator.profiles.schema import load_profile
from simulator.serving.lane import Lane
from simulator.serving.replicas import problem_of_size
from simulator.staged_plan import BlocksStage, ExpertStage, StagedPlan
from simulator.traffic.open_loop import Replication, read_inputs
from simulator.traffic.scenario import Scenario
from tests.optimizer.staged_problems import random_staged_plan, staged_problem
from tests.simulator.traffic.played_requests import play_requests


def _whole(lanes: int) -> StagedPlan:
    stage = BlocksStage(first_layer=0, last_layer=2, memory_mb=10240, lanes=lanes, handover="payload")
    return StagedPlan(solver="hand", stages=(stage,))


def _problem(seed: int = 1, **changes: Any) -> Any:
    given = {
        "front": "client",
        "reload": "when-cold",
        "input_bytes_per_token": 4.0,
        "tail_seconds_per_token": None,
    }
    return staged_problem(seed, **(given | changes))


def test_on_the_ideal_platform_a_request_costs_and_takes_the_closed_form() -> None:
    """Requests of different sizes, far apart and at once; after a first one that loads."""
    problem = _problem(reload="every-invocation")
    sizes = np.round(problem.served_tokens / 7 * np.array([4, 2, 7, 1])).astype(int)
    found = play_requests(
        problem, _whole(2), load_profile(), [0.0, 50.0, 50.0, 200.0], sizes, platform=ideal_platform(problem)
    )
    lanes = [2, 2, 2, 1]  # a request of one sequence has one
    sized = [(problem_of_size(problem, size), n) for size, n in zip(sizes.tolist(), lanes, strict=True)]
    closed = [evaluate_staged(each, _whole(n)) for each, n in sized]
    assert found.latency_s == pytest.approx([x.latency_s for x in closed], rel=1e-9)
    assert found.bill.total_cost_usd == pytest.approx(sum(x.total_cost_usd for x in closed), rel=1e-9)
    assert found.cold.tolist() == [True, False, True, False]  # the third found two busy
    assert found.peak_concurrency == 4


def test_instances_are_cold_once_and_keep_their_parameters_until_they_expire() -> None:
    problem, profile = _problem(), load_profile()
    parameters = sum(x.parameter_bytes for x in problem.blocks.layers) + problem.blocks.head_bytes
    found = play_requests(problem, _whole(1), profile, [0.0, 60.0, 61.0, 1e5], 60, seed=1)
    assert found.cold.tolist() == [True, False, False, True]
    assert found.cold_share == 0.5
    loading_s = parameters / profile.network.burst_bytes_per_s.median
    assert found.latency_s[[0, 3]].min() > found.latency_s[[1, 2]].max() + loading_s
    warm = play_requests(problem, _whole(1), profile, [0.0, 60.0, 61.0, 1e5], 60, uncounted=1, seed=1)
    assert warm.latency_s.tolist() == found.latency_s[1:].tolist()
    assert warm.bill.total_cost_usd < found.bill.total_cost_usd


def test_requests_generate_where_they_are() -> None:
    """Time per token is a decode step's; the first token comes before the answer, which has them all."""
    problem = _problem()
    found = play_requests(
        problem, _whole(1), load_profile(), [0.0, 9.0], 60, [5, 1], platform=ideal_platform(problem)
    )
    step_s = Lane.of(problem, _whole(1).stages[0], "payload").step_s(1)
    assert found.token_s[0] == pytest.approx(step_s, rel=1e-9)
    assert np.isnan(found.token_s[1])
    assert found.latency_s[0] == pytest.approx(found.first_token_s[0] + 4 * step_s, rel=1e-2)


def test_a_plan_of_expert_functions_and_blocks_serves_requests_too() -> None:
    problem = _problem(3)
    for plan in (random_staged_plan(0, problem), random_staged_plan(3, problem, experts=1.0)):
        found = play_requests(problem, plan, load_profile(), [0.0, 1.0], 40, 3, seed=2)
        assert (found.first_token_s < found.latency_s).all()
        assert (found.token_s > 0).all()


def _scenario(folder: Path, plan: StagedPlan | DeploymentPlan, **moe: Any) -> Scenario:
    problem = _problem()
    (folder / "problem.json").write_text(problem.model_dump_json(by_alias=True))
    (folder / "plan.json").write_text(plan.model_dump_json(by_alias=True))
    files = {"problem": str(folder / "problem.json"), "plan": str(folder / "plan.json")}
    return Scenario.model_validate(
        {
            "name": "stages",
            "arrivals": {"poisson": {"rate_per_s": 2.0}},
            "duration_s": 60.0,
            "slo_s": 5.0,
            "moe": files | {"tokens_per_request": 40} | moe,
        }
    )


def test_a_scenario_may_name_a_plan_with_stages(tmp_path: Path) -> None:
    """Each request is a call of each lane, and generates what the scenario says."""
    inputs = read_inputs(_scenario(tmp_path, _whole(1), generated_tokens=4))
    rows: list[Any] = []
    served = Replication(inputs, np.random.default_rng(1), rows.append).run()
    assert served.metrics.requests > 80
    assert len(rows) == served.metrics.requests
    assert {row.role for row in rows} == {"blocks"}
    assert 0 < served.metrics.cold_share < 0.5
    assert served.generation["token_p50_s"] > 0
    assert served.generation["first_token_p99_s"] > served.generation["first_token_p50_s"]


def test_a_scenario_of_expert_functions_is_as_it_was(tmp_path: Path) -> None:
    """The same seed, the same rows, whether the layers stand in plan/1 or plan/2."""
    plan = random_staged_plan(3, _problem(), experts=1.0)
    layers = tuple(stage.layer for stage in plan.stages if isinstance(stage, ExpertStage))
    found = []
    for each in (plan, DeploymentPlan(solver="", layers=layers)):
        rows: list[Any] = []
        served = Replication(read_inputs(_scenario(tmp_path, each)), np.random.default_rng(1), rows.append).run()
        assert served.generation == {}
        found.append((rows, json.dumps(vars(served.metrics))))
    assert found[0] == found[1]
