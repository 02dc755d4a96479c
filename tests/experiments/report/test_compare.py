"""smoe compare: if these fail, two runs that differ look the same, or the other way round."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.experiments.conftest import Run
from tests.experiments.report.conftest import REFERENCE, committed, played, points


def numbers(smoe: Run, a: Path, b: Path) -> tuple[dict, dict[tuple[str, str], dict]]:
    code, out, err = smoe("compare", str(a), str(b), "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    return said, {(each["of"], each["what"]): each for each in said["differences"]}


def test_batches_that_both_served_are_pairs(smoe: Run, a_run: Path, a_larger_run: Path) -> None:
    said, found = numbers(smoe, a_run, a_larger_run)
    a, b = (json.loads((run / "result.json").read_text()) for run in (a_run, a_larger_run))
    for left, right in zip(a["methods"], b["methods"], strict=True):
        for what, key in (
            ("experts' compute", "billed_usd"),
            ("whole bill", "total_usd"),
            ("warm latency", "latency_s"),
        ):
            each = found[left["method"], what]
            assert each["a"] == pytest.approx(left[key])
            assert each["b"] == pytest.approx(right[key])
            assert each["how"] == "paired over 3 batches"
            assert each["low"] < each["change"] < each["high"]
    assert found["ODS", "experts' compute"]["verdict"] == "B higher"
    assert found["ODS", "cold latency"]["verdict"] == "unknown"
    assert "one cold batch in each" in said["confidence"]


def test_other_batches_are_no_pairs(smoe: Run, a_run: Path, tmp_path: Path) -> None:
    other = played(tmp_path / "other", slower=1.2, batches=2)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 1"))
    said, found = numbers(smoe, a_run, other)
    assert found["ODS", "experts' compute"]["how"] == "Welch, 3 and 2 batches"
    assert {"key": "seed", "a": 0, "b": 1} in said["configuration"]


def test_a_plan_of_a_users_own_solver_goes_by_one_name(smoe: Run, a_run: Path, tmp_path: Path) -> None:
    """Else its batches and its gap are not found, and a table calls it what no other does."""
    own = Path(shutil.copytree(a_run, tmp_path / "own"))
    (own / "plans" / "lambdaml.json").rename(own / "plans" / "mine.baseline-by_load.json")
    text = (own / "result.json").read_text().replace('"lambdaml"', '"mine.baseline:by_load"')
    (own / "result.json").write_text(text.replace('"LambdaML"', '"by load"'))
    records = pd.read_parquet(own / "records.parquet")
    records["plan"] = records["plan"].replace("lambdaml", "mine.baseline:by_load")
    records.to_parquet(own / "records.parquet")
    assert numbers(smoe, own, own)[1]["by load", "experts' compute"]["how"] == "paired over 3 batches"
    assert smoe("report", str(own), "--out", str(tmp_path / "page.html"))[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "by load, cold" in page
    assert "mine.baseline" not in page


def test_without_records_there_is_no_confidence_and_it_says_so(smoe: Run, tmp_path: Path) -> None:
    bert, gpt2 = committed("bert", tmp_path / "bert"), committed("gpt2", tmp_path / "gpt2")
    said, found = numbers(smoe, bert, gpt2)
    assert all(each["low"] is None for each in found.values())
    assert said["confidence"].startswith("No repetition and so no confidence: means of batches only")
    assert {setting["key"] for setting in said["configuration"]} >= {"workload.spec", "workload.record"}
    assert not {"name", "about"} & {setting["key"] for setting in said["configuration"]}
    _, same = numbers(smoe, bert, bert)
    assert {each["verdict"] for each in same.values()} == {"same"}


def test_the_terminal_has_a_hundred_columns_and_the_page_the_same_numbers(
    smoe: Run, a_run: Path, a_larger_run: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    code, out, _ = smoe("compare", str(a_run), str(a_larger_run), "--out", str(page))
    assert code == 0
    table = [line for line in out.splitlines() if str(tmp_path) not in line and not line.startswith(("A:", "B:"))]
    assert max(map(len, table)) <= 100
    assert "paired over 3 batches" in " ".join(out.split())
    html = page.read_text(encoding="utf-8")
    _, found = numbers(smoe, a_run, a_larger_run)
    assert repr(found["ODS", "experts' compute"]["low"]) in html


def test_traffic_of_one_seed_is_paired_and_of_two_is_not(smoe: Run, tmp_path: Path) -> None:
    config = "experiments/configs/traffic/function.yaml"
    short = ("--set", "duration_s=60", "--set", "warm_up_s=0", "--set", "replications=3")
    for name, more in (("a", ()), ("b", ("--set", "slo_s=0.3")), ("c", ("--seed", "5"))):
        assert smoe("traffic", config, *short, *more, "--out", str(tmp_path / name))[0] == 0
    said, found = numbers(smoe, tmp_path / "a", tmp_path / "b")
    within, mean = found["", "requests served within the SLO"], found["", "latency, mean"]
    assert within["how"] == "paired over 3 replications"
    assert within["change"] < 0
    assert mean["verdict"] == "same"
    assert said["configuration"] == [{"key": "slo_s", "a": 0.5, "b": 0.3}]
    _, found = numbers(smoe, tmp_path / "a", tmp_path / "c")
    assert found["", "latency, mean"]["how"] == "Welch, 3 and 3 replications"
    assert found["", "latency, mean"]["low"] < found["", "latency, mean"]["high"]


def test_points_are_matched_by_what_both_sweeps_varied(smoe: Run, tmp_path: Path) -> None:
    a, b = points(tmp_path / "a"), points(tmp_path / "b", factor=1.5)
    shuffled = pd.read_csv(b / "points.csv").sample(frac=1, random_state=3)
    shuffled[shuffled["seed"] < 9].to_csv(b / "points.csv", index=False)
    _, found = numbers(smoe, a, b)
    billed = found["<script>alert(1)</script>", "billed_usd"]
    table = pd.read_csv(a / "points.csv").dropna(subset="billed_usd")
    table = table[table["plan"] == "<script>alert(1)</script>"]
    assert billed["how"] == "paired over 3 rows"
    assert billed["change"] == pytest.approx(0.5 * table["billed_usd"].mean())
    assert billed["verdict"] == "B higher"


def test_points_are_not_matched_by_their_number_alone(smoe: Run, tmp_path: Path) -> None:
    for name, factor in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        experts = [4 * factor, 8 * factor]
        table = pd.DataFrame({"point": [0, 1], "workload.experts": experts, "billed_usd": [1.0 * factor, 2.0]})
        table.to_csv(tmp_path / name / "points.csv", index=False)
    _, found = numbers(smoe, tmp_path / "a", tmp_path / "b")
    assert {each["how"] for each in found.values()} == {"means only, rows cannot be matched"}
    _, found = numbers(smoe, tmp_path / "a", tmp_path / "a")
    assert {(each["what"], each["verdict"]) for each in found.values()} == {("billed_usd", "same")}


def test_points_that_cannot_be_matched_have_means_only(smoe: Run, tmp_path: Path) -> None:
    _, found = numbers(smoe, points(tmp_path / "a"), points(tmp_path / "b", factor=2, first_seed=7))
    billed = found["points.csv", "billed_usd"]
    assert billed["how"] == "means only, rows cannot be matched"
    assert billed["relative"] == pytest.approx(1)
    assert billed["verdict"] == "unknown"


def test_runs_of_two_kinds_and_no_runs_are_one_clear_line(smoe: Run, tmp_path: Path) -> None:
    sweep = points(tmp_path / "sweep")
    code, out, err = smoe("compare", str(REFERENCE), str(sweep))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{sweep}: expected the same kind of run as {REFERENCE}, experiment; got tables" in err
    code, _, err = smoe("compare", str(REFERENCE), str(tmp_path))
    assert code == 2
    assert "no run; expected result.json" in err
    other = tmp_path / "other"
    other.mkdir()
    (other / "runs.csv").write_text("a,b\n1,2\n")
    code, _, err = smoe("compare", str(sweep), str(other))
    assert code == 2
    assert "no table of" in err
