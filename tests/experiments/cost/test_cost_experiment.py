"""Experiments with `cost:`: if they fail, a sweep of bills says other numbers than the command."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from experiments.cost import compare
from experiments.cost import run as cost_run
from experiments.cost.sweep_picture import draw_bills
from experiments.sweep import run as sweep_run
from experiments.sweep.executors import Executor
from experiments.sweep.worker import Outcome, Task, compute
from experiments.tools.console import log

Run = Callable[..., tuple[int, str, str]]
ASKED = """
schema: experiment/1
name: bills
workload: {spec: minilm-moe}
cost: {requests_per_month: 1e6, tokens_in: 64, slo: 1s@p99, only: [ec2-c8g.large, fargate]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bills.yaml"
    path.write_text(ASKED)
    return path


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer numbers along the curve, and no picture of it: both are tested with the command."""
    monkeypatch.setattr(compare, "PER_DECADE", 1)
    monkeypatch.setattr(cost_run, "drawn", lambda *_: None)


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute points inside this process."""

    def now(task: Task) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_result(compute(task))
        log.quiet = False
        return future

    @contextmanager
    def executor(*_: Any) -> Iterator[Executor]:
        yield Executor(now, 1, (BrokenProcessPool,))

    monkeypatch.setattr(sweep_run, "executor", executor)
    monkeypatch.setattr(log, "quiet", False)
    monkeypatch.setattr("sys.argv", ["smoe"])
    monkeypatch.chdir(Path.cwd())


def test_an_experiment_says_what_the_command_says(smoe: Run, config: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    code, printed, said = smoe("run", str(config), "--out", out)
    assert code == 0, said
    options = (
        "--requests-per-month",
        "1e6",
        "--tokens-in",
        "64",
        "--slo",
        "1s@p99",
        "--only",
        "ec2-c8g.large,fargate",
    )
    code, of_command, said = smoe("cost", "minilm-moe", *options)
    assert code == 0, said
    assert printed.startswith(of_command)
    code, as_json, _ = smoe("run", str(config), "--out", out, "--json")
    _, expected, _ = smoe("cost", "minilm-moe", *options, "--json")
    result = json.loads(as_json)
    assert {key: result[key] for key in json.loads(expected)} == json.loads(expected)
    assert result["name"] == "bills"
    code, again, told = smoe("run", str(config), "--out", out)
    assert (code, again) == (0, printed)
    assert "Already there" in told
    code, _, said = smoe("report", out, "--out", str(tmp_path / "page.html"))
    assert code == 0, said


@pytest.mark.usefixtures("inside")
def test_a_sweep_is_one_table_and_one_picture(smoe: Run, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "swept"
    grid = "sweep={grid: {cost.requests_per_month: [1e4, 1e8], cost.weights: [fp32, int8]}}"
    code, printed, said = smoe("run", str(config), "--out", str(out), "--set", grid)
    assert code == 0, said
    assert "cheapest" in printed
    assert f"Look at {out}/: sweep.png is the table" in printed
    with (out / "points.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 2
    assert {row["contender"] for row in rows} == {"ec2-c8g.large", "fargate"}
    few = [float(row["monthly_usd"]) for row in rows if row["cost.requests_per_month"] == "10000.0"]
    assert min(few) == pytest.approx((0.04048 + 2 * 0.004445) * 730)
    for row in rows:
        parts = sum(float(value) for key, value in row.items() if key.startswith("parts_") and value)
        assert parts == pytest.approx(float(row["monthly_usd"]))
    for name in ("sweep.png", "sweep.svg"):
        assert (out / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("cost.only=[fargat]", "cost.only: no contender 'fargat'; did you mean 'fargate'"),
        ("cost.token_in=5", "cost.token_in: unknown key; did you mean 'tokens_in'"),
        ("cost.weights=fp8", "cost.weights: expected"),
        ("cost.tokens_in=5000", "cost.tokens_in, cost.tokens_out: 5,000 tokens are beyond the context"),
        ("cost.slo=latenzy=1s", "did you mean 'latency'"),
        ("cost.requests_per_month=many", "cost.requests_per_month 'many': expected a number"),
        ("cost.requests_per_month=null", "expected cost.requests_per_month"),
        ("workload.spec=minilm-mo", "did you mean 'minilm-moe'"),
        ("target.latency_limit_s=3", "target: unknown key"),
        ("sweep={grid: {cost.only: [[fargate], [fargat]]}}", "point 1"),
    ],
)
def test_bad_input_is_one_line_that_names_the_key(smoe: Run, config: Path, setting: str, said: str) -> None:
    code, _, told = smoe("run", str(config), "--set", setting)
    assert code == 2
    assert said in told
    assert str(config) in told
    assert len(told.splitlines()) == 1


def test_nobody_serves_is_exit_2_with_the_reasons(smoe: Run, config: Path, tmp_path: Path) -> None:
    settings = ("--set", "cost.slo=0.001s@p99", "--out", str(tmp_path / "out"))
    code, printed, _ = smoe("run", str(config), *settings)
    assert code == 2
    assert "SLO missed" in printed
    assert "no contender keeps the promise, request in 0.001 s at p99" in printed


def test_the_picture_takes_names_and_several_keys(tmp_path: Path) -> None:
    """Keys without numbers stand as names, others give panels; a sweep in which nobody serves has no picture."""
    rows = [
        {"contender": name, "requests_per_month": 1e6, "cost.pay": pay, "cost.weights": weights, "seed": seed}
        | {"monthly_usd": usd + seed}
        for name, usd in (("ec2", 50.0), ("fargate", 60.0))
        for pay in ("on-demand", "savings-1y")
        for weights in ("fp32", None)
        for seed in (0, 1)
    ]
    draw_bills(rows, ["cost.pay", "cost.weights", "seed"], "some", tmp_path / "some")
    assert (tmp_path / "some.png").exists()
    draw_bills([row | {"monthly_usd": None} for row in rows], ["cost.pay"], "none", tmp_path / "none")
    assert not (tmp_path / "none.png").exists()
