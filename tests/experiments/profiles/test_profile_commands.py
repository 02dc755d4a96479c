"""Profiles from the command line: if these fail, a person reads another platform than is simulated."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from calibration.published.files import calibrate_public
from calibration.tables import Period
from experiments.profiles.picture import draw_fit
from experiments.profiles.reading import changes, constants_of, fitted_to, value_text
from simulator.profiles.schema import load_profile
from tests.calibration.published.test_public import SHARED, init_file, network_file
from tests.experiments.conftest import Run

BASE = load_profile()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """INIT of two months and a token bucket."""
    measured = tmp_path / "measured"
    measured.mkdir()
    init_file(measured, rows=400, months=(3, 4))
    network_file(measured, 900.0, 250.0, 70.0)
    return measured


# -- calibrate -------------------------------------------------------------------------------------------


def test_a_calibrated_profile_is_one_that_can_be_loaded(smoe: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    code, printed, _ = smoe("calibrate", "--public", str(folder), "--out", str(out))
    assert code == 0
    assert "network.burst_bytes: 2.5e+08 bytes" in printed
    assert "5 constants measured, 0 of them kept" in printed
    loaded = load_profile(out)
    assert loaded.name == "mine"
    fit = loaded.network.burst_bytes.fit
    assert fit is not None
    assert (fit.samples, fit.runs, fit.region, len(fit.sha256)) == (4, 2, "us-east-1", 64)
    assert loaded.storage.get_latency_s.kept == "not measured"
    code, printed, _ = smoe("calibrate", "--public", str(folder), "--out", str(out), "--json")
    assert json.loads(printed)["network"]["burst_bytes"]["fit"]["method"] == "median"
    assert yaml.safe_load(out.read_text()) == json.loads(printed)


def test_the_report_has_a_picture_of_every_quantity(smoe: Run, folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    smoe("calibrate", "--public", str(folder), "--out", str(tmp_path / "mine.yaml"), "--report", str(report))
    text = (report / "report.md").read_text()
    pictures = sorted(path.name for path in report.glob("*.png"))
    assert len(pictures) == 5
    assert all(f"]({name})" in text for name in pictures)
    assert min(path.stat().st_size for path in report.glob("*.png")) > 5_000
    assert "storage.get_latency_s" in text.split("Not measured, kept from")[1].split("\n")[0]
    assert "| `network.burst_bytes` | bytes | 3.1e+08 | 2.5e+08 | 2.5e+08 to 2.5e+08 | median | 4, 2 |" in text


def test_a_picture_is_the_same_bytes_again(folder: Path, tmp_path: Path) -> None:
    found = calibrate_public(folder, BASE).fits[0]
    for name in ("a", "b"):
        draw_fit(found, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# -- show and diff ---------------------------------------------------------------------------------------


def test_show_has_every_constant_with_its_source(smoe: Run) -> None:
    _, printed, _ = smoe("profile", "show")
    for name, leaf in constants_of(BASE).items():
        assert f"| `{name}` | {value_text(leaf)} |" in printed
        assert leaf.source in printed
    assert "| `storage.storage_class` | standard |" in printed
    _, printed, _ = smoe("profile", "show", "aws-us-east-1-2026", "--json")
    assert json.loads(printed)["network"]["burst_bytes"]["value"] == 310e6


def test_show_says_that_keep_alive_is_a_guess_and_that_its_sources_contradict_each_other(smoe: Run) -> None:
    """600 s would else look measured; a user who plans for it must see that 389 or 697 s fit as well."""
    _, printed, _ = smoe("profile", "show")
    (row,) = [line for line in printed.splitlines() if line.startswith("| `start.keep_alive_s` ")]
    assert "| 600 | s | low | 2026 | 95% 389 to 697 |" in row
    assert "contradict" in row
    assert "each 380 s of idling halve" in row


def test_diff_says_what_changed_and_by_how_much(smoe: Run, tmp_path: Path) -> None:
    data = yaml.safe_load(Path("simulator/profiles/aws-us-east-1-2026.yaml").read_text())
    data["network"]["burst_bytes"] |= {"value": 155e6, "source": "measured again"}
    data["network"]["sustained_bytes_per_s"] |= {"source": "another source, the same value"}
    data["storage"]["storage_class"] = "express"
    data["start"]["keep_alive_halving_s"] = data["start"]["keep_alive_s"]
    del data["start"]["packages"]["python3.13-arm64-image"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data | {"name": "mine"}))
    _, printed, _ = smoe("profile", "diff", "aws-us-east-1-2026", str(tmp_path / "mine.yaml"), "--json")
    found = {change["name"]: change for change in json.loads(printed)["changes"]}
    assert found["network.burst_bytes"]["ratio"] == 0.5
    said = {name: (change["before"], change["after"]) for name, change in found.items()}
    assert said["storage.storage_class"] == ("standard", "express")
    assert said["start.keep_alive_halving_s"] == (None, "600")
    assert found["start.packages.python3.13-arm64-image.init_s"]["after"] is None
    assert "network.sustained_bytes_per_s" not in found
    _, printed, _ = smoe("profile", "diff", "aws-us-east-1-2026", str(tmp_path / "mine.yaml"))
    assert "| `network.burst_bytes` | bytes | 3.1e+08 | 1.55e+08 | -50.0% |" in printed
    assert changes(BASE, BASE) == []
    assert "No value differs" in smoe("profile", "diff", "aws-us-east-1-2026", "aws-us-east-1-2026")[1]


# -- check -----------------------------------------------------------------------------------------------


def test_one_month_is_fitted_and_another_tests_it(smoe: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "skyrise_lambda_network_intervals.csv").unlink()
    path = folder / "coldstart_maxday_raw_2026.csv"
    rows = pd.read_csv(path)
    slower = rows.date.str.startswith("2026-04")
    rows.loc[slower, "init_ms"] *= 1.5  # April is slower by half
    rows.to_csv(path, index=False)
    march = str(tmp_path / "march.yaml")
    smoe("calibrate", "--public", str(folder), "--until", "2026-03", "--out", march)
    found = {}
    for bound, month in (("--until", "2026-03"), ("--since", "2026-04")):
        code, printed, _ = smoe("profile", "check", march, "--public", str(folder), bound, month, "--json")
        assert code == 0
        found[month] = {row["quantity"]: row for row in json.loads(printed)["quantities"]}
    name = "INIT, python3.12 x86_64 zip, p50"
    assert found["2026-03"][name]["verdict"] == "within"
    assert found["2026-04"][name]["verdict"] == "outside"
    assert found["2026-04"][name]["error"] == pytest.approx(1 / 1.5 - 1, abs=0.05)
    assert {"predicted", "measured", "spread", "spread_of", "source", "unit"} <= found["2026-04"][name].keys()
    _, printed, _ = smoe("profile", "check", march, "--public", str(folder), "--since", "2026-04")
    assert "The profile was fitted to rows of coldstart_maxday_raw_2026.csv" in printed
    assert fitted_to(BASE, folder, Period()) == []


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public measurements are not here")
def test_every_public_file_is_judged(smoe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.check.probes.MANY", 200)
    code, printed, _ = smoe("profile", "check", "--public", str(SHARED), "--json")
    rows = json.loads(printed)["quantities"]
    assert (code, len(rows)) == (0, 137)
    assert {row["verdict"] for row in rows} == {"within", "outside", "spread unknown"}
    assert all((row["spread"] is None) == (row["verdict"] == "spread unknown") for row in rows)


def test_a_profile_that_halves_is_checked_as_well(smoe: Run, folder: Path, tmp_path: Path) -> None:
    data = yaml.safe_load(Path("simulator/profiles/aws-us-east-1-2026.yaml").read_text())
    data["start"]["keep_alive_halving_s"] = data["start"]["keep_alive_s"]
    (tmp_path / "halving.yaml").write_text(yaml.safe_dump(data))
    assert smoe("profile", "check", str(tmp_path / "halving.yaml"), "--public", str(folder))[0] == 0


# -- what a person gets wrong ----------------------------------------------------------------------------


def without_a_package(path: Path) -> str:
    data = yaml.safe_load(Path("simulator/profiles/aws-us-east-1-2026.yaml").read_text())
    del data["start"]["packages"]["python3.12-x86_64-image"]
    path.write_text(yaml.safe_dump(data))
    return str(path)


def without_a_constant(path: Path) -> str:
    data = yaml.safe_load(Path("simulator/profiles/aws-us-east-1-2026.yaml").read_text())
    del data["network"]["burst_bytes"]
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_bad_input_is_one_line_and_exit_2(smoe: Run, folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (("profile", "show", "aws-us-east-1-2025"), "did you mean 'aws-us-east-1-2026'?"),
        (("profile", "diff", "aws-us-east-1-2026", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("profile", "check", "--public", str(empty)), "none of the public files is there"),
        (("profile", "check", "--public", str(folder), "--since", "soon"), "--since: expected a year"),
        (("profile", "check", "--public", str(folder), "--since", "2030"), "nothing was measured"),
        (
            ("profile", "check", without_a_package(tmp_path / "p.yaml"), "--public", str(folder)),
            "did you mean 'python3.1",
        ),
        (
            ("profile", "show", without_a_constant(tmp_path / "c.yaml")),
            "network.burst_bytes: required, but missing",
        ),
        (("calibrate", "--public", str(empty), "--out", str(tmp_path / "o.yaml")), "none of the public files"),
        (("calibrate", "--public", str(folder), "--base", "aws-us-est-1-2026", "--out", "o.yaml"), "did you mean"),
        (("profile", "shwo"), "shwo"),
    ]
    for arguments, said in cases:
        code, printed, err = smoe(*arguments)
        assert (code, printed) == (2, ""), arguments
        assert said in err, arguments
        assert len(err.strip().splitlines()) == 1, arguments
