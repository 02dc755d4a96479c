"""What a live validation says of live and simulated rows, and the command's bad input."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from calibration.measured.live_model import BlockFit, ModelFit
from experiments.cli import cli
from experiments.live import run
from experiments.live.compare import Comparison, compare, rank
from experiments.live.files import UNFINISHED
from experiments.live.picture import draw_live
from experiments.live.plans import asked_cores, calibrating_plans, overflowing, plans_for, staged_plans, uniform
from experiments.live.problem import measured_problem, with_blocks
from experiments.live.session import Served, ServedLive
from experiments.live.settings import LiveSettings, settings_for
from lambda_probe.live.model import LiveBatch
from lambda_probe.live.rows import LiveRow
from moe.errors import InputError
from moe.pretrained.settings import GateSettings
from moe.spec import load_spec
from optimizer.problem import make_problem
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import load_profile
from simulator.serving.overflow import replicas_that_fit
from simulator.serving.simulate import simulate
from tests.experiments.conftest import Run
from tests.lambda_probe.live.live_world import tiny_model

ROUTING = np.array([[900, 60, 30, 34], [300, 300, 200, 224]])


def problem() -> DeploymentProblem:
    return make_problem(
        load_spec("minilm-moe", moe_layers=2), ROUTING, load_profile(), memory_mb=(128, 256, 512, 1024)
    )


def served(name: str, plan: DeploymentPlan, slower: float = 1.0, worst: float = 0.0) -> Served:
    """A plan whose live rows are the simulated ones, or `slower` (billed seconds and latency)."""
    simulated = simulate(problem(), plan, load_profile(), routing=[ROUTING] * 2)
    batches = []
    for number in range(2):
        rows = []
        for row in simulated.records:
            if row.batch == number:
                live = replace(
                    row,
                    billed_s=row.billed_s * slower,
                    billed_gb_s=row.billed_gb_s * slower,
                    compute_cost_usd=row.compute_cost_usd * slower,
                )
                start, end = row.phases.get("compute", (0.0, 0.0))
                cpu_s = (end - start) * row.memory_mb / 1769
                rows.append(LiveRow(live, 0, cpu_s, row.billed_s, 100, ""))
        latency_s = float(simulated.latency_s[number]) * slower
        batches.append(LiveBatch(number, None, tuple(rows), latency_s, "", latency_s))
    live_part = ServedLive(name, plan, 1024, tuple(batches), 0.1)
    return Served(live_part, problem(), simulated, worst, True, 1.0, 1769.0)


def served_stages() -> Served:
    """The whole model on four lanes, whose live rows are the simulated ones."""
    plan = staged_plans(2, (1024, 2048))["whole-4-lanes"]
    fits = (BlockFit((0.1, 0.05), (1e-4, 5e-5), 0.0),) * 2
    model, small = tiny_model(), LiveSettings()
    made = with_blocks(problem(), model, fits, small)
    blocks = made.blocks
    assert blocks is not None
    made = made.with_blocks(blocks.model_copy(update={"sequences": 8}))
    simulated = simulate(made, plan, load_profile(), routing=[ROUTING] * 2)
    batches = [
        LiveBatch(
            number,
            None,
            tuple(LiveRow(row, 0, 0.1, row.billed_s, 100, "") for row in simulated.records if row.batch == number),
            float(simulated.latency_s[number]),
            "",
            1.0,
        )
        for number in range(2)
    ]
    live = ServedLive("whole-4-lanes", plan, 1024, tuple(batches), 0.1)
    return Served(live, made, simulated, 0.0, True, asked_cores(made, plan, 4096.0), 4096.0)


def test_lanes_are_compared_as_experts_are() -> None:
    """A plan with stages has calls, phases, layers and a bill on the page; it asks for four lanes' cores."""
    found = compare(served_stages(), 1e-4, 2.0)
    assert found.methods == "blocks"
    assert found.cores == 1.0
    assert (found.cost_usd.error, found.latency_s.error, found.calls_error) == pytest.approx((0, 0, 0))
    assert len(found.calls) == 4
    assert found.phases_s["compute"].live > 0
    assert len(found.layers_usd) == 1


def test_rows_that_are_the_same_have_no_error() -> None:
    found = compare(served("a", uniform(problem(), "storage", 512)), 1e-4, 2.0)
    assert found.cost_usd.error == pytest.approx(0)
    assert found.total_usd.error == pytest.approx(0)
    assert found.latency_s.error == pytest.approx(0)
    assert found.calls_error == pytest.approx(0)
    assert all(x.error == pytest.approx(0) for x in found.layers_usd)
    assert found.correct
    assert not found.oversubscribed
    assert found.contention == pytest.approx(1)


