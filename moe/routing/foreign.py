"""Routing that other systems recorded, as a routing trace.

| file | what is in it | who writes it |
|---|---|---|
| .npy | integers, shape (tokens, MoE layers, k): the chosen experts | vLLM's returned routed experts |
| .npz | an array as above for each request; or counts by token ID (`counts`) | the same, of many requests |
| .json | tokens by expert (`moe.routing.counts`) | allenai/OLMoE's analysis |
| .csv | columns `layer,expert`; of each layer, the tokens in the same order; top-1 | by hand, simulators |
| .csv | columns `token,layer,expert`, perhaps `weight`; k rows for each token and layer, in any order | the same |
| .jsonl | `{"layer_idx", "token_idx", "selected_ids", "gate_weights"}` a line | router hooks |

A column that is in none of these is refused, with its name: nothing is left out without a word.

A routing trace of our own (.parquet) is read as it is. The others say nothing of the text: attention IDs are -1,
token IDs too (but in counts by token ID), all tokens of a request are one sequence. Weights that are not given are
1/k. So such a trace gives popularity and its history, but no table over token IDs.
"""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from moe.errors import InputError
from moe.parquet import no_others
from moe.routing.counts import UNKNOWN, Counted, from_expert_counts, from_token_counts, is_token_counts
from moe.trace import RoutingTrace, check_routing, load_trace

