"""The study of predictors: what its page says must be what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.benches.predictors import predictor_speed, speed_lines
from experiments.prediction.real_routing import (
    EXPERT_COUNTS,
    TOKEN_COUNTS,
    mixtral_left_out,
    mixtral_tables,
    olmoe_left_out,
)
from experiments.prediction.study import Study, cases, measured
from experiments.prediction.study_page import page
from moe.errors import InputError
from optimizer.popularity import PREDICTORS

SHARED = Path(__file__).parents[4] / "shared" / "data" / "routing"
TINY = Study(
    models=("minilm",),
    corpora=("wikipedia", "news"),
    gates=("random",),
    experts=(4,),
    top_k=(1,),
    seeds=(0,),
    profiled_tokens=1024,
    served_tokens=512,
)


@pytest.mark.slow
def test_the_page_says_what_was_measured() -> None:
    rows = measured(TINY)
    assert len(cases(TINY)) == 1
    assert len(rows) == 2 * 2 * 15 * 6  # profiled x served x predictors x layers
    oracle, lina = rows[rows.predictor == "oracle"], rows[rows.predictor == "lina, expected"]
    assert (oracle.share == 0).all()
    assert (oracle.overrun == 0).all()
    assert (rows["skew"] >= 1).all()
    text = page(rows, None)
    share = lina[lina.same].groupby("served").share.mean()
    assert f"| lina, expected | {share.mean():.1%} ± {share.std():.1%} |" in text
    assert "nan" not in text
    assert "## Routing of real models" not in text


def test_every_predictor_is_timed_beside_the_paper() -> None:
    rows = predictor_speed(profiled_batches=2, served_batches=1, batch_tokens=256)
    assert {row.predictor.split(",")[0] for row in rows} == set(PREDICTORS)
    assert all(row.profile_s >= 0 and row.predict_s >= 0 for row in rows)
    assert "28.89" in speed_lines(rows)[1]


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
