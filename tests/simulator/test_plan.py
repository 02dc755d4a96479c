"""Problems and plans that a person writes: what cannot be is refused with its key, a broken limit is judged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe.errors import InputError
from optimizer.evaluation import evaluate
from optimizer.realised import realise
from simulator.plan import DeploymentPlan, DeploymentProblem, read_plan, read_problem
from simulator.serving.simulate import simulate
from tests.conftest import EXAMPLES

PROBLEM = json.loads((EXAMPLES / "tiny.problem.json").read_text())
PLAN = json.loads((EXAMPLES / "tiny.plan.json").read_text())
Change = Callable[[dict[str, Any]], object]


def problem_with(folder: Path, change: Change) -> Path:
    """The tiny problem's file with a change."""
    data = json.loads(json.dumps(PROBLEM))
    change(data)
    (folder / "a.problem.json").write_text(json.dumps(data))
    return folder / "a.problem.json"


def layer(**changes: Any) -> Change:
    return lambda data: data["layers"][0].update(changes)


def expert(**changes: Any) -> Change:
    return lambda data: data["layers"][0]["experts"][0].update(changes)


def platform(**changes: Any) -> Change:
    return lambda data: data["platform"].update(changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (expert(tokens=-1), "layers.0.experts.0.tokens: input should be greater than or equal to 0, got -1"),
        (expert(tokens=1e308), "layers.0.experts.0.tokens: input should be less than or equal to"),
        (lambda data: data.update(head_s=float("nan")), "head_s: input should be a finite number, got nan"),
        (lambda data: data.update(tail_s=float("inf")), "tail_s: input should be a finite number, got inf"),
        (lambda data: data.update(top_k=True), "top_k: expected a number, got True"),
        (layer(seconds_per_token=[1e-3] * 40), r"layers\.0\.seconds_per_token has 40 values for \d+ memory_mb"),
        (layer(seconds_per_call=[]), r"layers\.0\.seconds_per_call has 0 values for \d+ memory_mb"),
        (platform(storage_bandwidth_bytes_per_s=[1e6] * 40), "storage_bandwidth_bytes_per_s has 40 values for"),
        (platform(max_replicas=10**9), "platform.max_replicas: input should be less than or equal to 10000"),
        (
            platform(direct_bandwidth_bytes_per_s=1e-320),
            "direct_bandwidth_bytes_per_s: expected at least 1e-30, got",
        ),
        (lambda data: data.update(objective="x" * 1000), r"objective: expected .*, got 'x{56}\.\.\."),
        (
            lambda data: data.update(batch_tokens=1e6),
            "expected tokens of top_k x batch_tokens = 1e[+]06 in sum, got",
        ),
    ],
)
def test_a_problem_that_cannot_be_is_refused_with_its_key(tmp_path: Path, change: Change, said: str) -> None:
    path = problem_with(tmp_path, change)
    with pytest.raises(InputError, match=said) as refused:
        read_problem(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_tokens_that_are_top_k_times_the_batch_are_read(tmp_path: Path) -> None:
    """A popularity that sums to something else is a plan for another batch; what is rounded is not."""
    tokens = sum(expert["tokens"] for expert in PROBLEM["layers"][0]["experts"])
    batch_tokens = tokens * 1.005 / PROBLEM.get("top_k", 1)
    read = read_problem(problem_with(tmp_path, lambda data: data.update(batch_tokens=batch_tokens)))
    assert read.served_tokens == pytest.approx(tokens, rel=0.01)


def read_plan_of(folder: Path, problem: DeploymentProblem, replicas: int) -> DeploymentPlan:
    data = json.loads(json.dumps(PLAN))
    data["layers"][0]["experts"][0]["replicas"] = replicas
    (folder / "a.plan.json").write_text(json.dumps(data))
    return read_plan(folder / "a.plan.json", problem)


def test_a_plan_with_a_billion_replicas_is_judged_and_not_unrolled(tmp_path: Path) -> None:
    """The closed form says which limit it breaks; a simulation, which plays each call, refuses it in one line."""
    problem = read_problem(EXAMPLES / "tiny.problem.json")
    plan = read_plan_of(tmp_path, problem, 10**9)
    found = evaluate(problem, plan)
    assert (0, 0, "replicas") in found.violations
    assert np.isfinite(found.billed_gb_s)
    real = np.array([each.tokens for each in problem.layers])
    assert np.isfinite(realise(problem, plan, real).billed_gb_s)
    for routing in (None, [real.astype(int)]):
        with pytest.raises(InputError, match=r"layers\.0\.experts\.0: expected at most 10,000 replicas"):
            simulate(problem, plan, routing=routing)
    with pytest.raises(InputError, match="replicas: input should be less than or equal to"):
        read_plan_of(tmp_path, problem, 10**30)
