"""What a `sweep:` means: if these fail, a sweep computes other points than those that were written."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from experiments.sweep.block import MAX_POINTS, Range, Sweep


def points(**sweep: Any) -> list[dict[str, Any]]:
    return list(Sweep.model_validate(sweep).points())


def test_a_grid_has_every_combination_the_last_key_fastest() -> None:
    assert points(grid={"a": [1, 2], "b": ["x", "y"]}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


def test_zip_goes_side_by_side_list_as_written_and_seeds_count_from_0() -> None:
    assert points(zip={"a": [1, 2], "b": [3, 4]}) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    assert points(list=[{"a": 1}, {"b": 2}, {}]) == [{"a": 1}, {"b": 2}, {}]
    assert points(seeds=3) == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert points(seeds=[7, 5]) == [{"seed": 7}, {"seed": 5}]


def test_parts_are_combined_seeds_fastest() -> None:
    assert points(list=[{"a": 1}, {"b": 2}], grid={"c": [3, 4]}, seeds=[5, 6]) == [
        {**first, "c": c, "seed": seed} for first in ({"a": 1}, {"b": 2}) for c in (3, 4) for seed in (5, 6)
    ]


def test_values_may_be_lists_groups_and_nothing() -> None:
    values = [[0, 1], {"tokens_per_s": 5.0}, None]
    assert [point["a"] for point in points(grid={"a": values})] == values


def test_more_random_points_leave_the_first_as_they_were() -> None:
    of = {"a": {"low": 0, "high": 1}, "b": ["x", "y", "z"], "c": {"low": 1, "high": 9, "integer": True}}
    few, many = (points(random={"points": n, "seed": 4, "of": of}) for n in (5, 50))
    assert many[:5] == few
    assert points(random={"points": 5, "seed": 5, "of": of}) != few
    assert {point["b"] for point in many} == {"x", "y", "z"}


@given(
    st.integers(1, 1000), st.integers(1, 100_000), st.booleans(), st.booleans(), st.integers(0, 1000)
)  # fmt: skip
def test_a_range_keeps_its_ends(low: int, more: int, log: bool, integer: bool, seed: int) -> None:
    of = {"a": {"low": low, "high": low + more, "log": log, "integer": integer}}
    drawn = [point["a"] for point in points(random={"points": 20, "seed": seed, "of": of})]
    assert all(low <= value <= low + more for value in drawn)
    assert all(isinstance(value, int) == integer for value in drawn)


def test_a_log_range_has_as_many_below_its_geometric_mean_as_above() -> None:
    of = {"plain": {"low": 1, "high": 10_000}, "log": {"low": 1, "high": 10_000, "log": True}}
    drawn = points(random={"points": 2000, "of": of})
    below = {name: sum(point[name] < 100 for point in drawn) / 2000 for name in of}
    assert below["plain"] == pytest.approx(0.01, abs=0.01)
    assert below["log"] == pytest.approx(0.5, abs=0.05)


def test_whole_numbers_of_a_range_are_all_as_likely() -> None:
    drawn = points(random={"points": 3000, "of": {"a": {"low": 1, "high": 3, "integer": True}}})
    shares = [sum(point["a"] == value for point in drawn) / 3000 for value in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)


lists = st.lists(st.integers(), min_size=1, max_size=4)


@given(st.dictionaries(st.sampled_from("abc"), lists, max_size=3), st.none() | st.integers(1, 5), st.booleans())
def test_the_count_is_that_of_the_points_and_each_sets_every_key(
    grid: dict[str, list[int]], seeds: int | None, random: bool
) -> None:
    parts: dict[str, Any] = {"grid": grid or None, "seeds": seeds}
    if random:
        parts["random"] = {"points": 3, "of": {"r": [1, 2]}}
    if not any(parts.values()):
        return
    sweep = Sweep.model_validate(parts)
    found = list(sweep.points())
    assert len(found) == sweep.count
    assert all(set(point) == set(sweep.keys) for point in found)


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"seeds": 10**9}, f"expected at most {MAX_POINTS:,} points, got 1,000,000,000"),
        ({"grid": {"a": list(range(1000)), "b": list(range(1000)), "c": list(range(1000))}}, "got 1,000,000,000"),
        ({}, "at least one of grid, zip, list, random and seeds"),
        ({"grid": {"a": 3}}, "expected a list of at least one value, got 3"),
        ({"grid": {"a": []}}, "expected a list of at least one value, got []"),
        ({"zip": {"a": [1, 2], "b": [1]}}, "a has 2, b has 1"),
        ({"grid": {"a": [1]}, "zip": {"a": [1]}}, "a: expected in one part only, got it in zip and grid"),
        ({"grid": {"seed": [1]}, "seeds": 2}, "seed: expected in one part only, got it in grid and seeds"),
        ({"grid": {"a": [1], "a.b": [1]}}, "a.b (in grid) is inside a (in grid)"),
        ({"random": {"points": 2, "of": {"a": {"low": 2, "high": 1}}}}, "expected low < high, got 2 and 1"),
        ({"random": {"points": 2, "of": {"a": {"low": 0, "high": 1, "log": True}}}}, "expected low > 0 with log"),
    ],
)
def test_an_impossible_sweep_is_refused_without_counting_it_out(sweep: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        Sweep.model_validate(sweep)


def test_a_range_of_whole_numbers_has_whole_ends() -> None:
    with pytest.raises(ValidationError, match="whole numbers"):
        Range(low=1, high=2.5, integer=True)