_NO_NUMPY = (
    *(OSError, ValueError, EOFError, SyntaxError, KeyError, MemoryError, OverflowError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What numpy raises for files that are none, or damaged."""
_NEVER_BY_CHANCE_TOKENS = 64
"""So many tokens do not all choose expert 0 of a layer."""


def import_trace(
    path: str | Path, experts: int | None = None, part: str | None = None, drop_padding: bool = False
) -> RoutingTrace:
    """Read routing from a file (formats above, by its ending).

    Layers are numbered 0, 1, ... in the order of their numbers in the file, which `origin` keeps.

    Args:
        experts: E, experts per layer; when not given, the file's, or the largest index plus 1.
        part: of a file of counts: which corpus.
        drop_padding: leave out the tokens whose choices are all -1 (padding) or, of a top-k above 1, all 0 (not
            captured by vLLM). `origin` says how many.

    Raises InputError for an unknown ending, for content that is not what the format says, and for what no gate
    chooses: an expert twice or none for a token.

    >>> import numpy as np, serverless_moe as smoe
    >>> np.save("routed.npy", np.array([[[0], [1]], [[1], [1]], [[0], [0]]]))  # (tokens, layers, k)
    >>> trace = smoe.read_trace("routed.npy", experts=2)
    >>> trace
    RoutingTrace(tokens=3, layers=2, experts=2, top_k=1)
    >>> trace.popularity()
    array([[2, 1],
           [1, 2]])
    """
    path = Path(path)
    if path.suffix not in (*_READERS, ".parquet"):
        raise InputError(f"{path}: expected a file that ends in {', '.join((*_READERS, '.parquet'))}")
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    if path.suffix == ".parquet":
        found = load_trace(path)
        if experts not in (None, found.num_experts):
            raise InputError(f"{path}: expected a trace of {experts} experts per layer, got {found.num_experts}")
        return found
    read = _READERS[path.suffix](path, part)
    dropped = 0
    if drop_padding:
        read, dropped = _without_padding(read)
    if not read.chosen.size:
        raise InputError(f"{path}: expected tokens, it has none" + (" but padding" if dropped else ""))
    if not drop_padding:
        _check_padding(path, read.chosen)
    count = experts or read.experts or int(read.chosen.max()) + 1
    check_routing(path, read.chosen, read.weights, count)
    origin: dict[str, Any] = {"imported_from": path.name, "layers_of_file": [int(layer) for layer in read.layers]}
    origin |= {"part": part} if part else {}
    origin |= {"dropped_tokens": dropped} if drop_padding else {}
    return _trace_of(read, count, origin)


def _check_padding(path: Path, chosen: np.ndarray) -> None:
    """Raises InputError for a token whose choices are all negative."""
    if chosen.min() >= 0:
        return
    padding = (chosen < 0).all(axis=(1, 2))
    if padding.any():
        token = int(padding.argmax())
        raise InputError(
            f"{path}: expert: token {token}: expected experts from 0, got padding "
            f"({chosen[token, 0, 0]}); import --drop-padding or workload.trace_drop_padding leaves it out"
        )


def _trace_of(read: "_Read", experts: int, origin: dict[str, Any]) -> RoutingTrace:
    """What was read as a trace: the choices of a token by their weights, which sum to 1."""
    chosen, weights = read.chosen, read.weights
    if weights is None:
        weights = np.broadcast_to(np.float32(1 / chosen.shape[2]), chosen.shape)
    else:
        order = np.argsort(-weights, axis=2, kind="stable")
        weights = np.take_along_axis(weights / weights.sum(axis=2, keepdims=True), order, axis=2)
        chosen = np.take_along_axis(chosen, order, axis=2)
    token_id = np.full(len(chosen), UNKNOWN) if read.token_id is None else read.token_id
    lengths = [n for n in read.sequences or [len(chosen)] if n]
    return RoutingTrace(
        sequence=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        token_id=token_id.astype(np.int32),
        position_id=np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        attention_id=np.broadcast_to(np.int32(UNKNOWN), chosen.shape[:2]),
        experts=chosen.astype(np.int16, copy=False),
        weights=weights.astype(np.float32, copy=False),
        num_experts=experts,
        origin=origin,
    )


def _without_padding(read: "_Read") -> tuple["_Read", int]:
    """What was read without tokens that are padding, and how many those were."""
    filler = (read.chosen == -1) | ((read.chosen == 0) & (read.chosen.shape[2] > 1))
    first = read.chosen[:, :1, :1]
    kept = ~(filler & (read.chosen == first)).all(axis=(1, 2))
    ends = np.cumsum(read.sequences or [len(kept)])
    sequences = [int(part.sum()) for part in np.split(kept, ends[:-1])]
    token_id = None if read.token_id is None else read.token_id[kept]
    weights = None if read.weights is None else read.weights[kept]
    shorter = replace(read, chosen=read.chosen[kept], weights=weights, token_id=token_id, sequences=sequences)
    return shorter, int((~kept).sum())


@dataclass(frozen=True)
class _Read:
    """What a file says.

    Attributes:
        layers: their numbers, shape (L,).
        chosen, weights: shape (T, L, k); weights None: each of a token's choices counts alike.
        token_id: shape (T,); None: not known.
        experts: E; None: not known.
        sequences: tokens of each request; None: one.
    """

    layers: np.ndarray
    chosen: np.ndarray
    weights: np.ndarray | None = None
    token_id: np.ndarray | None = None
    experts: int | None = None
    sequences: list[int] | None = None


def _from_numpy(path: Path, part: str | None) -> _Read:
    _no_part(path, part)
    chosen = _captured(path, _routed(path, _load_numpy(path)))
    return _Read(np.arange(chosen.shape[1]), chosen)


def _from_archive(path: Path, part: str | None) -> _Read:
    arrays = _load_numpy(path)
    if not isinstance(arrays, dict):
        raise InputError(f"{path}: expected an archive of arrays, as numpy.savez writes it")
    if is_token_counts(arrays):
        return _counted(from_token_counts(path, arrays, part))
    _no_part(path, part)
    requests = [_routed(path, array, f" in '{name}'") for name, array in arrays.items()]
    if len({x.shape[1:] for x in requests}) != 1:
        shapes = sorted({x.shape[1:] for x in requests})
        raise InputError(f"{path}: expected the same layers and k in each array, got {shapes}")
    chosen = _captured(path, np.concatenate(requests))
    return _Read(np.arange(chosen.shape[1]), chosen, sequences=[len(x) for x in requests])


def _from_json(path: Path, part: str | None) -> _Read:
    return _counted(from_expert_counts(path, part))


def _counted(counted: Counted) -> _Read:
    token_id, chosen, experts = counted
    return _Read(np.arange(chosen.shape[1]), chosen, None, token_id, experts)


def _load_numpy(path: Path) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
        return dict(found) if isinstance(found, np.lib.npyio.NpzFile) else found
    except _NO_NUMPY as error:
        raise InputError(f"{path}: not a readable numpy file: {' '.join(str(error).split())[:200]}") from None


def _routed(path: Path, chosen: Any, where: str = "") -> np.ndarray:
    """An array of routed experts, checked."""
    if not isinstance(chosen, np.ndarray) or chosen.ndim != 3 or chosen.dtype.kind not in "iu":
        shape, kind = getattr(chosen, "shape", None), getattr(chosen, "dtype", type(chosen))
        raise InputError(
            f"{path}: expected integers of shape (tokens, layers, k){where}, got {kind} of shape {shape}"
        )
    return chosen


def _captured(path: Path, chosen: np.ndarray) -> np.ndarray:
    """Routed experts (T, L, k) that were captured in every layer: buffers are zeros before. Raises InputError."""
    if chosen.shape[2] > 1 or len(chosen) < _NEVER_BY_CHANCE_TOKENS:
        return chosen
    empty = (chosen == 0).all(axis=(0, 2))
    if empty.any():
        raise InputError(
            f"{path}: expert: layer {int(empty.argmax())}: expected the choices of {len(chosen)} tokens, "
            "got 0 for each, as where nothing was captured"
        )
    return chosen


def _no_part(path: Path, part: str | None) -> None:
    if part is not None:
        raise InputError(f"{path}: no part '{part}'; this format has none")


def _from_csv(path: Path, part: str | None) -> _Read:
    import pyarrow as pa
    from pyarrow import csv

    _no_part(path, part)
    try:
        table = csv.read_csv(path)
        names = table.column_names
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable CSV file: {' '.join(str(error).split())}") from None
    _check_columns(path, names)
    layer, expert = (_integers(path, table, name) for name in ("layer", "expert"))
    if "token" not in names:
        order = np.argsort(layer, kind="stable")
        layers, by_layer = _per_layer(path, layer[order], expert[order, None])
        return _Read(layers, by_layer)
    token = _integers(path, table, "token")
    weight = _numbers(path, table, "weight") if "weight" in names else np.ones(len(token))
    order = np.lexsort((token, layer))
    top_k = _rows_of_each(path, token[order], layer[order])
    chosen, weights = (x[order].reshape(-1, top_k) for x in (expert, weight))
    token, layer = token[order][::top_k], layer[order][::top_k]
    _, tokens = _per_layer(path, layer, token[:, None])
    if (tokens != tokens[:, :1]).any():
        raise InputError(f"{path}: token: expected the same tokens in each layer")
    layers, chosen = _per_layer(path, layer, chosen)
    return _Read(layers, chosen, _per_layer(path, layer, weights)[1])


def _check_columns(path: Path, names: list[str]) -> None:
    """Raise InputError for a column of a CSV file that is there twice, or that is none of routing."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"{path}: line 1: column '{twice}': expected once, it is there {names.count(twice)} times"
        )
    if "count" in names:
        raise InputError(
            f"{path}: line 1: column 'count': expected a row for each choice, no counts "
            "(layer,expert or token,layer,expert)"
        )
    if "expert" in names:  # else it is said that this is missing
        no_others(path, names, ("token", "layer", "expert", "weight") if "token" in names else ("layer", "expert"))


def _rows_of_each(path: Path, token: np.ndarray, layer: np.ndarray) -> int:
    """k: how many rows each token has in each layer; rows sorted by layer, then token. Raises InputError."""
    new = (np.diff(token, prepend=-1) != 0) | (np.diff(layer, prepend=-1) != 0)
    new[:1] = True
    starts = np.flatnonzero(new)
    rows = np.diff(np.append(starts, len(token)))
    if not len(rows):
        raise InputError(f"{path}: expected tokens, it has none")
    top_k = int(np.bincount(rows).argmax())
    if (rows != top_k).any():
        k = int((rows != top_k).argmax())
        raise InputError(
            f"{path}: expert: token {token[starts[k]]}, layer {layer[starts[k]]}: expected {top_k} rows, "
            f"as most have, got {rows[k]}"
        )
    return top_k


def _from_jsonl(path: Path, part: str | None) -> _Read:
    import pyarrow as pa
    from pyarrow import json

    _no_part(path, part)
    try:
        table = json.read_json(path)
        names = table.column_names
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable JSONL file: {' '.join(str(error).split())}") from None
    no_others(path, names, ("layer_idx", "token_idx", "selected_ids", "gate_weights"))
    layer, token = (_integers(path, table, name) for name in ("layer_idx", "token_idx"))
    chosen, weights = (_lists(path, table, name) for name in ("selected_ids", "gate_weights"))
    if chosen.shape != weights.shape or chosen.dtype.kind != "i":
        raise InputError(f"{path}: expected as many gate_weights as selected_ids, the latter whole numbers")
    order = np.lexsort((token, layer))
    layers, tokens = _per_layer(path, layer[order], token[order, None])
    if (tokens != tokens[:, :1]).any() or (np.diff(tokens[:, 0, 0]) == 0).any():
        raise InputError(f"{path}: token_idx: expected the same tokens in each layer, each once")
    chosen, weights = (_per_layer(path, layer[order], rows[order])[1] for rows in (chosen, weights))
    return _Read(layers, chosen, weights)


_READERS: dict[str, Callable[[Path, str | None], _Read]] = {
    ".npy": _from_numpy,
    ".npz": _from_archive,
    ".json": _from_json,
    ".csv": _from_csv,
    ".jsonl": _from_jsonl,
}


def _per_layer(path: Path, layer: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Layer numbers, and rows (T L, k), which are sorted by layer, as (T, L, k)."""
    layers, counts = np.unique(layer, return_counts=True)
    if not len(layers) or (counts != counts[0]).any():
        raise InputError(f"{path}: layer: expected the same number of tokens in each layer, got {counts.tolist()}")
    return layers, rows.reshape(len(layers), counts[0], rows.shape[1]).transpose(1, 0, 2)


def _integers(path: Path, table: Any, name: str) -> np.ndarray:
    column = table[name].to_numpy() if name in table.column_names and not table[name].null_count else None
    if column is None or (column.size and column.dtype.kind not in "iu"):
        raise InputError(_expected(path, table, name, "whole numbers"))
    return column.astype(np.int64)


def _numbers(path: Path, table: Any, name: str) -> np.ndarray:
    column = table[name].to_numpy()
    if table[name].null_count or column.dtype.kind not in "iuf":
        raise InputError(_expected(path, table, name, "numbers"))
    return column.astype(float)


def _expected(path: Path, table: Any, name: str, what: str) -> str:
    """That a column of these is expected, and what is there instead."""
    if name not in table.column_names:
        return f"{path}: expected a column '{name}' of {what}, got columns {table.column_names}"
    if table[name].null_count:
        row = table[name].is_null().to_pylist().index(True)
        return f"{path}: expected a column '{name}' of {what}, got nothing in row {row + 1}"
    return f"{path}: expected a column '{name}' of {what}, got {table[name].type}: {str(table[name][0])[:60]!r}"


def _lists(path: Path, table: Any, name: str) -> np.ndarray:
    """A column of lists of one length k, shape (rows, k)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.column_names or not pa.types.is_list(table[name].type) or table[name].null_count:
        raise InputError(f"{path}: expected a list '{name}' in every line, got columns {table.column_names}")
    column = table[name].combine_chunks()
    lengths = np.unique(pc.list_value_length(column).to_numpy(zero_copy_only=False))
    values = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    if len(lengths) != 1 or lengths[0] < 1 or values.dtype.kind not in "if":
        raise InputError(f"{path}: {name}: expected as many numbers in every line, got {lengths.tolist()}")
    return values.reshape(-1, int(lengths[0]))