def test_a_platform_that_is_slower_by_a_quarter_shows_as_that() -> None:
    """Else a user trusts a profile that is wrong."""
    found = compare(served("a", uniform(problem(), "pipelined", 512), slower=1.25), 1e-4, 2.0)
    assert found.cost_usd.error == pytest.approx(1 / 1.25 - 1)
    assert found.latency_s.error == pytest.approx(1 / 1.25 - 1)
    assert found.calls_error == pytest.approx(1 - 1 / 1.25)
    assert math.isnan(found.contention)


def test_wrong_outputs_and_too_many_cores_are_said() -> None:
    assert not compare(served("a", uniform(problem(), "storage", 512), worst=2e-4), 1e-4, 2.0).correct
    assert compare(served("a", uniform(problem(), "storage", 512)), 1e-4, 0.5).oversubscribed


def test_an_order_that_is_wrong_beyond_the_spread_is_named() -> None:
    """What plans are compared for is which of them is cheaper."""
    cheap, dear = uniform(problem(), "storage", 256), uniform(problem(), "storage", 1024)
    right = [compare(served(name, plan), 1e-4, 9.0) for name, plan in (("cheap", cheap), ("dear", dear))]
    (found,) = rank(right, "cost_usd")
    assert found.kendall_tau == 1
    assert found.wrong == ()
    wrong = [compare(served("cheap", cheap, slower=3.0), 1e-4, 9.0), right[1]]
    (found,) = rank(wrong, "cost_usd")
    assert found.kendall_tau == -1
    assert found.wrong == (("cheap", "dear"),)


def test_plans_cover_methods_replicas_and_overflow() -> None:
    """Each method must have been served before errors are told of it."""
    made = problem()
    plans = plans_for(made, quick=False)
    methods = {layer.communication for plan in plans.values() for layer in plan.layers}
    assert methods == {"storage", "pipelined", "direct"}
    assert any(layer.replicas.max() > 1 for plan in plans.values() for layer in plan.layers)
    assert plans["total"].non_moe_memory_mb in made.platform.memory_mb
    assert plans["total"].reload == "when-cold"
    assert set(plans_for(made, quick=True)) < set(plans)


def test_gates_of_other_sizes_take_as_long_as_their_share_says_and_hold_what_was_measured() -> None:
    """They were measured at 3,008 MB; a plan for the whole bill may give them any size that held them."""
    made = problem()
    fit = ModelFit(
        seconds_per_call=(0.0,) * 4,
        seconds_per_token=(1e-4,) * 4,
        non_moe_s={1024: (0.2, 0.1, 0.05)},
        runtime_bytes=6e7,
        bytes_per_token=0.0,
        non_moe_bytes=250 * 2**20,
        share_exponent=1.25,
        contention=1.0,
        errors={},
    )
    found = measured_problem(made, fit, 1024)
    assert [size.memory_mb for size in found.non_moe] == [256, 512, 1024]
    small = found.non_moe[0]
    slower = (3008 / 256) ** 1.25
    assert (*small.non_moe_s, small.tail_s) == pytest.approx((0.2 * slower, 0.1 * slower, 0.05 * slower))
    assert small.next_load_s == made.non_moe[-3].next_load_s
    assert (found.layers[0].non_moe_s, found.tail_s) == (0.2, 0.05)


def test_the_overflowing_plan_overflows() -> None:
    heavy = make_problem(
        load_spec("minilm-moe", moe_layers=2), 8 * ROUTING, load_profile(), memory_mb=(128, 256, 512, 1024)
    )
    plan = overflowing(heavy)
    runs = [replicas_that_fit(heavy, e, layer, heavy.layers[e].tokens) for e, layer in enumerate(plan.layers)]
    assert max(int((x / layer.replicas).max()) for x, layer in zip(runs, plan.layers, strict=True)) > 1
    assert asked_cores(heavy, plan, 1024.0) > plan.layers[0].memory_mb.sum() / 1024


