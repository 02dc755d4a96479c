"""The decision map: a wrong one sends people to the dearer platform, or to measure what does not matter."""

import numpy as np
import pytest
import yaml

from experiments.studies.decision_map import CHOICES, make_map
from experiments.studies.decision_map_file import DecisionMap
from experiments.studies.decision_map_page import page, write_map
from experiments.studies.decision_map_picture import draw_map, grids
from experiments.studies.worth_of_knowing import worth_of_knowing
from experiments.tools.kept import Store


def small(**changes):
    data = {
        "name": "small",
        "spec": "minilm-moe",
        "x": {"axis": "batch_tokens", "low": 512, "high": 8192, "points": 2},
        "y": {"axis": "cluster_utilisation", "low": 0.01, "high": 1, "points": 2},
        "draws": {"least": 8, "most": 16},
    }
    return DecisionMap.model_validate(data | changes)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return tmp_path_factory.mktemp("map") / "cells"


@pytest.fixture(scope="module")
def found(cells):
    return make_map(small(), Store(cells))


def test_an_idle_cluster_is_dearest_and_a_busy_one_cheapest(found):
    """By rows of y: the first row is a cluster that serves 1% of its paid time."""
    assert [cell.winner for cell in found.cells[:2]] == ["lambda", "lambda"]
    assert [cell.winner for cell in found.cells[2:]] == ["cluster", "cluster"]
    for cell in found.cells:
        assert sum(cell.probability.values()) == pytest.approx(1)
        assert cell.usd[cell.winner] == min(cell.usd.values())


def test_the_cluster_costs_what_its_utilisation_says(found):
    assert found.cells[0].usd["cluster"] == pytest.approx(100 * found.cells[2].usd["cluster"])


def test_the_same_seed_gives_the_same_map(found, tmp_path):
    assert make_map(small(), Store(tmp_path, workers=2)) == found


def test_a_stopped_map_goes_on_from_its_cells(found, cells):
    """Else a map that was stopped in its last minute is computed anew, for hours."""
    first, *others = sorted(cells.iterdir())
    first.unlink()
    told = []
    assert make_map(small(), Store(cells), lambda done, total, rate: told.append((done, total))) == found
    assert told == [(len(others), 4), (4, 4)]


def test_a_map_is_written_and_drawn(found, tmp_path):
    write_map(small(), found, tmp_path)
    draw_map(small(), found, tmp_path / "map")
    assert {"map.png", "map.svg", "map.csv", "worth.csv", "map.json", "map.md"} <= {
        p.name for p in tmp_path.iterdir()
    }
    assert "| Lambda | 2 |" in page(small(), found)
    assert sum(grids(small(), found)[name] for name in CHOICES) == pytest.approx(np.ones((2, 2)))


def test_provisioned_concurrency_pays_when_batches_never_stop(tmp_path):
    """Its duration is cheaper, its standing price is shared by many batches."""
    many = make_map(small(x={"axis": "batches_per_hour", "low": 1, "high": 100000, "points": 2}), Store(tmp_path))
    rare, often = many.cells[0].usd, many.cells[1].usd
    assert rare["provisioned"] > rare["lambda"]
    assert often["provisioned"] < often["lambda"]


def test_knowing_what_decides_is_worth_what_theory_says():
    """Choice 0 costs 1, choice 1 costs 1 + t with t normal: knowing t saves E[max(0, -t)] = sigma / sqrt(2 pi)."""
    rng = np.random.default_rng(1)
    t, noise = rng.normal(0, 0.3, 4000), rng.normal(0, 1, 4000)
    worth = worth_of_knowing(np.column_stack([t, noise]), np.column_stack([np.ones(4000), 1 + t]))
    assert worth[0] == pytest.approx(0.3 / np.sqrt(2 * np.pi), rel=0.05)
    assert worth[1] < 0.02 * worth[0], "a constant that does not matter must not be sent for"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"y": {"axis": "batch_tokens", "low": 1, "high": 2}}, "y.axis"),
        ({"x": {"axis": "batch_tokens", "low": 9, "high": 2}}, "low < high"),
        (
            {"x": {"axis": "batch_tokens", "low": 1, "high": 2, "points": 200}, "draws": {"most": 100_000}},
            "simulations",
        ),
        ({"spread": {"high": 1}}, "spread"),
    ],
)
def test_a_map_that_cannot_be_is_refused(change, told):
    with pytest.raises(ValueError, match=told):
        small(**change)


def test_the_shipped_map_is_valid():
    from pathlib import Path

    import experiments

    data = yaml.safe_load((Path(experiments.__file__).parent / "configs" / "map.yaml").read_text())
    assert DecisionMap.model_validate(data).x.points == 13
