"""The samples file: parquet with columns sample, layer, expert, tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe.errors import InputError
from moe.files import write_whole
from moe.parquet import read_columns

COLUMNS = ("sample", "layer", "expert", "tokens")


def save_samples(samples: np.ndarray, path: str | Path) -> None:
    """Write popularity samples, shape (samples, layers, experts)."""
    import pandas as pd

    sample, layer, expert = (axis.ravel() for axis in np.indices(samples.shape))
    table = pd.DataFrame(
        {"sample": sample, "layer": layer, "expert": expert, "tokens": np.asarray(samples, float).ravel()}
    )
    write_whole(path, table.to_parquet)


def load_samples(path: str | Path) -> np.ndarray:
    """Popularity samples, shape (samples, layers, experts). Raises InputError."""
    table = read_columns(path, COLUMNS)
    table = table.sort_values(list(COLUMNS[:3]))
    shape = tuple(table[name].nunique() for name in COLUMNS[:3])
    places = np.stack([table[name].to_numpy() for name in COLUMNS[:3]], axis=1)
    if not len(table) or not np.array_equal(places, np.indices(shape).reshape(3, -1).T):
        raise InputError(f"{path}: expected one row for each sample, layer and expert, all counted from 0")
    tokens = table["tokens"].to_numpy(float).reshape(shape)
    if not np.isfinite(tokens).all() or (tokens < 0).any():
        raise InputError(f"{path}: tokens: expected a number >= 0 for every sample, layer and expert")
    return tokens
