"""Routing that people have from other systems: read as it was, or refused in one line."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from moe.routing.foreign import import_trace
from moe.trace import load_trace, save_trace


def routing(tokens: int = 30, layers: int = 3, experts: int = 8, top_k: int = 2) -> np.ndarray:
    order = np.random.default_rng(0).random((tokens, layers, experts)).argsort(axis=2)
    return order[:, :, :top_k]


def test_numpy_of_routed_experts_keeps_every_choice(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", routing().astype(np.uint8))
    trace = import_trace(tmp_path / "r.npy", experts=8)
    assert np.array_equal(trace.experts, routing())
    assert np.allclose(trace.weights, 0.5)
    assert (trace.popularity().sum(axis=1) == 60).all()
    save_trace(trace, tmp_path / "t.parquet")
    assert np.array_equal(load_trace(tmp_path / "t.parquet").popularity(), trace.popularity())


def test_csv_rows_may_be_sorted_by_token_or_by_layer(tmp_path: Path) -> None:
    chosen = routing(top_k=1)[:, :, 0]
    by_token = [f"{7 * layer},{expert}" for row in chosen for layer, expert in enumerate(row)]
    by_layer = [f"{7 * layer},{expert}" for layer, column in enumerate(chosen.T) for expert in column]
    for rows in (by_token, by_layer):
        (tmp_path / "r.csv").write_text("\n".join(["layer,expert", *rows]) + "\n")
        trace = import_trace(tmp_path / "r.csv")
        assert np.array_equal(trace.experts[:, :, 0], chosen)
        assert trace.origin["layers_of_file"] == [0, 7, 14]


def test_jsonl_in_any_order_comes_out_best_first_with_weights_that_sum_to_1(tmp_path: Path) -> None:
    chosen = routing()
    lines = [
        {"layer_idx": e, "token_idx": t, "selected_ids": chosen[t, e].tolist(), "gate_weights": [0.1, 0.3]}
        for t in range(30)
        for e in range(3)
    ]
    np.random.default_rng(1).shuffle(lines)  # type: ignore[arg-type]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    trace = import_trace(tmp_path / "r.jsonl")
    assert np.array_equal(trace.experts, chosen[:, :, ::-1])
    assert np.allclose(trace.weights, [0.75, 0.25])


def test_an_archive_has_a_sequence_for_each_request(tmp_path: Path) -> None:
    """vLLM returns an array a request; their order and their ends must not be lost."""
    np.savez(tmp_path / "r.npz", first=routing(7), second=routing(12)[::-1])
    trace = import_trace(tmp_path / "r.npz", experts=8)
    assert np.array_equal(trace.experts, np.concatenate([routing(7), routing(12)[::-1]]))
    assert trace.sequence.tolist() == [0] * 7 + [1] * 12
    assert trace.position_id.tolist() == [*range(7), *range(12)]
    np.savez(tmp_path / "r.npz", first=routing(7), second=routing(12, top_k=1))
    with pytest.raises(InputError, match="expected the same layers and k in each array"):
        import_trace(tmp_path / "r.npz")
    np.savez(tmp_path / "r.npz", first=routing(7), second=np.ones(3))
    with pytest.raises(InputError, match=r"expected integers of shape .* in 'second'"):
        import_trace(tmp_path / "r.npz")


def test_a_trace_of_our_own_is_read_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", routing())
    trace = import_trace(tmp_path / "r.npy", experts=9)
    save_trace(trace, tmp_path / "t.parquet")
    again = import_trace(tmp_path / "t.parquet", experts=9)
    assert np.array_equal(again.experts, trace.experts)
    assert again.origin == trace.origin
    with pytest.raises(InputError, match="expected a trace of 8 experts per layer, got 9"):
        import_trace(tmp_path / "t.parquet", experts=8)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("r.txt", "", r"expected a file that ends in \.npy, \.npz, \.json, \.csv, \.jsonl, \.parquet"),
        ("r.npz", "PK no archive", "not a readable numpy file"),
        ("r.npy", "no numpy", "not a readable numpy file"),
        ("r.csv", "", "not a readable CSV file"),
        ("r.csv", "layer,expert\n", "expected a column|it has none|same number of tokens"),
        ("r.csv", "layer,exprt\n0,1\n", "expected a column 'expert'"),
        ("r.csv", "layer,expert\n0,a\n", "expected a column 'expert' of whole numbers"),
        (
            "r.csv",
            "layer,expert\n0,-1\n",
            "token 0: expected experts from 0, got padding .* import --drop-padding",
        ),
        ("r.csv", "layer,expert\n0,1\n1,-1\n", r"expert: token 0, layer 1: expected 0\.\.1, got -1"),
        ("r.csv", "layer,expert,count\n0,1,5\n", "line 1: column 'count': expected a row for each choice"),
        ("r.csv", "layer,expert,gate\n0,1,5\n", "unknown column 'gate'; expected layer, expert"),
        ("r.csv", "layer,expert,expert\n0,1,5\n", "line 1: column 'expert': expected once, it is there 2 times"),
        ("r.csv", "layer,expert\n0,1\n0,\n", "got nothing in row 2"),
        ("r.csv", "token,layer,expert\n0,0,1\n0,0,2\n1,0,1\n1,0,2\n2,0,1\n", "token 2, layer 0: expected 2 rows"),
        ("r.csv", "token,layer,expert\n0,0,1\n0,0,1\n", "token 0, layer 0: expected 2 different experts"),
        ("r.csv", "token,layer,expert\n0,0,1\n1,1,1\n", "token: expected the same tokens in each layer"),
        ("r.csv", "token,layer,expert,weight\n0,0,1,-1\n", "weights: token 0, layer 0: expected numbers from 0"),
        ("r.csv", "token,layer,expert,weight\n0,0,1,x\n", "expected a column 'weight' of numbers"),
        ("r.csv", "layer,expert\n0,1\n0,1\n1,1\n", r"same number of tokens in each layer, got \[2, 1\]"),
        ("r.jsonl", "{", "not a readable JSONL file"),
        ("r.jsonl", '{"layer_idx": 0, "token_idx": 0}', "expected a list 'selected_ids'"),
        ("r.jsonl", '{"layer_idx": 0, "token_idx": 0, "step": 1}', "unknown column 'step'"),
        (
            "r.jsonl",
            '{"layer_idx": 0, "token_idx": 0, "selected_ids": [1], "gate_weights": [0.0]}',
            "weights: token 0, layer 0: expected numbers from 0, not all 0",
        ),
        (
            "r.jsonl",
            '{"layer_idx": 0, "token_idx": 0, "selected_ids": [1, 2], "gate_weights": [1.0]}',
            "as many gate_weights as selected_ids",
        ),
        (
            "r.jsonl",
            '{"layer_idx": 0, "token_idx": 0, "selected_ids": [1], "gate_weights": [1.0]}\n'
            '{"layer_idx": 1, "token_idx": 1, "selected_ids": [1], "gate_weights": [1.0]}',
            "token_idx: expected the same tokens in each layer",
        ),
    ],
)
def test_what_is_no_such_file_is_told_in_one_line(name: str, content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        import_trace(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_arrays_of_another_shape_or_kind_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", routing()[:, :, 0])
    np.save(tmp_path / "b.npy", routing().astype(float))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(InputError, match=r"expected integers of shape \(tokens, layers, k\)"):
            import_trace(tmp_path / name)
    np.save(tmp_path / "c.npy", routing())
    with pytest.raises(InputError, match=r"expert: token 0, layer 1: expected 0\.\.3, got 3, 5"):
        import_trace(tmp_path / "c.npy", experts=4)
    with pytest.raises(InputError, match="no such file"):
        import_trace(tmp_path / "gone.npy")


def test_a_row_for_each_choice_may_name_its_token(tmp_path: Path) -> None:
    """Else two choices of one token are taken for two tokens of one choice."""
    chosen = routing()
    rows = [f"{expert},{9 - t},{e}" for t in range(10) for e in range(3) for expert in chosen[t, e]]
    np.random.default_rng(1).shuffle(rows)
    (tmp_path / "r.csv").write_text("\n".join(["expert,token,layer", *rows]) + "\n")
    trace = import_trace(tmp_path / "r.csv", experts=8)
    assert np.array_equal(np.sort(trace.experts), np.sort(chosen[:10][::-1]))
    weighted = [f"{row},{0.75 if row[0] == '7' else 0.25}" for row in rows]
    (tmp_path / "r.csv").write_text("\n".join(["expert,token,layer,weight", *weighted]) + "\n")
    trace = import_trace(tmp_path / "r.csv", experts=8)
    has_7 = (chosen[:10][::-1] == 7).any(axis=2)
    assert np.array_equal(trace.experts[:, :, 0] == 7, has_7), "the best one is not first"
    assert np.allclose(trace.weights[has_7], [0.75, 0.25])


def test_what_was_not_captured_is_no_routing(tmp_path: Path) -> None:
    """vLLM leaves zeros where it captured nothing: read as choices, a plan is made for a hot expert 0."""
    tail = routing()
    tail[20:] = 0
    np.save(tmp_path / "r.npy", tail)
    with pytest.raises(InputError, match=r"token 20, layer 0: expected 2 different experts .*, got 0, 0"):
        import_trace(tmp_path / "r.npy")
    layer = routing(64, top_k=1)
    layer[:, 1] = 0
    np.save(tmp_path / "r.npy", layer)
    with pytest.raises(InputError, match="layer 1: expected the choices of 64 tokens, got 0 for each"):
        import_trace(tmp_path / "r.npy")
    np.save(tmp_path / "r.npy", layer[:9])
    assert import_trace(tmp_path / "r.npy").tokens == 9, "a few tokens may well agree"


def test_padding_is_left_out_only_where_asked_for(tmp_path: Path) -> None:
    requests = [routing(7), routing(5)]
    padded = [np.concatenate([x, np.full((2, 3, 2), fill)]) for x, fill in zip(requests, (-1, 0), strict=True)]
    np.savez(tmp_path / "r.npz", *padded, np.full((3, 3, 2), -1))
    with pytest.raises(InputError, match=r"token 7: expected experts from 0, got padding .*--drop-padding"):
        import_trace(tmp_path / "r.npz")
    trace = import_trace(tmp_path / "r.npz", drop_padding=True)
    assert np.array_equal(trace.experts, np.concatenate(requests))
    assert trace.sequence.tolist() == [0] * 7 + [1] * 5
    assert trace.origin["dropped_tokens"] == 7
    np.save(tmp_path / "r.npy", np.full((3, 3, 2), -1))
    with pytest.raises(InputError, match="it has none but padding"):
        import_trace(tmp_path / "r.npy", drop_padding=True)
    half = routing(7)
    half[3, 1] = -1
    np.save(tmp_path / "r.npy", half)
    with pytest.raises(InputError, match=r"token 3, layer 1: expected 0\.\.7, got -1, -1"):
        import_trace(tmp_path / "r.npy", experts=8, drop_padding=True)


def test_importing_takes_little_more_memory_than_the_file(tmp_path: Path) -> None:
    """Routing of 100,000 tokens x 48 layers x top-8 once took 1.7 GB."""
    routed = np.argsort(np.random.default_rng(5).random((4000, 12, 64)), axis=2)[:, :, :8]
    path = tmp_path / "routed.npy"
    np.save(path, routed.astype(np.int32))
    import_trace(path)  # what is imported at first use is not of the file
    tracemalloc.start()
    try:
        trace = import_trace(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(trace.experts, routed)
    assert np.allclose(trace.weights, 1 / 8)
    assert peak < 3 * path.stat().st_size
