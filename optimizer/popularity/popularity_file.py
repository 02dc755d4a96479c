"""Popularity as a file, and samples of it: parquet, one row for each expert of each layer (of each sample).

Popularity has the columns layer, expert, tokens (predicted or counted) and, if known, real; samples have the
columns sample, layer, expert, tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe.errors import InputError
from moe.files import write_whole
from moe.parquet import read_columns

SAMPLE_COLUMNS = ("sample", "layer", "expert", "tokens")


def save_popularity(tokens: np.ndarray, path: str | Path, real: np.ndarray | None = None) -> None:
    """Write tokens of each expert, shape (layers, experts)."""
    import pandas as pd

    layers, experts = tokens.shape
    table = pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), experts),
            "expert": np.tile(np.arange(experts), layers),
            "tokens": np.asarray(tokens, float).ravel(),
        }
    )
    if real is not None:
        table["real"] = np.asarray(real, float).ravel()
    write_whole(path, table.to_parquet)


def load_popularity(path: str | Path) -> np.ndarray:
    """Tokens of each expert, shape (layers, experts). Raises InputError."""
    table = read_columns(path, ("layer", "expert", "tokens"))
    tokens = table.pivot(index="layer", columns="expert", values="tokens").to_numpy(float)
    if not np.isfinite(tokens).all() or (tokens < 0).any():
        raise InputError(f"{path}: tokens: expected a number >= 0 for every layer and expert")
    return tokens


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
    table = read_columns(path, SAMPLE_COLUMNS)
    table = table.sort_values(list(SAMPLE_COLUMNS[:3]))
    shape = tuple(table[name].nunique() for name in SAMPLE_COLUMNS[:3])
    places = np.stack([table[name].to_numpy() for name in SAMPLE_COLUMNS[:3]], axis=1)
    if not len(table) or not np.array_equal(places, np.indices(shape).reshape(3, -1).T):
        raise InputError(f"{path}: expected one row for each sample, layer and expert, all counted from 0")
    tokens = table["tokens"].to_numpy(float).reshape(shape)
    if not np.isfinite(tokens).all() or (tokens < 0).any():
        raise InputError(f"{path}: tokens: expected a number >= 0 for every sample, layer and expert")
    return tokens
