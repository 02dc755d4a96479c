"""Popularity as a file: parquet with columns layer, expert, tokens (predicted or counted) and, if known, real."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe.errors import InputError
from moe.files import write_whole
from moe.parquet import read_columns


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
