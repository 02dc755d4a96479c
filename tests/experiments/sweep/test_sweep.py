"""Sweeps: if these fail, a night of computing is lost when it is interrupted, or its tables are wrong."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments.run.folder import run_key
from experiments.sweep import kinds, run
from experiments.sweep.executors import Executor
from experiments.sweep.kinds import SCENARIOS
from experiments.sweep.points import Point, load_sweep
from experiments.sweep.worker import Outcome, Task, compute
from experiments.tools.console import log
from moe.held import held
from simulator.traffic.scenario import load_scenario
from tests.experiments.conftest import Run

SCENARIO = """
schema: traffic-scenario/1
name: tiny
arrivals: {poisson: {rate_per_s: 5}}
duration_s: 5
slo_s: 0.5
function: {memory_mb: 1769, work: {constant_s: 0.1}}
sweep:
  grid: {arrivals.poisson.rate_per_s: [2, 4.5], function.memory_mb: [1769, 3008]}
  seeds: 2
"""
OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod")
TABLES = ("points.csv", "points.parquet", "result.json")


def resolved(submit: Callable[[Task], Outcome]) -> Callable[[Task], Future[Outcome]]:
    """Something that computes at once, as what computes later."""

    def later(task: Task) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        try:
            future.set_result(submit(task))
        except Exception as error:
            future.set_exception(error)
        return future

    return later


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute points inside this process, without their pictures, and leave it as it was."""

    def compute_here(task: Task) -> Outcome:
        outcome = compute(task)
        log.quiet = False
        return outcome

    @contextmanager
    def executor(*_: Any) -> Iterator[Executor]:
        yield Executor(resolved(compute_here), 2, (BrokenProcessPool,))

    monkeypatch.setattr(run, "executor", executor)
    monkeypatch.setattr("experiments.traffic.run.draw_latency", lambda *_: None)
    monkeypatch.setattr(log, "quiet", False)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.chdir(Path.cwd())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return path


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "points.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def break_point(monkeypatch: pytest.MonkeyPatch, broken: Callable[[Any], bool], error: Exception) -> None:
    """Make the points fail of which `broken` is true."""

    def compute_or_fail(scenario: Any, folder: Any) -> Any:
        if broken(scenario):
            raise error
        return kinds._run_scenario(scenario, folder)

    monkeypatch.setattr(kinds, "SCENARIOS", dataclasses.replace(SCENARIOS, run=compute_or_fail))


