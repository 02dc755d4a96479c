"""Popularity as a file, and samples of it: parquet, one row for each expert of each layer (of each sample).

Popularity has the columns layer, expert, tokens (predicted or counted) and, if known, real; samples have the
columns sample, layer, expert, tokens. An expert without tokens has a row, too; each layer has the same sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moe.errors import InputError
from moe.parquet import no_others, read_columns, write_parquet

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("layer", "expert", "tokens")
SAMPLE_COLUMNS = ("sample", *COLUMNS)
LARGEST = 1_000_000
SUM_WITHIN = 1e-3
"""Share by which the tokens of two layers may differ: what is predicted is rounded."""


def save_popularity(tokens: np.ndarray, path: str | Path, real: np.ndarray | None = None) -> None:
    """Write tokens of each expert, shape (layers, experts)."""
    columns = _columns(tokens, COLUMNS)
    if real is not None:
        columns["real"] = np.asarray(real, float).ravel()
    write_parquet(path, columns, {"schema": "popularity/1"})


def load_popularity(path: str | Path) -> np.ndarray:
    """Tokens of each expert, shape (layers, experts). Raises InputError, as `load_samples` does."""
    return _tokens(path, read_columns(path, COLUMNS), COLUMNS, ("real",))


def save_samples(samples: np.ndarray, path: str | Path) -> None:
    """Write popularity samples, shape (samples, layers, experts)."""
    write_parquet(path, _columns(samples, SAMPLE_COLUMNS), {"schema": "popularity-samples/1"})


def _columns(tokens: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """A row for each of the values: its place and it."""
    values = (*np.indices(np.shape(tokens)), np.asarray(tokens, float))
    return {name: column.ravel() for name, column in zip(names, values, strict=True)}


def load_samples(path: str | Path) -> np.ndarray:
    """Popularity samples, shape (samples, layers, experts).

    Raises InputError for a row that is missing or there twice, an unknown column, and tokens that cannot be: no
    number from 0, none at all, or another sum in another layer (each is that of the tokens, times top-k).
    """
    return _tokens(path, read_columns(path, SAMPLE_COLUMNS), SAMPLE_COLUMNS, ())


def _tokens(path: str | Path, table: pd.DataFrame, names: Sequence[str], more: Sequence[str]) -> np.ndarray:
    """The column `tokens`, its axes the other columns of these names; checked."""
    no_others(path, table.columns, (*names, *more))
    axes = [_whole_numbers(path, table, name) for name in names[:-1]]
    shape = tuple(int(axis.max(initial=-1)) + 1 for axis in axes)
    cells = np.ravel_multi_index(axes, shape) if len(table) else np.array([], int)

    def place(cell: int) -> str:
        at = zip(names, np.unravel_index(cell, shape), strict=False)
        return ", ".join(f"{name} {number}" for name, number in at)

    order = np.argsort(cells, kind="stable")
    wrong = np.flatnonzero(cells[order] != np.arange(len(cells)))
    if not len(cells):
        raise InputError(f"{path}: expected one row for each {' and '.join(names[:-1])}, it has none")
    if len(wrong):
        first = int(wrong[0])
        is_twice = cells[order[first]] < first
        cell = first - 1 if is_twice else first
        got = "more than one" if is_twice else "none (0 tokens are a row, too)"
        raise InputError(f"{path}: {place(cell)}: expected one row, got {got}")
    if len(cells) != np.prod(shape):
        raise InputError(f"{path}: {place(len(cells))}: expected one row, got none (0 tokens are a row, too)")
    try:
        tokens = table["tokens"].to_numpy(float)[order]
    except (TypeError, ValueError):
        raise InputError(f"{path}: tokens: expected numbers, got {table['tokens'].dtype}") from None
    impossible = np.flatnonzero(~(np.isfinite(tokens) & (tokens >= 0)))
    if len(impossible):
        cell = int(impossible[0])
        raise InputError(f"{path}: tokens: {place(cell)}: expected a number >= 0, got {tokens[cell]}")
    sums = tokens.reshape(-1, *shape[-2:]).sum(axis=2)
    other = np.argwhere(~((sums > 0) & (np.abs(sums - sums[:, :1]) <= SUM_WITHIN * sums[:, :1])))
    if len(other):
        k, layer = other[0].tolist()
        where = f"sample {k}, " * (len(shape) == 3)
        expected = "more than 0 in all" if sums[k, layer] <= 0 else f"{sums[k, 0]:,.6g} in all, as in layer 0"
        raise InputError(f"{path}: tokens: {where}layer {layer}: expected {expected}, got {sums[k, layer]:,.6g}")
    return tokens.reshape(shape)


def _whole_numbers(path: str | Path, table: pd.DataFrame, name: str) -> np.ndarray:
    column = table[name].to_numpy()
    if column.dtype.kind not in "iu":
        raise InputError(f"{path}: {name}: expected whole numbers from 0, got {column.dtype}")
    if len(column) and not 0 <= column.min() <= column.max() < LARGEST:
        raise InputError(f"{path}: {name}: expected 0..{LARGEST - 1}, got {column.min()}..{column.max()}")
    return column.astype(np.int64)
