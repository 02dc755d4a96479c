"""What public models cost: a row that is wrong sends a reader of a cost study to the wrong model."""

import pytest

from experiments.studies.presets import HEADER, cells, study_presets, write_presets
from experiments.studies.presets_picture import draw_presets
from moe.errors import InputError
from simulator.profiles.schema import load_profile


@pytest.fixture(scope="module")
def rows():
    return study_presets(["minilm-moe", "olmoe-1b-7b"], load_profile(), 1024, 0.5)


def test_a_small_model_is_cheaper_and_faster_than_a_large_one(rows):
    small, large = rows
    assert small.usd < large.usd
    assert small.tokens_per_s > large.tokens_per_s
    assert large.group == 4, "64 experts in 16 functions"
    assert large.functions >= 16 * 16 + 17


def test_a_month_costs_more_than_the_seconds_used(rows):
    for row in rows:
        assert row.cluster_month_usd == pytest.approx(row.cluster_second_usd / 0.2)
        assert len(cells(row)) == len(HEADER)


def test_tables_and_picture_are_written(rows, tmp_path):
    write_presets(rows, "A title", tmp_path)
    draw_presets(rows, "A title", tmp_path / "presets")
    assert {"presets.csv", "presets.md", "presets.png", "presets.svg"} == {p.name for p in tmp_path.iterdir()}
    assert "olmoe-1b-7b" in (tmp_path / "presets.md").read_text()


def test_the_least_whole_bill_is_below_lambdaml(rows):
    """The least bill that a rule beats is none."""
    for row in rows:
        assert row.usd < row.lambdaml_usd


def test_an_unknown_model_is_named_with_the_nearest():
    with pytest.raises(InputError, match="olmoe"):
        study_presets(["olmo-1b-7b"], load_profile(), 1024, 0.5)
