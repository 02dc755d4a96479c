"""The profile table: it is counted once, kept, merged with what comes later, and tuned."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe.errors import InputError
from moe.parquet import write_parquet
from moe.trace import RoutingTrace, save_trace
from optimizer.popularity import ProfileTable, TablePredictor, load_table, predictor, save_table
from optimizer.popularity.synthetic import synthetic_trace
from optimizer.popularity.table import COLUMNS
from optimizer.popularity.table_file import TYPES


def trace_of(seed: int = 2, tokens: int = 200, top_k: int = 2) -> RoutingTrace:
    return synthetic_trace(seed, tokens, layers=2, top_k=top_k, vocabulary=30, sequence_tokens=8)


def assert_same(a: ProfileTable, b: ProfileTable) -> None:
    for name in ("keys", "count"):
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype
    assert (a.layers, a.experts, a.top_k, a.origin) == (b.layers, b.experts, b.top_k, b.origin)


def test_it_counts_what_the_trace_says() -> None:
    trace = trace_of()
    table = ProfileTable.from_trace(trace)
    np.testing.assert_array_equal(table.expert_counts(), trace.popularity())
    counted: dict[tuple[int, ...], int] = {}
    for t in range(trace.tokens):
        for e in range(trace.layers):
            for i in trace.experts[t, e]:
                features = (trace.token_id[t], trace.position_id[t], trace.attention_id[t, e])
                key = (e, *map(int, features), int(i))
                counted[key] = counted.get(key, 0) + 1
    assert counted == {tuple(key): count for key, count in zip(table.keys.tolist(), table.count, strict=True)}
    assert table.keys.tolist() == sorted(table.keys.tolist())


def test_it_can_be_tuned() -> None:
    """Bayesian optimisation writes pairs into the table: those, and no others, must change."""
    table = ProfileTable.from_trace(trace_of())
    new = np.array([[0, 99, 0, 0, 3], [0, 99, 0, 0, 3], table.keys[0]])
    tuned = table.with_counts(new, np.array([5.0, 7.0, 0.0]))
    assert len(tuned) == len(table) + 1
    assert tuned.count.sum() == table.count.sum() + 7 - table.count[0]
    assert tuned.count[0] == 0
    np.testing.assert_array_equal(tuned.keys, np.unique(tuned.keys, axis=0))
    bayes = predictor("bayes")
    assert isinstance(bayes, TablePredictor)
    assert bayes.fit_table(tuned).predict(np.array([99]))[0, 3] == 1


def test_it_says_how_many_samples_a_token_rests_on() -> None:
    trace = trace_of()
    table = ProfileTable.from_trace(trace)
    ids = np.arange(-1, 32)
    for e in range(2):
        assert table.samples(e, ids).tolist() == [np.sum(trace.token_id == f1) for f1 in ids]
    assert table.samples(1, int(trace.token_id[0])) == np.sum(trace.token_id == trace.token_id[0])


@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(1, 199), min_size=1, max_size=3, unique=True))
def test_tables_of_parts_merged_are_the_table_of_the_whole(seed: int, cuts: list[int]) -> None:
    trace, ends = trace_of(seed), [0, *sorted(cuts), 200]
    parts = [ProfileTable.from_trace(trace.slice(a, b)) for a, b in itertools.pairwise(ends)]
    whole = ProfileTable.from_trace(trace)
    assert_same(ProfileTable.merged(parts), whole)
    assert_same(ProfileTable.merged(parts[::-1]), whole)
    assert_same(ProfileTable.merged([ProfileTable.merged(parts[:2]), *parts[2:]]), whole)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_layer_that_a_table_lacks_is_spread_evenly(lost: int) -> None:
    table = ProfileTable.from_trace(trace_of())
    kept = table.layer != lost
    half = replace(table, keys=table.keys[kept], count=table.count[kept])
    expected = {"counting": "expected"}
    for name, options in (
        ("history", {}), ("lina", expected), ("position", expected),
        *(("bayes", {"variant": variant} | expected) for variant in ("printed", "mixture", "backoff")),
    ):  # fmt: skip
        made, whole = predictor(name, **options), predictor(name, **options)
        assert isinstance(made, TablePredictor)
        assert isinstance(whole, TablePredictor)
        found = made.fit_table(half).predict(np.arange(12))
        np.testing.assert_allclose(found[lost], 6)
        if name != "position":  # its positions are those of the first layer that there is
            wanted = whole.fit_table(table).predict(np.arange(12))
            np.testing.assert_array_equal(found[1 - lost], wanted[1 - lost])


def test_a_table_of_another_model_is_not_merged() -> None:
    table = ProfileTable.from_trace(trace_of())
    with pytest.raises(
        InputError, match=r"expected tables of \(2, 4, 2\) layers, experts and top-k, got \(2, 4, 1"
    ):
        ProfileTable.merged([table, ProfileTable.from_trace(trace_of(top_k=1))])
    with pytest.raises(InputError, match="model: expected tables of one model, synthetic, got minilm"):
        ProfileTable.merged([table, replace(table, origin={"model": "minilm"})])


def test_a_file_gives_the_same_table_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "table.parquet"
    table = ProfileTable.from_trace(trace_of())
    save_table(table, path)
    assert_same(load_table(path), table)
    tuned = table.with_counts(np.array([[1, 7, 3, 2, 0]]), np.array([0.25]))
    save_table(tuned, path)
    assert_same(load_table(path), tuned)
    rows = pd.read_parquet(path)
    assert list(rows.columns) == [*COLUMNS, "count"]
    shuffled = rows.sample(frac=1, random_state=1)
    about = {"schema": "profile-table/1", "layers": 2, "experts": 4, "top_k": 2, "origin": table.origin}
    write_parquet(path, {name: shuffled[name].to_numpy() for name in rows}, about)
    assert_same(load_table(path), tuned)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expert": 4}, r"expert: expected 0\.\.3, got 4\.\.4"),
        ({"layer": -1}, r"layer: expected 0\.\.1, got -1\.\.-1"),
        ({"count": -1.0}, "count: expected numbers >= 0"),
        ({"count": np.nan}, "count: expected numbers >= 0"),
        ({"count": None}, r"expected columns .* missing \['count'\]"),
        ({"schema": "profile-table/9"}, r"expected a profile table \('profile-table/1'\), got 'profile-table/9'"),
        ({"layers": 0}, "layers: expected a whole number from 1"),
        ({"rows": 0}, "expected at least one row, got an empty profile table"),
        ({"count": 0.0}, "count: layer 0: expected more than 0 in all, got 0"),
        ({"layer": 0}, "count: layer 1: expected more than 0 in all, got 0"),
        ({"twice": 1}, r"layer \d, token_id \d+, .*: expected one row, got more than one"),
        ({"further": 1}, "unknown column 'further'; expected layer, token_id"),
    ],
)
def test_a_file_that_is_not_a_table_is_told(tmp_path: Path, change: dict, said: str) -> None:
    path, table = tmp_path / "table.parquet", ProfileTable.from_trace(trace_of())
    (what, value), about = *change.items(), {"schema": "profile-table/1", "layers": 2, "experts": 4, "top_k": 2}
    columns = {name: getattr(table, name).copy() for name in TYPES}
    if what in about:
        about[what] = value
    elif what == "rows":
        columns = {name: x[:0] for name, x in columns.items()}
    elif value is None:
        del columns[what]
    elif what == "twice":
        columns = {name: np.append(x, x[5]) for name, x in columns.items()}
    elif what == "further":
        columns["further"] = columns["count"]
    elif what == "layer" and value == 0:
        columns = {name: x[columns["layer"] == 0] for name, x in columns.items()}
    else:
        columns[what] = np.full_like(columns[what], value)
    write_parquet(path, columns, about)
    with pytest.raises(InputError, match=said):
        load_table(path)


def test_a_trace_is_not_a_table(tmp_path: Path) -> None:
    save_trace(trace_of(), tmp_path / "trace.parquet")
    with pytest.raises(InputError, match=r"expected a profile table .* got 'routing-trace/1'"):
        load_table(tmp_path / "trace.parquet")
    with pytest.raises(InputError, match="no such file"):
        load_table(tmp_path / "none.parquet")
