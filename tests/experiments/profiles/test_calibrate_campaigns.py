"""Rows of campaigns: if these fail, a profile rests on measurements that went wrong, or hides that it does."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.campaigns import calibrate_campaigns
from calibration.fitting.laws import Beneath, side_by_side
from calibration.fitting.regression import least_bounds, start_and_slope, theil_sen, used_up
from calibration.measured.cpu import shown
from calibration.measured.rows import STARTED, WRONG_MEMORY, read_campaigns
from lambda_probe.campaign.measurements import FILE, write_measurements
from moe.errors import InputError
from simulator.draws import Draws
from simulator.profiles.schema import load_profile
from tests.calibration.check.campaign_of import probe, write
from tests.calibration.check.test_calibration_laws import other
from tests.experiments.conftest import Run


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return probe(other(), runs=4, probes=("cold", "warm"))


def test_bad_rows_are_left_out_counted_and_change_nothing(rows: pd.DataFrame, tmp_path: Path) -> None:
    clean = calibrate_campaigns([write(rows, tmp_path / "a")], load_profile())
    spoilt = rows[rows.probe == "warm"].tail(3).copy()
    spoilt["client_s"] = 50.0
    spoilt["status"] = ["handler-error", "ok", "ok"]
    spoilt["reported_memory_mb"] = [1024.0, 128.0, 1024.0]
    spoilt["cold"] = [False, False, True]
    made = calibrate_campaigns([write(pd.concat([rows, spoilt]), tmp_path / "b")], load_profile())
    assert made.profile.start.warm_s.value == clean.profile.start.warm_s.value
    assert made.left_out == {"failed: handler-error": 1, WRONG_MEMORY: 1, STARTED: clean.left_out[STARTED] + 1}


def test_a_constant_that_was_not_measured_is_kept_and_says_so(rows: pd.DataFrame, tmp_path: Path) -> None:
    made = calibrate_campaigns([write(rows, tmp_path)], load_profile()).profile
    assert made.payload.bytes_per_s == load_profile().payload.bytes_per_s.model_copy(
        update={"kept": "not measured"}
    )
    assert made.start.warm_s.kept is None


def test_a_package_that_the_base_lacks_is_added(rows: pd.DataFrame, tmp_path: Path) -> None:
    renamed = rows.assign(package=rows.package.replace("python3.12-x86_64-zip", "python3.14-x86_64-zip"))
    made = calibrate_campaigns([write(renamed, tmp_path)], load_profile()).profile
    assert "python3.14-x86_64-zip" not in load_profile().start.packages
    assert made.start.package == "python3.14-x86_64-zip"
    added = made.start.packages["python3.14-x86_64-zip"]
    assert added.init_s.median == pytest.approx(0.25, rel=0.05)
    assert added.provisioning_s.median == pytest.approx(0.3, rel=0.05)


def test_several_campaigns_are_runs_of_one_calibration(rows: pd.DataFrame, tmp_path: Path) -> None:
    first, second = write(rows, tmp_path / "a"), write(probe(other(), 3, 9, ("warm",)), tmp_path / "b")
    both = read_campaigns([first, second])
    assert both.rows.run_key.nunique() == 7
    assert (
        calibrate_campaigns([second, first], load_profile()).profile
        == calibrate_campaigns([first, second], load_profile()).profile
    )
    with pytest.raises(InputError, match="has the same measurements as"):
        read_campaigns([first, write(rows.sample(frac=1.0, random_state=1), tmp_path / "c")])


def test_folders_that_are_no_campaigns(smoe: Run, tmp_path: Path) -> None:
    out = str(tmp_path / "p.yaml")
    code, _, told = smoe("calibrate", str(tmp_path), "--out", out)
    assert (code, "expected a campaign's folder, with measurements.parquet" in told) == (2, True)
    code, _, told = smoe("calibrate", "--out", out)
    assert (code, "expected folders of campaigns (smoe probe), or --public DIR" in told) == (2, True)
    code, _, told = smoe("calibrate", "--fetch")
    assert (code, "--fetch, --since and --until: expected together with --public DIR" in told) == (2, True)
    code, _, told = smoe("calibrate", "--public", str(tmp_path))
    assert (code, "--out: expected the profile's file" in told) == (2, True)
    code, _, told = smoe("profile", "check", "aws-us-east-1-2026")
    assert (code, "expected folders of campaigns (smoe probe), or --public DIR" in told) == (2, True)


def test_check_finds_the_true_profile_right_and_another_one_wrong(
    smoe: Run, rows: pd.DataFrame, tmp_path: Path
) -> None:
    folder, profile = str(write(rows, tmp_path / "mine")), str(tmp_path / "found.yaml")
    assert smoe("calibrate", folder, "--out", profile)[0] == 0
    code, printed, _ = smoe("profile", "check", profile, folder, "--json")
    found = json.loads(printed)
    errors = {row["quantity"]: abs(row["error"]) for row in found["quantities"]}
    assert (code, found["fitted_to"]) == (0, [folder])
    assert errors["INIT, p50, python3.12-x86_64-zip"] < 0.05
    assert errors["warm invocation, p50"] < 0.05
    code, printed, _ = smoe("profile", "check", "aws-us-east-1-2026", folder, "--json")
    wrong = json.loads(printed)
    assert wrong["fitted_to"] == []
    assert {row["verdict"] for row in wrong["quantities"] if "INIT" in row["quantity"]} == {"outside"}


def test_check_skips_a_package_that_the_profile_lacks_and_says_so(
    smoe: Run, rows: pd.DataFrame, tmp_path: Path
) -> None:
    renamed = rows.assign(package=rows.package.replace("python3.12-x86_64-zip", "python3.14-x86_64-zip"))
    code, printed, _ = smoe("profile", "check", "aws-us-east-1-2026", str(write(renamed, tmp_path / "mine")))
    assert code == 0
    assert "Skipped, since the profile has no such package: cold starts of python3.14-x86_64-zip" in printed
    assert "| INIT, p50, python3.12-x86_64-image |" in printed


# -- laws ------------------------------------------------------------------------------------------------


def test_bounds_are_told_only_by_what_they_bound() -> None:
    memory, threads = np.array([512.0, 1024, 1769, 3008, 3008]), np.array([1.0, 1, 1, 1, 2])
    units = np.column_stack([memory, threads])
    rates = np.minimum(memory * 9.0, threads * 16_000.0)
    rates[1] *= 1.5  # one that went wrong
    assert least_bounds(units, rates) == pytest.approx([9.0, 16_000.0], rel=0.02)
    small, large = least_bounds(units[:1], rates[:1]), least_bounds(units[2:4], np.array([16_000.0, 16_000.0]))
    assert np.isnan(small).all()  # memory or threads: one point does not tell
    assert np.isnan(large[0])
    assert large[1] == 16_000.0


def test_a_sum_gives_back_what_is_beneath() -> None:
    rng = np.random.default_rng(2)
    seen, own = {0.5: 0.018, 0.99: 0.074}, {0.5: 0.15, 0.99: 0.4}
    law = Beneath()
    runs = [
        side_by_side(Draws(own, rng).many(500) + Draws(seen, rng).many(500), Draws(seen, rng).many(600))
        for _ in range(3)
    ]
    found = law.candidates(runs)["shifted lognormal beneath"]
    assert not isinstance(found, float)
    assert law.number(found) == pytest.approx(0.15, rel=0.05)
    assert found.draws_from[0.99] == pytest.approx(0.4, rel=0.1)
    assert law.error(found, runs) < law.error(0.15, runs) / 5


def test_a_bucket_refills_while_nothing_moves_unless_it_is_full() -> None:
    sizes, began_s, ended_s = (
        np.array([100.0, 100.0, 50.0]),
        np.array([0.0, 1.0, 20.0]),
        np.array([1.0, 3.0, 21.0]),
    )
    assert used_up(sizes, began_s, ended_s, np.zeros(3), 10.0).tolist() == [0.0, 90.0, 0.0]
    assert used_up(sizes, began_s, ended_s, np.full(3, 0.2), 10.0).tolist() == [0.0, 92.0, 2.0]


def test_lines_by_relative_errors_and_by_distance() -> None:
    x = np.array([1.0, 4.0, 64.0, 1024.0])
    line = start_and_slope(x, 5e-4 + 6e-4 * x)
    assert (line.intercept, line.slope) == pytest.approx((5e-4, 6e-4), rel=1e-4)
    x, y = np.array([0.0, 0.0, 0.0, 20.0, 20.0, 20.0, 100.0]), np.array([0.0, 0, 0, 40.0, 44.0, 48.0, 100.0])
    assert theil_sen(x, y, by_distance=True).slope == pytest.approx(1.0)
    assert theil_sen(x, y).slope > 1.9


def test_a_table_from_before_functions_told_cpu_time_is_read(tmp_path: Path) -> None:
    rows = probe(load_profile(), runs=3, probes=("warm", "get", "put")).drop(columns="cpu_s")
    read = calibrate_campaigns([write(rows, tmp_path)], other()).profile
    assert read.storage.get_latency_s.kept is None
    assert read.network.moved_by_cpu is other().network.moved_by_cpu


def test_no_effect_is_told_from_one_run_or_within_the_spread_of_runs() -> None:
    assert not shown([0.01])
    assert not shown([0.01, -0.004, 0.012, 0.001])
    assert shown([0.010, 0.011, 0.012, 0.010])
    assert not shown([1.0, 1.01, 0.99], none=1.0)


def test_the_endpoint_s_own_setting_is_the_memory_of_a_vcpu(tmp_path: Path) -> None:
    rows = probe(load_profile(), runs=3, probes=("multiply",))
    about = {"campaign": "small", "account": {"concurrency": 16, "mb_per_core": 4096.0}}
    write_measurements(tmp_path / FILE, rows.to_dict("records"), about)
    made = calibrate_campaigns([tmp_path], load_profile()).profile
    assert made.compute.mb_per_vcpu.value == 4096.0
    assert "setting" in made.compute.mb_per_vcpu.source
