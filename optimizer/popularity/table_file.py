"""A profile table as a file: parquet, one row per entry, sorted as the table is; zstd. Columns:

| column | type | what |
|---|---|---|
| layer | int16 | MoE layer e, from 0 |
| token_id | int32 | f1 |
| position_id | int32 | f2 |
| attention_id | int32 | f3 |
| expert | int16 | the chosen expert i |
| count | float64 | how often: whole numbers as counted, any number >= 0 as tuned |

The schema's metadata key `serverless-moe` holds JSON: `schema` ("profile-table/1"), `layers`, `experts`, `top_k`
and `origin`, what is known of the model.
"""

from pathlib import Path

import numpy as np

from moe.errors import InputError
from moe.parquet import about_of, column, no_others, read_parquet, schema_of, whole_number, write_parquet
from moe.trace import RoutingTrace, load_trace
from optimizer.popularity.table import COLUMNS, ProfileTable, runs
from simulator.plan import DeploymentProblem

SCHEMA = "profile-table/1"
TYPES = dict(zip(COLUMNS, (np.int16, np.int32, np.int32, np.int32, np.int16), strict=True)) | {"count": np.float64}


def save_table(table: ProfileTable, path: str | Path) -> None:
    """Write a profile table (columns above), atomically."""
    about = {
        "schema": SCHEMA,
        "layers": table.layers,
        "experts": table.experts,
        "top_k": table.top_k,
        "origin": table.origin,
    }
    columns = {name: getattr(table, name).astype(kind) for name, kind in TYPES.items()}
    write_parquet(path, columns, about)


def load_table(path: str | Path) -> ProfileTable:
    """Read a profile table, its rows in any order. Raises InputError when it is missing, unreadable or not one."""
    rows = read_parquet(path)
    about = about_of(path, rows, SCHEMA, "profile table")
    layers, experts, top_k = (whole_number(path, about, key) for key in ("layers", "experts", "top_k"))
    missing = [name for name in TYPES if name not in rows.column_names]
    if missing:
        raise InputError(f"{path}: expected columns {list(TYPES)}, missing {missing}")
    no_others(path, rows.column_names, TYPES)
    if not rows.num_rows:
        raise InputError(f"{path}: expected at least one row, got an empty profile table")
    found = {name: column(path, rows, name, kind) for name, kind in TYPES.items()}
    for name, end in (("layer", layers), ("expert", experts)):
        low, high = found[name].min(), found[name].max()
        if low < 0 or high >= end:
            raise InputError(f"{path}: {name}: expected 0..{end - 1}, got {low}..{high}")
    if not (np.isfinite(found["count"]).all() and found["count"].min() >= 0):
        raise InputError(f"{path}: count: expected numbers >= 0 in every row")
    keys = np.stack([found[name].astype(np.int32) for name in COLUMNS]).T
    origin = about.get("origin", {})
    table = ProfileTable(keys, found["count"], layers, experts, top_k, origin if isinstance(origin, dict) else {})
    merged = ProfileTable.merged([table])
    if len(merged) < len(table):
        order, starts = runs(keys.T)
        twice = keys[order[starts[np.flatnonzero(np.diff(np.append(starts, len(order))) > 1)[0]]]].tolist()
        where = ", ".join(f"{name} {number}" for name, number in zip(COLUMNS, twice, strict=True))
        raise InputError(f"{path}: {where}: expected one row, got more than one")
    empty = np.flatnonzero(~(merged.expert_counts().sum(axis=1) > 0))
    if len(empty):
        raise InputError(f"{path}: count: layer {empty[0]}: expected more than 0 in all, got 0")
    return merged


def load_layers(path: Path, layers: list[int] | None) -> RoutingTrace:
    """The trace in a file, with these of its layers (None: all, in order). Raises InputError."""
    trace = load_trace(path)
    if layers is None:
        return trace
    if not all(0 <= layer < trace.layers for layer in layers):
        raise InputError(f"layers: {path} has layers 0..{trace.layers - 1}, got {layers}")
    return trace.with_layers(layers)


def load_profile_table(path: Path, problem: DeploymentProblem, layers: list[int] | None = None) -> ProfileTable:
    """The profile table in a file, or that of a routing trace.

    Args:
        path: the file.
        problem: whose layers and experts the table is for.
        layers: of a trace: which of its layers stands for each of the problem's; None: one to one.

    Raises InputError.
    """
    table = load_table(path) if schema_of(path) == SCHEMA else ProfileTable.from_trace(load_layers(path, layers))
    shape = len(problem.layers), len(problem.layers[0].experts)
    if (table.layers, table.experts) != shape:
        raise InputError(
            f"{path}: expected {shape[0]} layers x {shape[1]} experts, as the problem has, "
            f"got {table.layers} x {table.experts}"
        )
    return table
