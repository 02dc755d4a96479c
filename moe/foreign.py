"""Routing that other systems recorded, as a routing trace.

| file | what is in it | who writes it |
|---|---|---|
| .npy | integers, shape (tokens, MoE layers, k): the chosen experts | vLLM's returned routed experts |
| .csv | columns `layer,expert`; of each layer, the tokens in the same order | by hand, simulators |
| .jsonl | `{"layer_idx", "token_idx", "selected_ids", "gate_weights"}` a line | router hooks |

They say nothing of the text: token and attention IDs are -1, all tokens are one sequence. Weights that are not
given are 1/k. So such a trace gives popularity and its history, but no table over token IDs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace

UNKNOWN = -1


def import_trace(path: str | Path, experts: int | None = None) -> RoutingTrace:
    """Read another system's routing (formats above, by the file's ending).

    Layers are numbered 0, 1, ... in the order of their numbers in the file, which `origin` keeps.

    Args:
        experts: E, experts per layer; the largest index plus 1 when not given.

    Raises InputError for an unknown ending and for content that is not what the format says.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        raise InputError(f"{path}: expected a file that ends in {', '.join(_READERS)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    layers, chosen, weights = _READERS[path.suffix](path)
    if not chosen.size:
        raise InputError(f"{path}: expected tokens, it has none")
    if chosen.min() < 0 or chosen.max() >= (experts or np.iinfo(np.int16).max):
        raise InputError(
            f"{path}: expert: expected 0..{(experts or np.iinfo(np.int16).max) - 1}, "
            f"got {chosen.min()}..{chosen.max()}"
        )
    total = weights.sum(axis=2, keepdims=True)
    if not np.isfinite(weights).all() or (weights < 0).any() or (total <= 0).any():
        raise InputError(f"{path}: weights: expected numbers from 0, not all 0 for a token")
    order = np.argsort(-weights, axis=2, kind="stable")
    tokens = len(chosen)
    return RoutingTrace(
        sequence=np.zeros(tokens, dtype=np.int32),
        token_id=np.full(tokens, UNKNOWN, dtype=np.int32),
        position_id=np.arange(tokens, dtype=np.int32),
        attention_id=np.full(chosen.shape[:2], UNKNOWN, dtype=np.int32),
        experts=np.take_along_axis(chosen, order, axis=2).astype(np.int16),
        weights=np.take_along_axis(weights / total, order, axis=2).astype(np.float32),
        num_experts=experts or int(chosen.max()) + 1,
        origin={"imported_from": path.name, "layers_of_recording": [int(layer) for layer in layers]},
    )


Routing = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Layer numbers (L,), chosen experts (T, L, k) and their weights (T, L, k)."""


def _from_numpy(path: Path) -> Routing:
    try:
        chosen = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable numpy file: {' '.join(str(error).split())}") from None
    if not isinstance(chosen, np.ndarray) or chosen.ndim != 3 or chosen.dtype.kind not in "iu":
        shape, kind = getattr(chosen, "shape", None), getattr(chosen, "dtype", type(chosen))
        raise InputError(f"{path}: expected integers of shape (tokens, layers, k), got {kind} of shape {shape}")
    return np.arange(chosen.shape[1]), chosen, np.ones(chosen.shape)


def _from_csv(path: Path) -> Routing:
    import pyarrow as pa
    from pyarrow import csv

    try:
        table = csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable CSV file: {' '.join(str(error).split())}") from None
    layer, expert = (_integers(path, table, name) for name in ("layer", "expert"))
    order = np.argsort(layer, kind="stable")
    layers, by_layer = _per_layer(path, layer[order], expert[order, None])
    return layers, by_layer, np.ones(by_layer.shape)


def _from_jsonl(path: Path) -> Routing:
    import pyarrow as pa
    from pyarrow import json

    try:
        table = json.read_json(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable JSONL file: {' '.join(str(error).split())}") from None
    layer, token = (_integers(path, table, name) for name in ("layer_idx", "token_idx"))
    chosen, weights = (_lists(path, table, name) for name in ("selected_ids", "gate_weights"))
    if chosen.shape != weights.shape or chosen.dtype.kind != "i":
        raise InputError(f"{path}: expected as many gate_weights as selected_ids, the latter whole numbers")
    order = np.lexsort((token, layer))
    layers, tokens = _per_layer(path, layer[order], token[order, None])
    if (tokens != tokens[:, :1]).any() or (np.diff(tokens[:, 0, 0]) == 0).any():
        raise InputError(f"{path}: token_idx: expected the same tokens in each layer, each once")
    return (
        layers,
        _per_layer(path, layer[order], chosen[order])[1],
        _per_layer(path, layer[order], weights[order])[1],
    )


_READERS: dict[str, Callable[[Path], Routing]] = {
    ".npy": _from_numpy,
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
    column = table[name].to_numpy() if name in table.column_names else None
    if column is None or (column.size and column.dtype.kind not in "iu"):
        raise InputError(f"{path}: expected a column '{name}' of whole numbers, got columns {table.column_names}")
    return column.astype(np.int64)


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
