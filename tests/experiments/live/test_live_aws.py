"""`smoe validate` on AWS: if these fail, a user pays unasked, pays more than agreed, or loses what was served.

The embedded endpoint, or nothing at all, stands in for AWS; no account is touched.
"""

import errno
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.live import run
from experiments.live.costs import LONGEST_S, live_estimate
from experiments.live.files import UNFINISHED, write_kept
from experiments.live.platform import LivePlatform, live_model
from experiments.live.problem import MAX_REPLICAS, guessed_problem, loads_of
from experiments.live.settings import LiveSettings
from lambda_probe.account.cleanup import leftovers
from lambda_probe.account.deploy import zip_of
from lambda_probe.live.model import LiveBatch
from lambda_probe.live.rows import LiveRow
from lambda_probe.local import LocalEndpoint, LocalSettings
from moe.errors import PlatformError
from moe.pretrained.export import ExportedModel
from simulator.plan import DeploymentPlan
from simulator.profiles.schema import load_profile
from simulator.records import Record
from simulator.serving.layer import EAGER
from simulator.serving.simulate import simulate
from tests.experiments.conftest import Run
from tests.lambda_probe.live.live_world import tiny_model, tokens

ROLE = "arn:aws:iam::123456789012:role/smoe-probe"
SETTINGS = LiveSettings(loads=(4, 8), memory_mb=(128, 256, 512), non_moe_memory_mb=512)
MINE = {
    "schema": "deployment-plan/1",
    "solver": "mine",
    "layers": [{"communication": "storage", "experts": [{"memory_mb": 256, "replicas": 2}] * 3}] * 2,
}
PLAN = DeploymentPlan.model_validate(MINE)


@pytest.fixture(scope="module")
def model() -> ExportedModel:
    return tiny_model()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, model: ExportedModel) -> None:
    """A model that is made at once, instead of the embedded one."""
    monkeypatch.setattr(run, "_model_and_text", lambda settings, seed: (model, tokens(64)))


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """One that fits AWS's python3.12; what it holds does not matter to what is installed here."""
    path = tmp_path / "numpy-2.4.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
    path.write_bytes(zip_of({"numpy-2.4.0.dist-info/WHEEL": b"1"}))
    return path


