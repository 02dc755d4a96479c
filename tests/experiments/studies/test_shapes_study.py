"""Which shape is cheapest, by model and precision: a wrong row sends a reader to the wrong deployment."""

import json
import math
from pathlib import Path

import pytest

from experiments.studies.presets import PresetRow
from experiments.studies.shapes import HEADER, ShapeRow, cells, study_shapes, write_shapes
from experiments.studies.shapes_picture import draw_shapes
from experiments.tools.markdown import number
from simulator.profiles.schema import load_profile
from tests.experiments.conftest import Run


@pytest.fixture(scope="module")
def rows() -> list[ShapeRow]:
    return study_shapes(["olmoe-1b-7b", "minilm-moe"], load_profile(), 512, 0.5, precisions=("bf16", "int8"))


def test_a_model_that_fits_one_function_has_a_price_for_it(rows: list[ShapeRow]) -> None:
    assert [(row.model, row.weights) for row in rows] == [
        ("minilm-moe", "bf16"),
        ("minilm-moe", "int8"),
        ("olmoe-1b-7b", "bf16"),
        ("olmoe-1b-7b", "int8"),
    ]
    for row in rows:
        assert math.isnan(row.whole_usd) == (row.needs_mb > 10_240)
        assert not math.isnan(row.cut_usd)
        assert row.cut_functions >= 2
        assert len(cells(row)) == len(HEADER)
    assert [math.isnan(row.whole_usd) for row in rows] == [False, False, True, False], "13.8 GB, 6.9 GB"


def test_an_expert_a_function_is_the_dearest_shape(rows: list[ShapeRow]) -> None:
    for row in rows:
        assert row.experts_usd > row.cut_usd
        assert row.cheapest in ("whole", "blocks")


def test_table_and_picture_are_written(rows: list[ShapeRow], tmp_path) -> None:
    write_shapes(rows, "A title", tmp_path)
    draw_shapes(rows, "A title", tmp_path / "shapes")
    assert {"shapes.csv", "shapes.md", "shapes.png", "shapes.svg"} == {p.name for p in tmp_path.iterdir()}
    assert "10,240 MB" in (tmp_path / "shapes.svg").read_text()


def test_presets_tells_each_precision_and_shape(
    rows: list[ShapeRow], smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.studies.shapes.study_shapes", lambda *_, **__: rows)
    monkeypatch.setattr(
        "experiments.studies.presets.study_presets", lambda *_, **__: [PresetRow("minilm-moe", 4, 1)]
    )
    for picture in ("presets_picture.draw_presets", "shapes_picture.draw_shapes"):
        monkeypatch.setattr(f"experiments.studies.{picture}", lambda *_: None)
    code, out, err = smoe("presets", "minilm-moe", "--out", str(tmp_path / "json"), "--json")
    assert code == 0, err
    (model,) = json.loads(out)
    assert [(x["weights"], x["whole_usd"]) for x in model["shapes"]] == [
        (x.weights, x.whole_usd) for x in rows[:2]
    ]
    out = smoe("presets", "minilm-moe", "--out", str(tmp_path / "table"))[1]
    lines = [line.split()[:3] for line in out.splitlines() if line.startswith("olmoe-1b-7b")]
    assert lines == [["olmoe-1b-7b", "bf16", "-"], ["olmoe-1b-7b", "int8", number(rows[3].whole_usd)]]