def test_calibrating_plans_have_both_methods_and_every_size() -> None:
    plans = calibrating_plans(problem(), quick=True)
    assert {plan.layers[0].communication for plan in plans} == {"storage", "direct"}
    assert {x.memory_mb for plan in plans for layer in plan.layers for x in layer.experts} == {128, 256, 512, 1024}


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    comparisons: list[Comparison] = [
        compare(served("a", uniform(problem(), method, 512)), 1e-4, 2.0) for method in ("storage", "direct")
    ]
    draw_live(comparisons, tmp_path / "validation")
    assert (tmp_path / "validation.png").stat().st_size > 5000
    assert (tmp_path / "validation.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "aws"], "expected its ARN as role"),
        (["--backend", "lokal"], "'lokal' is not one of 'local', 'aws'"),
        (
            ["--backend", "local", "--set", "budget_usd=-1"],
            "budget_usd: input should be greater than or equal to 0",
        ),
        (["--profile", "aws-us-west"], "no profile"),
        (["--set", "mb_per_core=-1"], "mb_per_core: input should be greater than 0"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_created(smoe: Run, arguments: list[str], said: str) -> None:
    code, out, err = smoe("validate", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("outputs_right", "cost_error", "latency_error", "missed"),
    [
        (True, 0.10, 0.15, []),
        (True, 0.11, 0.01, ["median error of the cost 11.0%, over 10%"]),
        (True, 0.01, 0.16, ["median error of the latency 16.0%, over 15%"]),
        (False, 0.01, 0.01, ["outputs differ from the undistributed model's"]),
        (True, math.nan, 0.01, ["median error of the cost nan%, over 10%"]),
    ],
)
def test_a_goal_that_is_missed_is_said_and_ends_in_exit_1(
    outputs_right: bool,
    cost_error: float,
    latency_error: float,
    missed: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a script takes a simulation for validated that is a third off."""
    total = {"outputs_right": outputs_right, "cost_error": cost_error, "latency_error": latency_error}
    monkeypatch.setattr(run.Validation, "summary", lambda self: total)
    assert object.__new__(run.Validation).missed() == missed


@pytest.mark.slow
def test_one_plan_is_validated_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as a user runs it, with a plan of their own: outputs right, files there, nothing left."""
    small = LiveSettings(gates=GateSettings(experts=2), loads=(8,), quick=True)
    monkeypatch.setattr(LiveSettings, "made_quick", lambda self: small)
    pytest.importorskip("awslambdaric")
    plan = {
        "schema": "deployment-plan/1",
        "solver": "mine",
        "layers": [{"communication": "storage", "experts": [{"memory_mb": 512, "replicas": 1}] * 2}] * 2,
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    out = tmp_path / "out"
    asked = [
        "validate",
        "--quick",
        "--set",
        "repeats=1",
        "--set",
        f"plan={tmp_path / 'plan.json'}",
        "--out",
        str(out),
        "--json",
    ]
    result = CliRunner().invoke(cli, asked)
    assert result.exception is None, result.output
    found = json.loads((out / "validation.json").read_text())
    assert found["summary"]["outputs_right"]
    assert found["price_list_date"] == load_profile().prices.price_list_date.isoformat()
    assert found["plans"][0]["plan"] == "mine"
    assert 0 < found["plans"][0]["cost_usd"]["live"] < 1e-3
    assert {"validation.md", "validation.png", "rows.parquet", "profile.yaml"} <= {x.name for x in out.iterdir()}


SMALL = """
import runpy
from dataclasses import replace
from experiments.live.settings import LiveSettings

LiveSettings.made_quick = lambda self: replace(self, loads=(8,), repeats=1, quick=True)
runpy.run_module("experiments", run_name="__main__")
"""
"""The command line, with a quick validation that serves eight sequences at a time."""


@pytest.mark.slow
def test_a_validation_that_is_stopped_keeps_its_calls_and_leaves_nothing_else(tmp_path: Path) -> None:
    """SIGTERM in the middle of a batch: functions, endpoint and temporary files go, what was served stays."""
    pytest.importorskip("awslambdaric")
    temporary, out = tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    command = [sys.executable, "-c", SMALL, "validate", "--quick", "--set", "repeats=1", "--out", str(out)]
    variables = {**os.environ, "TMPDIR": str(temporary)}
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, cwd=root, env=variables, stdout=-1, stderr=-1, text=True) as running:
        deadline = time.monotonic() + 300
        while not (out / UNFINISHED).exists():
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        running.send_signal(signal.SIGTERM)
        said, err = running.communicate(timeout=120)
    assert (running.returncode, said) == (1, "")
    assert f"the calls of the batches so far: {out / UNFINISHED}" in err
    assert list(temporary.iterdir()) == []
    calls = pd.read_parquet(out / UNFINISHED)
    assert len(calls) >= 3 + 2 * 4
    assert set(calls["plan"]) == {"calibration"}


def test_a_profile_says_how_much_memory_buys_a_core_here() -> None:
    measured = load_profile()  # a vCPU is 1769 MB there
    assert settings_for(None, "local", None).mb_per_core == 4096.0
    assert settings_for(measured, "local", None).mb_per_core == 1769.0
    assert settings_for(measured, "local", 1800.0).mb_per_core == 1800.0
    with pytest.raises(
        InputError, match=r"mb_per_core=4096: expected about 1769, compute\.mb_per_vcpu of profile"
    ):
        settings_for(measured, "local", 4096.0)
