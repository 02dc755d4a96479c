"""Routing of which only counts are known: every count comes out as it was, or the reader models another skew."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe.errors import InputError
from moe.routing.foreign import import_trace

TOP_K = 2


def token_counts(seed: int = 0, tokens: int = 400, layers: int = 3) -> dict[str, Any]:
    """Counts by token ID of two corpora, from a routing drawn here."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, ...]] = []
    for corpus in (1, 2):
        ids = rng.zipf(1.5, tokens).clip(max=30)
        for layer in range(layers):
            counted: Counter[tuple[int, int]] = Counter()
            for token in ids.tolist():
                counted.update((token, int(e)) for e in rng.permutation(8)[:TOP_K])
            rows += [(corpus, layer, token, expert, count) for (token, expert), count in counted.items()]
    columns = np.array(rows).T
    names = ("corpus", "layer_index", "token", "expert", "count")
    return {"corpora": np.array(["book", "wikipedia", "c4"])} | dict(zip(names, columns, strict=True))


def save(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def test_every_count_by_token_id_and_expert_is_kept(tmp_path: Path) -> None:
    arrays = token_counts()
    trace = import_trace(save(tmp_path / "c.npz", arrays), part="c4")
    assert (trace.tokens, trace.layers, trace.top_k, trace.num_experts) == (400, 3, TOP_K, 8)
    counted: Counter[tuple[int, ...]] = Counter()
    for layer in range(3):
        for slot in range(TOP_K):
            pairs = zip(trace.token_id.tolist(), trace.experts[:, layer, slot].tolist(), strict=True)
            counted.update((layer, token, expert) for token, expert in pairs)
    columns = [arrays[name][arrays["corpus"] == 2] for name in ("layer_index", "token", "expert", "count")]
    expected = {row[:3]: row[3] for row in zip(*(x.tolist() for x in columns), strict=True)}
    assert dict(counted) == expected
    assert (trace.experts[:, :, 0] != trace.experts[:, :, 1]).all(), "a token goes to different experts"
    assert (np.diff(trace.token_id) < 0).any(), "sorted tokens would make each batch one ID"


def test_one_file_gives_one_trace_each_time(tmp_path: Path) -> None:
    path = save(tmp_path / "c.npz", token_counts())
    one, two = (import_trace(path, part="wikipedia") for _ in range(2))
    assert np.array_equal(one.experts, two.experts)
    assert np.array_equal(one.token_id, two.token_id)


def expert_counts(folder: Path, top_k: int = 4) -> tuple[Path, dict[int, list[int]]]:
    rng = np.random.default_rng(1)
    rows, expected = [], {}
    for layer in range(3):
        chosen = rng.permuted(np.tile(np.arange(16), (200, 1)), axis=1)[:, :top_k]
        counts = np.bincount(chosen.ravel(), minlength=16).tolist()
        first = np.bincount(chosen[:, 0], minlength=16).tolist()
        about = {"model": "olmoe", "corpus": "c4", "layer_index": layer}
        rows += [about | {"kind": "expert_counts", "counts": counts}]
        rows += [about | {"kind": "expert_counts_top1", "counts": first}]
        expected[layer] = counts
    path = folder / "counts.json"
    path.write_text(json.dumps(rows))
    return path, expected


def test_tokens_by_expert_are_kept_and_top_k_is_found(tmp_path: Path) -> None:
    path, expected = expert_counts(tmp_path)
    trace = import_trace(path, part="olmoe/c4")
    assert (trace.tokens, trace.top_k, trace.num_experts) == (200, 4, 16)
    assert trace.popularity().tolist() == list(expected.values())
    assert all(len(set(row)) == 4 for row in trace.experts[:, 0].tolist())
    assert (trace.token_id == -1).all()


def test_a_part_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    path = save(tmp_path / "c.npz", token_counts())
    with pytest.raises(InputError, match="several parts; expected the name of one: wikipedia, c4"):
        import_trace(path)
    with pytest.raises(InputError, match="no part 'wikipdia'; did you mean 'wikipedia'"):
        import_trace(path, part="wikipdia")
    np.save(tmp_path / "r.npy", np.zeros((4, 2, 1), int))
    with pytest.raises(InputError, match="no part 'c4'; this format has none"):
        import_trace(tmp_path / "r.npy", part="c4")


@pytest.mark.parametrize(
    "change",
    [
        *(
            "an expert twice",
            "another layer's tokens",
            "no list",
            "below 0",
            "a ninth expert",
            "fractions",
            "shorter",
        ),
        *("further", "a layer twice", "other kind", "other tokens", "counts below 0"),
    ],
)
def test_counts_that_no_routing_has_are_told_in_one_line(change: str, tmp_path: Path) -> None:
    arrays = token_counts()
    path = tmp_path / "c.npz"
    if change == "no list":
        path = tmp_path / "c.json"
        path.write_text('{"model": "x"}')
    elif change in ("a layer twice", "other kind", "other tokens", "counts below 0"):
        path, _ = expert_counts(tmp_path)
        rows = json.loads(path.read_text())
        rows += [rows[0]] if change == "a layer twice" else []
        rows[2] |= {"kind": "expert_count"} if change == "other kind" else {}
        rows[3]["counts"][0] += change == "other tokens"
        rows[2]["counts"][0] -= 1000 * (change == "counts below 0")
        path.write_text(json.dumps(rows))
    elif change == "an expert twice":
        arrays["count"][0] += 3
    elif change == "below 0":
        arrays["count"][0] *= -1
    elif change == "a ninth expert":
        arrays["expert"][-1] = 8
    elif change == "fractions":
        arrays["count"] = arrays["count"] + 0.5
    elif change == "shorter":
        arrays["count"] = arrays["count"][:-1]
    elif change == "further":
        arrays["request"] = arrays["count"]
    else:
        keep = ~((arrays["layer_index"] == 1) & (arrays["token"] == 1))
        arrays = {name: x if name == "corpora" else x[keep] for name, x in arrays.items()}
    if path.suffix == ".npz":
        save(path, arrays)
    with pytest.raises(InputError, match="expected") as caught:
        import_trace(path, part="wikipedia" if path.suffix == ".npz" else "olmoe/c4")
    assert "\n" not in str(caught.value)
