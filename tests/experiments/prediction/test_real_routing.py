"""Routing of real MoE models, as their counts tell it: a wrong number would rank predictors wrongly."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.prediction.real_routing import (
    EXPERT_COUNTS,
    TOKEN_COUNTS,
    mixtral_left_out,
    mixtral_tables,
    olmoe_left_out,
)
from moe.errors import InputError

SHARED = Path(__file__).parents[4] / "shared" / "data" / "routing"


def routing_folder(folder: Path) -> Path:
    """Two corpora of two words each: on the second layer, word 0 goes to experts 0 and 1, word 1 to 2 and 3."""
    rows = []
    for corpus, tokens in ((1, (30, 10)), (2, (10, 30))):
        for layer in (0, 1):
            for word, count in enumerate(tokens):
                experts = (2 * word, 2 * word + 1) if layer else (6, 7)
                rows += [(corpus, layer, word, expert, count) for expert in experts]
    columns = dict(zip(("corpus", "layer_index", "token", "expert", "count"), np.array(rows).T, strict=True))
    np.savez(folder / TOKEN_COUNTS, corpora=np.array(["none", "a", "b"]), **columns)
    counts = [
        {"model": "olmoe", "kind": kind, "corpus": corpus, "layer_index": 0, "counts": [a, 40 - a]}
        for corpus, a in (("a", 30), ("b", 10))
        for kind in ("expert_counts", "expert_counts_top1")
    ]
    (folder / EXPERT_COUNTS).write_text(json.dumps(counts))
    return folder


def test_real_routing_is_predicted_from_the_other_corpora(tmp_path: Path) -> None:
    folder = routing_folder(tmp_path)
    tables = mixtral_tables(folder)
    assert list(tables) == ["a", "b"]
    assert tables["a"].expert_counts()[1].tolist() == [30, 30, 10, 10, 0, 0, 0, 0]
    assert tables["a"].samples(1, [0, 1, 2]).tolist() == [30, 10, 0]
    for row in mixtral_left_out(folder):
        assert row.shares["lina, expected"] == row.shares["lina, hard"] == 0
        assert row.shares["history"] == pytest.approx(
            4 * 20 / 8 / 10 / 2
        )  # layer 1 only, 20 tokens off on each of 4
        assert row.unseen == 0
    for row in olmoe_left_out(folder):
        assert row.shares == {"history": pytest.approx(1.0), "uniform": pytest.approx(0.5)}
        assert row.unseen is None
    with pytest.raises(InputError, match="expected the counts by token and expert"):
        mixtral_left_out(tmp_path / "none")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the routing of real models is not here")
def test_the_counts_of_mixtral_are_those_that_were_published() -> None:
    for table in mixtral_tables(SHARED).values():
        assert table.expert_counts().sum(axis=1).tolist() == [417_792] * 3
