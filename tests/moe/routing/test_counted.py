"""Popularity of real models by name: the counts as they were published, in the shape that a spec asks for."""

import json
from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from moe.files import validated
from moe.routing.counted import counted_models, counted_shares
from moe.routing.synthetic import SyntheticPopularity, synthetic_routing
from moe.spec import load_spec

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "routing" / "real_moe_expert_counts.json"


def test_counts_are_of_the_models_that_they_name() -> None:
    """Experts and top-k as the presets have them; the same tokens of each text and layer."""
    for name, model in counted_models().items():
        spec = load_spec(name)
        assert (model.experts, model.top_k, model.model_layers) == (spec.experts, spec.top_k, spec.moe_layers)
        counts = np.array(list(model.counts.values()))
        assert counts.shape == (4, 3, spec.experts)
        assert (counts.sum(axis=2) == 208_896 * spec.top_k).all()


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published file is not beside the project")
def test_counts_are_those_that_were_published() -> None:
    rows = [row for row in json.loads(PUBLISHED.read_text()) if row["kind"] == "expert_counts"]
    names = {"mistral": "mixtral-8x7b", "olmoe": "olmoe-1b-7b"}
    assert len(rows) == 24
    for row in rows:
        ours = counted_models()[names[row["model"]]].counts[row["corpus"]][row["layer_index"]]
        assert list(ours) == row["counts"]


def test_a_layer_has_the_counts_of_the_nearest_in_depth() -> None:
    """Layers 0, 7, 15 of 32 were counted; a model of half the layers goes through them twice as fast."""
    whole, half = (counted_shares("mixtral-8x7b", None, layers, 8, 2) for layers in (32, 16))
    counted = counted_shares("mixtral-8x7b", None, 32, 8, 2)[[0, 7, 15]]
    stands = [0] * 4 + [1] * 8 + [2] * 20
    assert np.array_equal(whole, counted[stands])
    assert np.array_equal(half, whole[::2])
    assert np.allclose(whole.sum(axis=1), 1)


def test_made_up_tokens_keep_a_real_models_shares() -> None:
    """Hottest over mean: 1.1 to 1.3, not the 80% of random gates."""
    popularity = validated(SyntheticPopularity, "olmoe-1b-7b", "test")  # type: ignore[arg-type]
    trace = synthetic_routing(
        popularity, layers=2, experts=64, top_k=8, profiled_tokens=20_000, batch_tokens=8, batches=1,
        sequence_tokens=8, seed=0,
    )  # fmt: skip
    shares = trace.popularity() / trace.popularity().sum(axis=1, keepdims=True)
    assert np.abs(shares - counted_shares("olmoe-1b-7b", None, 2, 64, 8)).max() < 2e-3


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("mixtrl-8x7b", "no counts of 'mixtrl-8x7b'; did you mean 'mixtral-8x7b'?"),
        ({"law": "counted"}, "no counts of ''"),
        ({"law": "zipf", "model": "mixtral-8x7b"}, "model: expected only with law: counted"),
        (
            {"law": "counted", "model": "mixtral-8x7b", "drift": 0.5},
            "drift: expected only with a law that is drawn",
        ),
    ],
)
def test_what_is_not_counted_is_told(given: object, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("?", r"\?")):
        validated(SyntheticPopularity, given, "test")  # type: ignore[arg-type]


def test_another_models_experts_are_refused() -> None:
    with pytest.raises(InputError, match="experts: expected 8, as mixtral-8x7b has"):
        counted_shares("mixtral-8x7b", None, 12, 4, 1)
    with pytest.raises(InputError, match="no counts of mixtral-8x7b on 'wikipdia'; did you mean 'wikipedia'"):
        counted_shares("mixtral-8x7b", "wikipdia", 12, 8, 2)
