"""The command figures: if these fail, a typing error costs an hour, or a stopped run starts anew."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.paper import job
from experiments.paper.figure import Rows
from experiments.paper.job import FIGURES, asked_for, run_figures
from experiments.paper.routing import Cell
from experiments.paper.settings import SCALES, Scale, config_path
from moe.errors import InputError
from tests.experiments.conftest import Run
from tests.experiments.paper.cases import tiny


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "15"], "--only 15: no such figure; known: 2, 3, 4, 10, 11, 12, 13, 14, overheads, ranking"),
        (["--only", "overhead"], "--only overhead: no such figure; known: 2, 3,"),
        (["--quick", "--paper-scale"], "--quick, --paper-scale: expected at most one of the two"),
        (["--workers", "0"], "0 is not in the range"),
    ],
)
def test_bad_input_is_one_line(smoe: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    code, out, err = smoe("figures", *arguments, "--out", str(tmp_path / "x"))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("scale", SCALES)
def test_every_packaged_figure_can_be_made_at_every_scale(scale: Scale) -> None:
    asked = asked_for([], scale, 0)
    assert [x.figure.number for x in asked] == list(FIGURES)
    for x in asked:
        cells = x.figure.cells(x.settings)
        assert cells
        for cell in cells[:1]:
            assert len(cell.model.layers_of_recording) == cell.spec.moe_layers
            assert x.file.paper
    if scale == "paper-scale":
        by = {x.figure.number: x.settings for x in asked}
        assert by["12"].miqcp_s == 180  # type: ignore[attr-defined]
        assert by["13"].batches == 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"models": ["Brt"]}, "models: no 'Brt' in workloads.yaml; did you mean 'Bert'?"),
        ({"texts": ["encyclopaedia"]}, "did you mean 'encyclopedia'?"),
        ({"lear": 1}, "lear: unknown key; did you mean 'layer'?"),
        ({"batches": 1}, "batches: input should be greater than or equal to 2, got 1"),
    ],
)
def test_a_mistake_in_a_figures_file_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    for path in config_path("").iterdir():
        (tmp_path / path.name).write_text(path.read_text())
    figure = yaml.safe_load((tmp_path / "fig03.yaml").read_text())
    figure["settings"] |= change
    (tmp_path / "fig03.yaml").write_text(yaml.safe_dump(figure))
    with pytest.raises(InputError) as error:
        asked_for(["03"], "default", 0, tmp_path)
    assert said in str(error.value)
    assert "fig03.yaml (default)" in str(error.value)


@pytest.fixture
def asked(no_recording: None, monkeypatch: pytest.MonkeyPatch) -> list[job.Asked]:
    """Two figures, tiny."""
    monkeypatch.setattr(job, "_record", lambda todo: {})
    return [replace(x, settings=tiny(x.figure.settings, seed=0)) for x in asked_for(["3", "4"], "quick", 0)]


@pytest.mark.slow
def test_what_is_there_is_kept_and_what_is_half_written_is_made_again(
    asked: list[job.Asked], tmp_path: Path
) -> None:
    def run(fresh: bool = False) -> dict[str, bytes]:
        run_figures(asked, "quick", 0, tmp_path, fresh, 1)
        of_time = {"wall_times.json", "provenance.json"}
        return {x.name: x.read_bytes() for x in tmp_path.iterdir() if x.is_file() and x.name not in of_time}

    first = run()
    assert {"fig03.csv", "fig03.json", "fig03.png", "fig03.svg", "fig04.csv", "claims.csv", "paper.md"} <= set(
        first
    )
    written = (tmp_path / "fig03.json").stat().st_mtime_ns
    made = (tmp_path / "provenance.json").read_text()
    assert run() == first
    assert (tmp_path / "fig03.json").stat().st_mtime_ns == written
    assert (tmp_path / "provenance.json").read_text() == made
    whole = (tmp_path / "fig03.json").read_text()
    (tmp_path / "fig03.json").write_text(whole[: len(whole) // 2])
    for cell in (tmp_path / "cells").iterdir():
        cell.write_text(cell.read_text()[:-3])
    assert run() == first
    assert run(fresh=True) == first  # same seed, same bytes


def test_a_figure_that_fails_does_not_stop_the_others(
    asked: list[job.Asked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Cell) -> Rows:
        raise RuntimeError("no such luck")

    asked = [replace(asked[0], figure=replace(asked[0].figure, compute=broken)), asked[1]]
    summary = run_figures(asked, "quick", 0, tmp_path, False, 1)
    assert summary["failed"] == {"3": "RuntimeError: no such luck"}
    assert {claim["figure"] for claim in summary["claims"]} == {"4"}
    assert "This figure failed: RuntimeError: no such luck" in (tmp_path / "paper.md").read_text()
    assert json.loads((tmp_path / "claims.json").read_text())["claims"] == summary["claims"]


def test_a_page_elsewhere_leads_back_to_the_pictures(asked: list[job.Asked], tmp_path: Path) -> None:
    page = tmp_path / "docs" / "paper.md"
    run_figures(asked[1:], "quick", 0, tmp_path / "results", False, 1, page)
    assert "![Figure 4](../results/fig04.png)" in page.read_text()
    said = page.read_text().partition("not made here: ")[2].partition(".")[0]
    assert {"figure 13", "rivals"} <= set(said.split(", "))
    assert "figure 4" not in said.split(", ")
    assert (tmp_path / "results" / "fig04.png").is_file()


def test_a_folder_of_another_scale_is_left_alone(asked: list[job.Asked], tmp_path: Path) -> None:
    run_figures(asked[:1], "quick", 0, tmp_path, False, 1)
    with pytest.raises(
        InputError, match="holds figures of scale 'quick', seed 0; expected a new folder for 'default'"
    ):
        run_figures(asked[:1], "default", 0, tmp_path, False, 1)
