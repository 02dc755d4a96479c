"""What `smoe tune` learns from: a profile table, or the routing trace that it is counted from."""

from __future__ import annotations

from pathlib import Path

from moe.errors import InputError
from moe.parquet import schema_of
from moe.trace import RoutingTrace, load_trace
from optimizer.popularity import ProfileTable, load_table
from optimizer.popularity.table_file import SCHEMA
from simulator.plan import DeploymentProblem


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
