"""plan --front: a curve or a mark in the wrong place is a wrong decision about money."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.plan.front import draw_front, front_data
from optimizer import solve
from optimizer.exact import front
from tests.conftest import EXAMPLES, reference
from tests.experiments.conftest import Run


def test_the_picture_shows_the_front_and_every_plan_where_it_is() -> None:
    problem, _, _ = reference("whole-bill")
    chosen = solve(problem, "exact")
    data = front_data(problem, chosen)
    cost, latency_s = front(problem)
    np.testing.assert_array_equal(data.cost, cost)
    np.testing.assert_allclose(data.tokens_per_s * latency_s, problem.served_tokens)
    assert [mark.name for mark in data.marks] == ["chosen", "lambdaml", "best-uniform", "random", "ods"]
    for mark in data.marks[1:]:
        plan = solve(problem, mark.name)
        assert (mark.cost, mark.latency_s) == (plan.full_cost_usd, plan.latency_s)
        assert mark.feasible == plan.feasible
        assert mark.above_front is None or not mark.feasible or mark.above_front > -1e-9
    assert data.marks[0].above_front == pytest.approx(0, abs=1e-9)


def test_gb_s_are_priced() -> None:
    """The right axis: a reader takes USD from it."""
    problem, _, _ = reference("tiny")
    data = front_data(problem, solve(problem, "exact"), tolerance=0.01)
    np.testing.assert_allclose(data.cost_usd, data.cost * problem.platform.price_per_gb_s)
    assert data.marks[0].cost_usd == pytest.approx(solve(problem, "exact").billed_cost_usd)


def test_the_picture_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    problem, _, _ = reference("tiny")
    data = front_data(problem, solve(problem, "exact"))
    for name in ("a", "b"):
        draw_front(data, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.svg").exists()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_command_writes_what_it_prints(smoe: Run, tmp_path: Path) -> None:
    table, picture = tmp_path / "front.csv", tmp_path / "front.png"
    path = str(EXAMPLES / "tiny.problem.json")
    code, out, _ = smoe("plan", path, "--front", "--json", "--out", str(table), "--set", f"figure={picture}")
    assert code == 0
    answer = json.loads(out)
    with table.open() as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["cost"]) for row in rows] == answer["front"]["cost"]
    assert [float(row["latency_s"]) for row in rows] == answer["front"]["latency_s"]
    assert {mark["name"] for mark in answer["plans"]} >= {"chosen", "lambdaml", "random"}
    assert picture.exists()


def test_the_terminal_shows_fast_and_cheap_ends(smoe: Run) -> None:
    code, out, err = smoe("plan", str(EXAMPLES / "tiny.problem.json"), "--front", "--set", "tolerance=0.01")
    assert (code, err) == (0, "")
    cost, _ = front(reference("tiny")[0], tolerance=0.01)
    assert f"{cost[0]:.6g}" in out
    assert f"{cost[-1]:.6g}" in out
    assert "thinned, at most 0.01 above the exact one" in out