@pytest.mark.usefixtures("no_platform", "tiny")
def test_aws_is_told_what_it_costs_and_not_touched_without_consent(smoe: Run, wheel: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = (
        "--set",
        f"role={ROLE}",
        "--set",
        "region=eu-west-1",
        "--set",
        f"numpy_wheel={wheel}",
        "--out",
        str(out),
    )
    code, said, err = smoe("validate", "--backend", "aws", "--set", "budget_usd=0.25", *options)
    assert (code, said) == (2, "")
    for part in (
        "region eu-west-1",
        "creates at most 13 functions smoe-live-",
        "one bucket smoe-live-",
        "is expected to call them ",
        "if every call ran into its timeout",
        "costs at most $",
        "stops at $0.2500",
        "expected your consent: --yes",
    ):
        assert part in err
    assert not out.exists()


@pytest.mark.usefixtures("no_platform", "tiny")
def test_a_dry_run_needs_no_account_and_does_nothing(smoe: Run, tmp_path: Path) -> None:
    options = ("validate", "--backend", "aws", "--out", str(tmp_path / "out"), "--dry-run")
    code, said, _ = smoe(*options, "--json")
    found = json.loads(said)
    assert code == 0
    assert found["functions"] == 13
    assert found["gb_s"] < found["most_gb_s"]
    assert 0 < found["usd"] < found["most_usd"]
    code, said, _ = smoe(*options)
    assert f"Expected ${found['usd']:.4f}" in said
    assert max(map(len, said.splitlines())) <= 100
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_platform", "tiny")
def test_a_numpy_that_would_not_start_on_aws_is_refused_before_anything_is_made(
    smoe: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "numpy-2.4.0-cp311-cp311-manylinux_2_27_x86_64.whl"
    old.write_bytes(b"")
    code, _, err = smoe(
        "validate", "--backend", "aws", "--yes", "--set", f"role={ROLE}", "--set", f"numpy_wheel={old}"
    )
    assert code == 2
    assert "expected a wheel for cp312" in err
    monkeypatch.setattr("experiments.live.platform.sys", SimpleNamespace(version_info=(3, 11, 7)))
    code, _, err = smoe("validate", "--backend", "aws", "--yes", "--set", f"role={ROLE}")
    assert code == 2
    assert "expected --set numpy_wheel=FILE.whl" in err


def test_the_estimate_is_the_arithmetic_of_what_is_deployed_and_served(model: ExportedModel) -> None:
    """A plan of the user's, and five calibrating plans twice: two on 2 layers of 3 experts and 3 non-MoE,
    three of a stage a layer, on four lanes, on two and on one."""
    profile, loads = load_profile(), loads_of(model, tokens(64), SETTINGS.loads)
    found = live_estimate(model, loads, replace(SETTINGS, quick=True), profile, PLAN)
    storage, direct, mine = 6 + 3, 2 * 6 + 3, 2 * 6 + 3  # calls of a batch; as many are started before
    stages = 2 * (4 + 2 + 1)
    assert found.functions == 2 * 3 + 3 + 2 * 2
    assert found.invocations == 2 * (storage + direct + stages) * (1 + 3) + mine * (1 + 1 + 2 * SETTINGS.repeats)
    largest = max(loads)
    problem = guessed_problem(model, loads[largest].routing, profile, SETTINGS)
    routing = [loads[largest].routing]
    run_ = simulate(problem, PLAN, profile, serving=EAGER, routing=routing, poll_s=SETTINGS.poll_s)
    gb_s = sum(row.billed_gb_s for row in run_.records)
    one = replace(SETTINGS, quick=True, loads=SETTINGS.loads[-1:], repeats=1)
    two = replace(one, repeats=2)
    only = {largest: loads[largest]}
    more = (
        live_estimate(model, only, two, profile, PLAN).gb_s - live_estimate(model, only, one, profile, PLAN).gb_s
    )
    assert more == pytest.approx(gb_s), "one batch more is what the simulator says of one"
    non_moe_gb = 3 * 512 / 1024
    stages_gb = (2 + 1) * (1 + 2) + 4 * (1 + 1)  # GB; four lanes have the smaller size alone
    calibrating = 2 * (1 + 3) * (2 * (6 * MAX_REPLICAS * 0.5 + non_moe_gb) + stages_gb)
    users = (1 + 1 + 2 * SETTINGS.repeats) * (12 * 0.25 + non_moe_gb)
    assert found.most_gb_s == pytest.approx((calibrating + users) * LONGEST_S)
    assert found.most_call_usd < found.most_usd


def row() -> LiveRow:
    """A call that cost 0.4 USD."""
    record = Record(0, 0, "expert", "layer-0-expert-0", 128, 0, 0, 1.0, "", "i", "ok", False, 0.0, 0.0, 1.0)
    record.compute_cost_usd = 0.4
    return LiveRow(record, 0, 0.0, 1.0, 100, "")


class FakeLive:
    """A live model that serves batches without a platform; the third does not come back."""

    def __init__(self, model: ExportedModel, error: BaseException | None = None) -> None:
        self.model, self.error, self.served, self.started_usd = model, error, 0, 0.0

    def deploy(self, *_: Any) -> None:
        self.started_usd += 0.1

    def serve(self, batch: np.ndarray) -> LiveBatch:
        self.served += 1
        if self.error is not None and self.served == 3:
            raise self.error
        return LiveBatch(self.served, None, (row(),), 1.0, "", 1.0)


def validated(live: FakeLive, monkeypatch: pytest.MonkeyPatch, folder: Path, budget_usd: float = math.inf) -> None:
    """Serve with a live model until it ends early."""
    profile = load_profile()

    @contextmanager
    def opened(*_: Any) -> Iterator[FakeLive]:
        yield live

    monkeypatch.setattr(run, "live_model", opened)
    loads = loads_of(live.model, tokens(64), SETTINGS.loads)
    prepared = run.Prepared(SETTINGS, profile, live.model, loads, PLAN)
    run.run_validation(
        prepared,
        LivePlatform("aws", ROLE),
        measure=True,
        budget_usd=budget_usd,
        say=lambda text: None,
        keep=lambda session: write_kept(session, folder),
    )


def test_a_budget_stops_the_next_batch_counts_what_starting_cost_and_keeps_what_was_served(
    model: ExportedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    live = FakeLive(model)
    with pytest.raises(PlatformError, match=r"budget of 0.85 USD is used up \(0.9000 USD .*larger budget_usd"):
        validated(live, monkeypatch, tmp_path / "out", budget_usd=0.85)
    assert live.served == 2
    table = pd.read_parquet(tmp_path / "out" / UNFINISHED)
    assert list(table["compute_cost_usd"]) == [0.4, 0.4]
    assert set(table["plan"]) == {"calibration"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), PlatformError("gone"), RuntimeError("a crash")])
def test_whatever_ends_it_what_was_served_is_kept(
    error: BaseException, model: ExportedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(type(error)):
        validated(FakeLive(model, error), monkeypatch, tmp_path / "out")
    assert len(pd.read_parquet(tmp_path / "out" / UNFINISHED)) == 2


def test_a_full_disk_is_told_and_earlier_batches_are_kept(
    model: ExportedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = pd.DataFrame.to_parquet

    def full(table: pd.DataFrame, path: Path) -> None:
        if len(table) == 2:
            path.write_bytes(b"PAR1")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, path)

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(PlatformError, match=r"unfinished.parquet: cannot be written: No space left .* is kept"):
        validated(FakeLive(model), monkeypatch, tmp_path)
    assert len(pd.read_parquet(tmp_path / UNFINISHED)) == 1


class FolderAsCloudWatch:
    """CloudWatch Logs, as far as it is asked: the embedded endpoint's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(
            paginate={"filter_log_events": self._events, "describe_log_groups": self._groups}[operation]
        )

    def delete_log_group(self, logGroupName: str) -> None:
        (self.folder / f"{logGroupName.rsplit('/', 1)[-1]}.log").unlink(missing_ok=True)

    def _events(self, logGroupName: str, startTime: int) -> Any:
        file = self.folder / f"{logGroupName.rsplit('/', 1)[-1]}.log"
        text = file.read_text(errors="replace") if file.is_file() else ""
        return [{"events": [{"message": line + "\n"} for line in text.splitlines()]}]

    def _groups(self, logGroupNamePrefix: str) -> Any:
        return [{"logGroups": []}]


@pytest.mark.slow
def test_a_model_is_served_on_aws_s_way_and_nothing_of_it_stays(
    model: ExportedModel, wheel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """AWS's clients, role, tags, wheel and logs, with the embedded endpoint in AWS's place."""
    if not sys.platform.startswith("linux"):
        pytest.skip("AWS's runtime client is for Linux")
    logs, batch = tmp_path / "logs", tokens(7)
    with LocalEndpoint(LocalSettings(pending_s=0.02, log_folder=logs)) as endpoint:
        clients = replace(endpoint.clients(), logs=FolderAsCloudWatch(logs))
        monkeypatch.setattr(
            "lambda_probe.account.clients.aws_clients", lambda region: replace(clients, region=region)
        )
        platform = LivePlatform("aws", ROLE, "us-east-1", wheel)
        expected, routing = model.undistributed(batch)
        problem = guessed_problem(model, routing, load_profile(), SETTINGS)
        with live_model(platform, SETTINGS, model, load_profile()) as live:
            live.deploy(problem, PLAN)
            started_usd = live.started_usd
            served = live.serve(batch)
            (function,) = {
                each["Role"] + each["Runtime"] for each in clients.control.list_functions()["Functions"]
            }
            assert function == ROLE + "python3.12"
            assert leftovers(clients).tagged
        assert served.failed == ""
        assert served.output is not None
        assert np.abs(served.output - expected).max() < 1e-5
        assert 0 < started_usd < 1e-3
        assert leftovers(clients).tagged == ()
        assert list(logs.iterdir()) == []
