"""A profile table as a file: parquet with columns layer, token_id, position_id, attention_id, expert, count; or
the routing trace that it is counted from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe.errors import InputError
from moe.trace import SCHEMA, RoutingTrace, load_trace
from optimizer.popularity import ProfileTable
from simulator.plan import DeploymentProblem

KEYS = ("layer", "token_id", "position_id", "attention_id", "expert")


def load_layers(path: Path, layers: list[int] | None) -> RoutingTrace:
    """The trace in a file, with these of its layers (None: all, in order). Raises InputError."""
    trace = load_trace(path)
    if layers is None:
        return trace
    if not all(0 <= layer < trace.layers for layer in layers):
        raise InputError(f"--layers: {path} has layers 0..{trace.layers - 1}, got {layers}")
    return trace.with_layers(layers)


def save_table(table: ProfileTable, path: Path) -> None:
    """Write a profile table."""
    import pandas as pd

    columns = {name: table.keys[:, k] for k, name in enumerate(KEYS)} | {"count": table.count}
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_parquet(path)


def load_table(path: Path, problem: DeploymentProblem, layers: list[int] | None = None) -> ProfileTable:
    """The profile table in a file, or that of a routing trace.

    Args:
        path: the file.
        problem: whose layers, experts and top-k the table is for.
        layers: of a trace: which of its layers stands for each of the problem's; None: one to one.

    Raises InputError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet file: {' '.join(str(error).split())}") from None
    if any(SCHEMA.encode() in value for value in (found.schema.metadata or {}).values()):
        return ProfileTable.from_trace(load_layers(path, layers))
    missing = [name for name in (*KEYS, "count") if name not in found.column_names]
    if missing or not found.num_rows:
        raise InputError(f"{path}: expected a routing trace, or rows with columns {list(KEYS)} and count")
    keys = np.stack([found[name].to_numpy().astype(np.int64) for name in KEYS], axis=1)
    count = found["count"].to_numpy().astype(float)
    shape = len(problem.layers), len(problem.layers[0].experts)
    for column, below in ((0, shape[0]), (4, shape[1])):
        if keys[:, column].min() < 0 or keys[:, column].max() >= below:
            raise InputError(f"{path}: {KEYS[column]}: expected 0..{below - 1}, as in the problem")
    if not np.isfinite(count).all() or (count < 0).any():
        raise InputError(f"{path}: count: expected a number >= 0 in every row")
    empty = ProfileTable(np.zeros((0, 5), np.int64), np.zeros(0), *shape, problem.top_k)
    return empty.with_counts(keys, count)
