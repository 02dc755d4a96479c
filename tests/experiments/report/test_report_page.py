"""smoe report: if these fail, the page of a run lacks a number, loads something, or runs what a name says."""

import json
import shutil
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest

from experiments.report.page import Column, DataTable, Page, PlotKind, Section, html_of, text_of
from simulator.records import PHASES
from tests.experiments.conftest import Run
from tests.experiments.report.conftest import REFERENCE, committed, points, study

MARKUP = "<script>alert(1)</script>"


class Seen(HTMLParser):
    """What a page is made of: tags, addresses, table cells, data of its plots."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[str] = []
        self.headings: list[str] = []
        self.plots: list[tuple[str, dict]] = []
        self._kind = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action")]
        self._kind = found.get("data-kind") or self._kind
        self._inside = "json" if found.get("type") == "application/json" else tag
        if tag == "td":
            self.cells.append(found.get("data-v") or "")

    def handle_data(self, data: str) -> None:
        if self._inside == "json":
            self.plots.append((self._kind, json.loads(data)))
        elif self._inside == "td" and not self.cells[-1]:
            self.cells[-1] = data
        elif self._inside == "h2":
            self.headings.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def plot(self, kind: str) -> dict:
        """The first plot of a kind."""
        return next(data for each, data in self.plots if each == kind)


def seen(smoe: Run, folder: Path, out: Path) -> Seen:
    code, _, err = smoe("report", str(folder), "--out", str(out))
    assert (code, err) == (0, "")
    return Seen(out.read_text(encoding="utf-8"))


def test_the_page_of_an_experiment_has_its_numbers(smoe: Run, a_run: Path, tmp_path: Path) -> None:
    page = seen(smoe, a_run, tmp_path / "page.html")
    result = json.loads((a_run / "result.json").read_text())
    for row in result["methods"]:
        assert row["method"] in page.cells
        for key in ("billed_usd", "total_usd", "latency_s", "tokens_per_s"):
            assert repr(row[key]) in page.cells, key
    for heading in ("What is paid for", "Where the time goes", "Timeline of a batch", "What was asked"):
        assert heading in page.headings
    assert "workload.layers_of_recording" in page.cells
    assert json.loads((a_run / "provenance.json").read_text())["git_commit"] in page.cells

    bars = [data for kind, data in page.plots if kind == "bars"]
    bill, seconds = bars
    of_ods = bill["rows"].index("ODS")
    total = sum(part["values"][of_ods] for part in bill["parts"])
    expected = json.loads((REFERENCE / "result.json").read_text())["methods"][0]["total_usd"]
    assert total == pytest.approx(expected)
    latency = {row["method"]: row["latency_s"] for row in result["methods"]}
    for name in ("ODS", "LambdaML"):
        place = seconds["rows"].index(f"{name}, warm")
        assert sum(part["values"][place] for part in seconds["parts"]) == pytest.approx(latency[name])

    records = pd.read_parquet(a_run / "records.parquet")
    first = records[(records["plan"] == "ods") & (records["start"] == "warm") & (records["batch"] == 0)]
    drawn = page.plot("timeline")["batches"][0]
    assert drawn["name"] == "ODS, warm, batch 0"
    assert len(drawn["calls"]) == len(first)
    loads = page.plot("heat")["grids"][0]["values"]
    problem = json.loads((a_run / "problem.json").read_text())
    assert loads[2][1] == pytest.approx(problem["layers"][1]["experts"][2]["tokens"], abs=1e-3)


def test_the_committed_run_has_a_page_without_its_records(smoe: Run, tmp_path: Path) -> None:
    page = seen(smoe, committed("bert", tmp_path / "bert"), tmp_path / "page.html")
    assert "Timeline of a batch" in page.headings
    assert any(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)


def test_traffic_and_tables_have_pages(smoe: Run, tmp_path: Path) -> None:
    config = "experiments/configs/traffic/workflow.yaml"
    short = ("--set", "duration_s=40", "--set", "warm_up_s=0", "--set", "keep_rows=true")
    assert smoe("traffic", config, *short, "--out", str(tmp_path / "traffic"))[0] == 0
    page = seen(smoe, tmp_path / "traffic", tmp_path / "traffic.html")
    result = json.loads((tmp_path / "traffic" / "result.json").read_text())
    assert repr(result["metrics"]["latency_p99_s"]["mean"]) in page.cells
    assert set(result["functions"]) <= set(page.cells)
    assert page.plot("timeline")["batches"][0]["calls"]

    page = seen(smoe, points(tmp_path / "sweep"), tmp_path / "sweep.html")
    assert page.headings[0] == "Points"
    assert page.cells.count("no plan reaches the target") == 1
    assert page.plot("scatter")["table"] == "points-csv"

    page = seen(smoe, study(tmp_path / "study"), tmp_path / "study.html")
    assert page.headings[:2] == ["runs.csv", "summary.csv"]


def test_a_page_loads_nothing_and_runs_no_name(smoe: Run, a_run: Path, tmp_path: Path) -> None:
    named = tmp_path / "named"
    shutil.copytree(a_run, named)
    result = json.loads((named / "result.json").read_text())
    result |= {"name": MARKUP, "about": f"a {MARKUP} & b", "finding": '"><img src=x onerror=alert(1)>'}
    result["methods"][0]["method"] = MARKUP
    (named / "result.json").write_text(json.dumps(result))
    plain = seen(smoe, a_run, tmp_path / "plain.html")
    page = seen(smoe, named, tmp_path / "named.html")
    assert page.tags == plain.tags
    assert MARKUP in page.cells
    assert MARKUP in page.plot("dots")["rows"]
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    html = (tmp_path / "named.html").read_text()
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert "url(" not in html


def test_json_names_the_page(smoe: Run, tmp_path: Path) -> None:
    code, out, _ = smoe("report", str(points(tmp_path / "sweep")), "--json")
    said = json.loads(out)
    assert code == 0
    assert said["page"] == str(tmp_path / "sweep" / "report.html")
    assert said["bytes"] == Path(said["page"]).stat().st_size
    assert said["sections"] == ["Points", "What was asked"]


def _broken(tmp_path: Path, name: str, text: str) -> Path:
    folder = tmp_path / "broken"
    shutil.copytree(REFERENCE, folder)
    (folder / name).write_text(text)
    return folder


def test_a_broken_folder_is_one_clear_line(smoe: Run, a_run: Path, tmp_path: Path) -> None:
    whole = (REFERENCE / "result.json").read_text()

    def changed(**keys: Any) -> str:
        return json.dumps(json.loads(whole) | keys)

    cases = {
        "half": ("result.json", whole[:999], "result.json: not valid json"),
        "older": ("result.json", changed(schema="result/0"), "expected 'result/1', got 'result/0'"),
        "other": ("result.json", changed(schema="x"), "schema: expected one of result/1"),
        "lacking": ("result.json", '{"schema": "result/1"}', "required, but missing"),
        "wrong": ("result.json", changed(methods=3), "methods: input should be a valid list, got 3"),
        "plan": ("plans/ods.json", "{", "plans/ods.json: not valid json"),
        "problem": ("problem.json", "[]", "problem.json: expected a mapping"),
        "config": ("config.yaml", "a: [", "config.yaml: not valid yaml"),
        "records": ("records.parquet", "half", "records.parquet: not a readable parquet file"),
        "points": ("points.csv", "", "points.csv: not a readable CSV table"),
    }
    for case, (name, text, said) in cases.items():
        folder = _broken(tmp_path / case, name, text)
        code, out, err = smoe("report", str(folder))
        assert (code, out) == (2, ""), case
        assert said in err, case
        assert err.count("\n") == 1, case
        assert not (folder / "report.html").exists(), case


def test_a_folder_that_is_no_run_is_named(smoe: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("name: begun\n")
    for folder, said in (
        ("none", "no such folder"),
        ("empty", "no run; expected result.json"),
        ("begun", "the run is not finished"),
    ):
        code, _, err = smoe("report", str(tmp_path / folder))
        assert code == 2
        assert f"{tmp_path / folder}: {said}" in " ".join(err.split())
    code, _, err = smoe("report", str(REFERENCE), "--out", "/proc/no/page.html")
    assert code == 1
    assert "cannot be written" in err


def test_long_tables_say_what_they_leave_out() -> None:
    rows = [[number, "x" * 300] for number in range(6000)]
    table = DataTable("t", [Column("n"), Column("text")], rows)
    html = html_of(Page("page", [], [Section("s", [table])], ""))
    assert html.count("<tr>") == 5001
    assert "1,000 more are in the file" in html


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "yes"), (0.123456, "0.1235"), (1234.5, "1,234"), (1e-7, "1e-07"), (10240, "10,240")],
)
def test_numbers_read_easily(value: float | None, text: str) -> None:
    assert text_of(value) == text


def test_every_phase_has_a_colour_and_every_plot_a_drawer() -> None:
    static = files("experiments.report") / "static"
    css = (static / "page.css").read_text()
    assert [phase for phase in (*PHASES, "other") if f"--phase-{phase}:" not in css] == []
    script = (static / "page.js").read_text()
    for kind in get_args(PlotKind):
        assert f"{kind}: draw{kind.capitalize()}" in script
