"""The decision map: a wrong one sends people to the dearer platform, or to measure what does not matter."""

import json

import numpy as np
import pytest
import yaml

from experiments.cost.compare import offers_at, prepare
from experiments.cost.decision_map import Found, MapCell, _given, _question, make_map, map_cell
from experiments.cost.decision_map_file import DecisionMap
from experiments.cost.decision_map_page import page, write_map
from experiments.cost.decision_map_picture import draw_map, lambdas
from experiments.studies.worth_of_knowing import worth_of_knowing
from experiments.tools.kept import Store


def small(**changes):
    data = {
        "name": "small",
        "model": "minilm-moe",
        "x": {"axis": "requests_per_month", "low": 1e5, "high": 1e9, "points": 2},
        "y": {"axis": "tokens_in", "low": 32, "high": 128, "points": 2},
        "contenders": ["lambda-x86_64", "ec2-c8g.large", "gpu-g6.xlarge"],
        "draws": {"least": 4, "most": 8},
    }
    return DecisionMap.model_validate(data | changes)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return tmp_path_factory.mktemp("map") / "cells"


@pytest.fixture(scope="module")
def found(cells):
    return make_map(small(), Store(cells))


def test_few_requests_are_lambda_s_and_many_a_machine_s(found):
    """By rows of y: 100,000 requests a month, then a billion."""
    assert [cell.winner for cell in found.cells][::2] == ["lambda-x86_64"] * 2
    assert "lambda-x86_64" not in [cell.winner for cell in found.cells][1::2]
    for cell in found.cells:
        assert sum(cell.probability.values()) == pytest.approx(1)
        assert cell.usd[cell.winner] == min(cell.usd.values())


def test_a_cell_is_what_cost_answers_there():
    """On the constants as they stand: the same contenders, sized the same way."""
    asked = small()
    given = _given(asked.model_dump_json(by_alias=True))
    question = _question(asked, given, {"requests_per_month": 1e9, "tokens_in": 128}, -1)
    best = offers_at(question, prepare(question, given.contenders))[0]
    cell = map_cell(MapCell(asked=asked, x=1e9, y=128))["cell"]
    assert best.contender == cell["winner"]
    assert best.words == cell["words"]
    assert cell["usd"][cell["winner"]] == pytest.approx(best.usd, rel=0.5)


def test_the_same_seed_gives_the_same_map(found, tmp_path):
    assert make_map(small(), Store(tmp_path, workers=2)) == found


def test_a_stopped_map_goes_on_from_its_cells(found, cells):
    """Else a map that was stopped in its last minute is computed anew."""
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
    assert "| lambda-x86_64 | 2 |" in page(small(), found)
    assert lambdas(small(), found)[:, 0] == pytest.approx([1, 1])
    assert json.loads((tmp_path / "map.json").read_text())["cells"][0]["winner"] == "lambda-x86_64"


def test_what_to_measure_next_is_something_that_a_person_can_measure(found):
    """A constant of Lambda by probes, one of a machine by an hour of it; never how busy the machine is."""
    for first, said in (("compute.flops_per_vcpu", "smoe probe"), ("gpu: encode", "g6.xlarge for an hour")):
        worth = {first: 0.1} | dict.fromkeys(found.worth, 0.0)
        assert said in page(small(), Found(found.cells, worth | {first: 0.1}, 0.2, found.machines))


def test_other_axes_move_what_they_name():
    """Cores twice as fast halve the compute of Lambda; machines that others share cost what they are used."""
    at = {"requests_per_month": 1e6}
    speed = small(x={"axis": "flops_per_vcpu", "low": 3e10, "high": 6e10}, tokens_in=512, slo="60s", **at)
    slow, fast = (map_cell(MapCell(asked=speed, x=x, y=512))["cell"]["usd"]["lambda-x86_64"] for x in (3e10, 6e10))
    assert fast < 0.8 * slow
    two = ["lambda-x86_64", "ec2-c8g.large"]
    shared = small(
        x={"axis": "utilisation", "low": 0.1, "high": 1}, contenders=two, draws={"least": 4, "most": 4}, **at
    )
    rows = [map_cell(MapCell(asked=shared, x=x, y=128))["cell"]["usd"]["ec2-c8g.large"] for x in (0.5, 1.0)]
    assert rows[0] == pytest.approx(2 * rows[1])
    models = small(x={"axis": "model", "models": ["minilm-moe", "bert-moe"]}, **at)
    bills = [map_cell(MapCell(asked=models, x=x, y=128))["cell"]["usd"]["lambda-x86_64"] for x in (0, 1)]
    assert bills[1] > 3 * bills[0]


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
        ({"y": {"axis": "requests_per_month", "low": 1, "high": 2}}, "y.axis"),
        ({"x": {"axis": "requests_per_month", "low": 9, "high": 2}}, "low < high"),
        ({"x": {"axis": "utilisation", "low": 0.1, "high": 2}}, "shares"),
        ({"x": {"axis": "model"}}, "models"),
        (
            {"x": {"axis": "requests_per_month", "low": 1, "high": 2, "points": 200}, "draws": {"most": 100_000}},
            "comparisons",
        ),
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


def test_tokens_that_the_model_does_not_read_are_refused(tmp_path):
    from moe.errors import InputError

    with pytest.raises(InputError, match="beyond the context of minilm-moe, 512"):
        make_map(small(y={"axis": "tokens_in", "low": 32, "high": 4096}), Store(tmp_path))
