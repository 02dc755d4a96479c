"""Which shape is cheapest, by model and precision: a wrong row sends a reader to the wrong deployment."""

import math

import pytest

from experiments.studies.shapes import HEADER, ShapeRow, cells, study_shapes, write_shapes
from experiments.studies.shapes_picture import draw_shapes
from simulator.profiles.schema import load_profile


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
