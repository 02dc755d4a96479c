"""A routing trace is a file that people hand on: what is read is what was written, or one clear line."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe.errors import InputError
from moe.parquet import METADATA_KEY
from moe.trace import RoutingTrace, load_trace, save_trace


def random_trace(tokens: int, layers: int, experts: int, top_k: int, seed: int = 0) -> RoutingTrace:
    rng = np.random.default_rng(seed)
    chosen = rng.random((tokens, layers, experts)).argsort(axis=2)[:, :, :top_k].astype(np.int16)
    weights = rng.random((tokens, layers, top_k)).astype(np.float32)
    return RoutingTrace(
        sequence=np.sort(rng.integers(0, 3, tokens)).astype(np.int32),
        token_id=rng.integers(0, 1000, tokens).astype(np.int32),
        position_id=np.arange(tokens, dtype=np.int32),
        attention_id=rng.integers(0, 1000, (tokens, layers)).astype(np.int32),
        experts=chosen,
        weights=weights / weights.sum(axis=2, keepdims=True),
        num_experts=experts,
        origin={"model": "made up", "seed": seed},
    )


sizes = st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 6)).flatmap(
    lambda size: st.tuples(*map(st.just, size), st.integers(1, size[2]))
)


@given(size=sizes)
def test_popularity_counts_every_token_k_times(size: tuple[int, int, int, int]) -> None:
    """Else a plan is made for tokens that do not exist."""
    tokens, layers, experts, top_k = size
    popularity = random_trace(*size).popularity()
    assert popularity.shape == (layers, experts)
    assert (popularity.sum(axis=1) == tokens * top_k).all()


@given(size=sizes)
def test_popularity_of_two_parts_is_that_of_the_whole(size: tuple[int, int, int, int]) -> None:
    """Else profiled and served tokens of a split recording count double or not at all."""
    trace = random_trace(*size)
    cut = trace.tokens // 2
    parts = trace.slice(0, cut).popularity() + trace.slice(cut, trace.tokens).popularity()
    assert np.array_equal(parts, trace.popularity())


def test_traces_are_joined_and_their_sequences_kept_apart() -> None:
    """Else the last prompt of one recording and the first of the next are taken for one."""
    parts = [random_trace(tokens, 2, 4, 2, seed) for seed, tokens in enumerate((7, 1, 12))]
    whole = RoutingTrace.joined(parts)
    assert whole.tokens == 20
    assert np.array_equal(whole.popularity(), sum(part.popularity() for part in parts))
    start = 0
    for part in parts:
        same = whole.slice(start, start + part.tokens)
        assert np.array_equal(same.experts, part.experts)
        assert np.array_equal(np.diff(same.sequence), np.diff(part.sequence))
        start += part.tokens
    assert whole.sequence[0] == 0
    assert len(np.unique(whole.sequence)) == sum(len(np.unique(part.sequence)) for part in parts)
    with pytest.raises(
        InputError, match=r"expected \(2, 4, 2\) layers, experts and top-k, as in the others, got \(2,"
    ):
        RoutingTrace.joined([parts[0], random_trace(5, 2, 6, 2)])


def test_tokens_are_taken_in_the_order_asked_for() -> None:
    trace = random_trace(9, 2, 4, 2)
    some = trace.take(np.array([8, 0, 3]))
    assert some.token_id.tolist() == trace.token_id[[8, 0, 3]].tolist()
    assert np.array_equal(some.attention_id, trace.attention_id[[8, 0, 3]])
    assert np.array_equal(some.weights, trace.weights[[8, 0, 3]])


@pytest.mark.parametrize("size", [(1, 1, 1, 1), (7, 3, 4, 2), (50, 2, 16, 3)])
def test_what_is_read_is_what_was_written(size: tuple[int, int, int, int], tmp_path: Path) -> None:
    trace = random_trace(*size)
    save_trace(trace, tmp_path / "new folder" / "t.parquet")
    again = load_trace(tmp_path / "new folder" / "t.parquet")
    for name in ("sequence", "token_id", "position_id", "attention_id", "experts", "weights"):
        mine, theirs = getattr(trace, name), getattr(again, name)
        assert np.array_equal(mine, theirs), name
        assert mine.dtype == theirs.dtype, name
    assert (again.num_experts, again.origin) == (trace.num_experts, trace.origin)
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["t.parquet"], "a partial file is left"


def test_layers_can_be_taken_twice_for_a_deeper_model() -> None:
    trace = random_trace(10, 3, 4, 2)
    deeper = trace.with_layers([0, 1, 2, 0, 1, 2])
    assert deeper.layers == 6
    assert np.array_equal(deeper.popularity()[3:], trace.popularity())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.parquet: no such file"):
        load_trace(tmp_path / "gone.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"layer,expert\n0,1\n", bytes(range(256)) * 20])
def test_a_file_that_is_no_parquet_gives_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable parquet file") as caught:
        load_trace(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_trace_is_never_read_as_a_shorter_one(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    save_trace(random_trace(500, 4, 8, 2), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match="not a readable parquet file"):
        load_trace(path)


def _changed(path: Path, change: str) -> None:
    """Write a trace file with one thing wrong."""
    save_trace(random_trace(6, 2, 4, 1), path)
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[METADATA_KEY])
    del about["sha256"]  # a file that another program wrote has none
    if change == "schema":
        about["schema"] = "routing-trace/9"
    elif change == "no experts":
        del about["experts"]
    elif change == "too few experts":
        about["experts"] = 1
    elif change == "column":
        table = table.drop_columns(["attention_id"])
    elif change == "no choice":
        table = table.drop_columns(["expert_0", "weight_0"])
    elif change == "no rows":
        table = table.slice(0, 0)
    elif change == "uneven layers":
        table = table.slice(0, 11)
    elif change == "gap":
        table = table.set_column(2, "token_id", pa.array([None, *range(11)], pa.int32()))
    elif change == "text":
        table = table.set_column(2, "token_id", pa.array(["the"] * 12))
    elif change == "expert twice":
        table = table.append_column("expert_1", table["expert_0"]).append_column("weight_1", table["weight_0"])
    elif change == "not a number":
        table = table.set_column(6, "weight_0", pa.array([1.0] * 7 + [np.nan] + [1.0] * 4, pa.float32()))
    elif change == "other sum":
        table = table.set_column(6, "weight_0", pa.array([1.0] * 7 + [0.5] + [1.0] * 4, pa.float32()))
    elif change == "other tokens":
        table = table.set_column(2, "token_id", pa.array(range(12), pa.int32()))
    elif change == "further":
        table = table.append_column("request", table["layer"])
    elif change == "twice":
        table = table.append_column("layer", table["layer"])
    elif change == "many layers":
        table = table.set_column(0, "layer", pa.array([0] * 11 + [2**31 - 2], pa.int32()))
    elif change == "fraction":
        table = table.set_column(2, "token_id", pa.array([0.5] * 12))
    metadata = {METADATA_KEY: b"{" if change == "broken metadata" else json.dumps(about).encode()}
    pq.write_table(table.replace_schema_metadata(None if change == "foreign" else metadata), path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("foreign", r"schema: expected a routing trace .*got None"),
        ("broken metadata", r"schema: expected a routing trace"),
        ("schema", r"got 'routing-trace/9'"),
        ("no experts", r"experts: expected a whole number"),
        ("too few experts", r"expert: token \d, layer \d: expected 0\.\.0, got [1-3]"),
        ("expert twice", "expert: token 0, layer 0: expected 2 different experts"),
        ("not a number", "weights: token 1, layer 1: expected numbers from 0, not all 0, got nan"),
        ("other sum", r"weights: token 1, layer 1: expected a sum of 1, got 0\.5"),
        ("other tokens", "token_id: expected the same in each layer"),
        ("further", "unknown column 'request'"),
        ("twice", "column 'layer': expected once, it is there 2 times"),
        ("many layers", "layer: expected the same tokens for each of 2147483647 layers"),
        ("column", r"missing \['attention_id'\]"),
        ("no choice", r"missing expert_0"),
        ("no rows", r"missing rows"),
        ("uneven layers", r"layer: expected the same tokens for each of 2 layers"),
        ("gap", r"token_id: expected a value in every row, 1 are missing"),
        ("text", r"token_id: expected int32"),
        ("fraction", r"token_id: expected int32"),
    ],
)
def test_a_foreign_parquet_file_is_told_apart(change: str, says: str, tmp_path: Path) -> None:
    """Else a user's wrong file ends in a traceback, or in a wrong plan."""
    path = tmp_path / "t.parquet"
    _changed(path, change)
    with pytest.raises(InputError, match=says) as caught:
        load_trace(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_never_read_as_other_routing(tmp_path: Path) -> None:
    """Else a disk's fault becomes a plan for popularity that nobody has."""
    path, trace = tmp_path / "a=b" / "t.parquet", random_trace(40, 2, 4, 2)
    save_trace(trace, path)
    content, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            again = load_trace(path)
        except InputError:
            refused += 1
            continue
        for name in ("sequence", "token_id", "position_id", "attention_id", "experts", "weights"):
            assert np.array_equal(getattr(again, name), getattr(trace, name)), name
        assert (again.num_experts, again.origin) == (trace.num_experts, trace.origin)
    assert refused > 150
