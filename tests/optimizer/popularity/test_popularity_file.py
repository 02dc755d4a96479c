"""Popularity in a file of a user's own: read as it is, or refused with layer and expert."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe.errors import InputError
from optimizer.popularity.popularity_file import load_popularity, load_samples, save_popularity, save_samples

TOKENS = np.array([[70.0, 0.0, 30.0, 100.0], [50.0, 50.0, 99.5, 0.5]])


def table() -> pd.DataFrame:
    layer, expert = (axis.ravel() for axis in np.indices(TOKENS.shape))
    return pd.DataFrame({"layer": layer, "expert": expert, "tokens": TOKENS.ravel()})


def test_what_is_read_is_what_was_written_in_any_order_of_rows(tmp_path: Path) -> None:
    save_popularity(TOKENS, tmp_path / "p.parquet", real=TOKENS[::-1])
    assert np.array_equal(load_popularity(tmp_path / "p.parquet"), TOKENS)
    table().sample(frac=1, random_state=0).to_parquet(tmp_path / "p.parquet")
    assert np.array_equal(load_popularity(tmp_path / "p.parquet"), TOKENS)
    samples = np.stack([TOKENS, 3 * TOKENS[::-1]])
    save_samples(samples, tmp_path / "s.parquet")
    assert np.array_equal(load_samples(tmp_path / "s.parquet"), samples), "batches may differ in size"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x[x.expert != 1], "layer 0, expert 1: expected one row, got none"),  # as groupby leaves it
        (lambda x: x[:-1], "layer 1, expert 3: expected one row, got none"),
        (lambda x: x[:0], "expected one row for each layer and expert, it has none"),
        (lambda x: pd.concat([x, x[2:3]]), "layer 0, expert 2: expected one row, got more than one"),
        (lambda x: x.assign(tokens=0.0), "layer 0: expected more than 0 in all, got 0"),
        (lambda x: x.assign(tokens=x.tokens * (x.layer == 0)), "layer 1: expected more than 0 in all, got 0"),
        (
            lambda x: x.assign(tokens=x.tokens * (1 + x.layer)),
            "layer 1: expected 200 in all, as in layer 0, got 400",
        ),
        (lambda x: x.assign(tokens=x.tokens - 1), "layer 0, expert 1: expected a number >= 0, got -1"),
        (
            lambda x: x.assign(tokens=x.tokens.where(x.expert != 3)),
            "layer 0, expert 3: expected a number >= 0, got nan",
        ),
        (lambda x: x.assign(tokens="many"), "tokens: expected numbers"),
        (lambda x: x.assign(expert=x.expert + 0.5), "expert: expected whole numbers from 0, got float64"),
        (lambda x: x.assign(expert=x.expert - 1), r"expert: expected 0\.\..*, got -1\.\.2"),
        (lambda x: x.assign(expert=x.expert * 10**9), r"expert: expected 0\.\.999999, got 0\.\.3000000000"),
        (lambda x: x.assign(expert=x.expert * 10**5), "layer 0, expert 1: expected one row, got none"),
        (lambda x: x.assign(sample=0), "unknown column 'sample'; expected layer, expert, tokens, real"),
        (lambda x: x.drop(columns="expert"), "missing expert"),
    ],
)
def test_popularity_that_cannot_be_is_told(change, says: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Else a plan is made for a model with an expert less, or for tokens that nobody served."""
    change(table()).to_parquet(tmp_path / "p.parquet", index=False)
    with pytest.raises(InputError, match=says) as caught:
        load_popularity(tmp_path / "p.parquet")
    assert "\n" not in str(caught.value)


def test_a_sample_that_cannot_be_is_told_with_its_number(tmp_path: Path) -> None:
    samples = np.stack([TOKENS, TOKENS])
    samples[1, 1] *= 2
    save_samples(samples, tmp_path / "s.parquet")
    with pytest.raises(InputError, match="tokens: sample 1, layer 1: expected 200 in all, as in layer 0, got 400"):
        load_samples(tmp_path / "s.parquet")