@pytest.mark.usefixtures("inside")
def test_the_table_has_each_point_in_order_with_the_numbers_of_a_single_run(
    smoe: Run, config: Path, tmp_path: Path
) -> None:
    code, out, err = smoe("traffic", str(config), "--out", str(tmp_path / "out"))
    assert code == 0, err
    assert max(map(len, out.splitlines()[:-1])) <= 100
    rows = rows_of(tmp_path / "out")
    settings = [
        (float(row["arrivals.poisson.rate_per_s"]), int(row["function.memory_mb"]), int(row["seed"]))
        for row in rows
    ]
    assert settings == [(rate, mb, seed) for rate in (2, 4.5) for mb in (1769, 3008) for seed in (0, 1)]
    assert pd.read_parquet(tmp_path / "out" / "points.parquet").seed.tolist() == [0, 1] * 4

    alone = tmp_path / "alone.yaml"
    alone.write_text(SCENARIO.partition("sweep:")[0])
    sets = ["--set=arrivals.poisson.rate_per_s=4.5", "--set=function.memory_mb=1769", "--seed=1"]
    assert smoe("traffic", str(alone), *sets, "--out", str(tmp_path / "alone"))[0] == 0
    point = tmp_path / "out" / "points" / rows[5]["folder"]
    for name in ("result.json", "config.yaml"):
        assert (point / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    result = json.loads((point / "result.json").read_text())
    assert float(rows[5]["latency_p99_s"]) == result["metrics"]["latency_p99_s"]["mean"]


@pytest.mark.usefixtures("inside")
def test_again_it_computes_nothing_and_fresh_computes_all(smoe: Run, config: Path, tmp_path: Path) -> None:
    command = ("traffic", str(config), "--out", str(tmp_path / "out"))
    assert smoe(*command)[0] == 0
    first = tables(tmp_path / "out")
    code, _, err = smoe(*command)
    assert (code, tables(tmp_path / "out")) == (0, first)
    assert "8 of 8 points are already there" in err
    assert "[1/" not in err
    code, out, err = smoe(*command, "--fresh", "--json")
    assert (code, tables(tmp_path / "out")) == (0, first)
    assert "[8/8]" in err
    assert json.loads(out)["rows"] == json.loads(first["result.json"])["rows"]


@pytest.mark.usefixtures("inside")
def test_a_changed_sweep_of_the_same_experiment_keeps_what_is_there(
    smoe: Run, config: Path, tmp_path: Path
) -> None:
    command = ("traffic", str(config), "--out", str(tmp_path / "out"))
    assert smoe(*command, "--set", "sweep={seeds: 2}")[0] == 0
    code, _, err = smoe(*command, "--set", "sweep={seeds: 3}")
    assert code == 0
    assert "2 of 3 points are already there" in err
    assert len(rows_of(tmp_path / "out")) == 3
    code, _, err = smoe(*command, "--set", "slo_s=0.4")
    assert code == 2
    assert "holds the results of another experiment" in err
    assert len(rows_of(tmp_path / "out")) == 3  # nothing lost


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("damage", ['{"key": ', "\udcff"])
def test_a_half_written_result_is_computed_again(smoe: Run, config: Path, tmp_path: Path, damage: str) -> None:
    command = ("traffic", str(config), "--out", str(tmp_path / "out"))
    assert smoe(*command)[0] == 0
    first = tables(tmp_path / "out")
    victim = tmp_path / "out" / "points" / rows_of(tmp_path / "out")[3]["folder"] / "result.json"
    victim.write_bytes(damage.encode(errors="surrogateescape"))
    code, _, err = smoe(*command)
    assert (code, tables(tmp_path / "out")) == (0, first)
    assert "7 of 8 points are already there" in err


@pytest.mark.usefixtures("inside")
def test_a_failed_point_is_in_the_table_and_stops_no_other(
    smoe: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("traffic", str(config), "--out", str(tmp_path / "out"))
    with monkeypatch.context() as patched:
        broken = lambda scenario: scenario.seed == 1 and scenario.function.memory_mb == 1769  # noqa: E731
        break_point(patched, broken, ZeroDivisionError("no such\nluck"))
        code, out, err = smoe(*command)
    assert code == 1
    assert "2 of 8 points failed" in err
    assert "ZeroDivisionError: no such luck" in out
    rows = rows_of(tmp_path / "out")
    assert [row["status"] for row in rows] == ["done", "failed", "done", "done"] * 2
    assert [row["error"] for row in rows] == ["", "ZeroDivisionError: no such luck", "", ""] * 2
    kept = json.loads((tmp_path / "out" / "points" / rows[1]["folder"] / "error.json").read_text())
    assert "compute_or_fail" in kept["trace"]
    code, _, err = smoe(*command)  # what failed is tried again
    assert code == 0
    assert "6 of 8 points are already there" in err
    assert {row["status"] for row in rows_of(tmp_path / "out")} == {"done"}


@pytest.mark.usefixtures("inside")
def test_two_sweeps_at_once_in_one_folder_are_refused(smoe: Run, config: Path, tmp_path: Path) -> None:
    with held(tmp_path / "out"):
        code, _, err = smoe("traffic", str(config), "--out", str(tmp_path / "out"))
    assert code == 2
    assert f"process {os.getpid()} is writing into it; expected another folder" in err


@pytest.mark.slow
@pytest.mark.usefixtures("inside")
def test_killed_at_any_moment_and_resumed_the_tables_are_the_same(smoe: Run, config: Path, tmp_path: Path) -> None:
    """Five times the process ends, as by kill -9, at a random one of its operations on files."""
    assert smoe("traffic", str(config), "--out", str(tmp_path / "undisturbed"))[0] == 0
    rng, folder = random.Random(0), tmp_path / "killed"
    killed = [_killed(config, folder, rng.randrange(1, 60)) for _ in range(5)]
    assert any(killed)
    assert smoe("traffic", str(config), "--out", str(folder))[0] == 0
    assert tables(folder) == tables(tmp_path / "undisturbed")
    left = sorted(path.name for path in (folder / "points").iterdir())
    assert left == sorted(path.name for path in (tmp_path / "undisturbed" / "points").iterdir())


def _killed(config: Path, folder: Path, at: int) -> bool:
    """Compute the sweep in a child that ends at so many operations below the folder; whether it got there."""
    child = os.fork()
    if child == 0:
        left = at

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event in OPERATIONS and str(folder) in str(arguments):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            sweep = load_sweep(config, (), SCENARIOS)
            assert sweep is not None
            run.run_sweep(sweep, folder, run.How())
            os._exit(0)
        finally:
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


def test_a_worker_elsewhere_computes_the_same_and_one_with_other_code_refuses(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.traffic.run.draw_latency", lambda *_: None)
    monkeypatch.setattr(log, "quiet", False)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alone.yaml").write_text(SCENARIO.partition("sweep:")[0])
    scenario = load_scenario(tmp_path / "alone.yaml")
    here = compute(Task(scenario, run_key(scenario), str(tmp_path), str(tmp_path), ("x",)))
    there = compute(Task(scenario, run_key(scenario), "/not/here", "/not/here", ("x",)))
    assert here.error is None
    assert there.files["result.json"] == here.files["result.json"]
    assert not list(tmp_path.glob(".point-*"))
    other = compute(Task(scenario, "0" * 64, str(tmp_path), str(tmp_path), ("x",)))
    assert "other code" in str(other.error)
    assert set(other.files) == {"config.yaml"}


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_own_point_only() -> None:
    """Real processes: point 3 ends its worker, always; points that were running beside it come back."""
    from joblib.externals.loky import get_reusable_executor

    points = [Point(number, {"seed": number}, load_tiny()) for number in range(6)]
    number_of = {id(point): point.number for point in points}

    def submit(point: Any) -> Any:
        return get_reusable_executor(max_workers=2, timeout=10).submit(_end_or_answer, number_of[id(point)])

    executor = Executor(submit, 2, (BrokenProcessPool,))
    found = {point.number: outcome for point, outcome in run._outcomes(points, lambda point: point, executor)}  # type: ignore[arg-type, return-value]
    get_reusable_executor().shutdown(kill_workers=True)
    assert sorted(found) == list(range(6))
    assert getattr(found[3], "error", None) == run.DIED
    assert [found[number] for number in (0, 1, 2, 4, 5)] == ["answer"] * 5


def load_tiny() -> Any:
    from simulator.traffic.scenario import Scenario

    return Scenario.model_validate(
        {"name": "t", "arrivals": {"poisson": {"rate_per_s": 1}}, "requests": 1, "slo_s": 1,
         "function": {"memory_mb": 128, "work": {"constant_s": 0}}}
    )  # fmt: skip


def _end_or_answer(number: int) -> str:
    if number == 3:
        os._exit(1)
    return "answer"


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        (
            "grid: {function.memory: [128]}",
            "point 0 of 1 (function.memory=128): function.memory: unknown key; did you",
        ),
        ("grid: {arivals.poisson.rate_per_s: [1]}", "arivals: unknown key; did you mean 'arrivals'?"),
        ("gird: {seed: [1]}", "sweep.gird: unknown key; did you mean 'grid'?"),
        (
            "grid: {function.memory_mb: [128, 64]}",
            "point 1 of 2 (function.memory_mb=64): function.memory_mb: input",
        ),
        ("grid: {profile: [nowhere]}", "point 0 (profile=nowhere): "),
        ("grid: {name.x: [1]}", "point 0 of 1: 'name' is a value, not a group of keys"),
        ("grid: {a..b: [1]}", "expected a key such as"),
        ("seeds: 1000000000", "sweep: expected at most 100,000 points, got 1,000,000,000"),
    ],
)
def test_a_wrong_sweep_is_named_before_anything_is_computed(
    smoe: Run, config: Path, tmp_path: Path, sweep: str, said: str
) -> None:
    config.write_text(f"{SCENARIO.partition('sweep:')[0]}sweep: {{{sweep}}}\n")
    code, out, err = smoe("traffic", str(config), "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_setting_that_the_sweep_would_undo_is_refused(smoe: Run, config: Path) -> None:
    code, _, err = smoe("traffic", str(config), "--seed", "3")
    assert code == 2
    assert "--set seed=3: the sweep sets seed" in err


def test_without_ray_it_says_how_to_get_it(
    smoe: Run, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = smoe("traffic", str(config), "--executor", "ray", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "-m pip install ray" in err
    assert len(err.strip().splitlines()) == 1
