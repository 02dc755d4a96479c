"""Real MoE models' own gates: what is recorded is what their routers chose, or their traces are of nobody."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moe.errors import InputError
from moe.pretrained.models import layers_of
from moe.pretrained.passes import record_own
from moe.routing.record import RecordingSettings, cached_record
from tests.moe import tiny_models

SEQUENCES = np.random.default_rng(0).integers(4, tiny_models.VOCABULARY, (6, 20)).astype(np.int32)
SIZES = {
    "mixtral": (3, 4, 2),
    "olmoe": (3, 8, 4),
    "qwen2_moe": (3, 6, 2),
    "qwen3_moe": (3, 6, 2),
    "deepseek_v2": (2, 6, 2),
    "phimoe": (3, 4, 2),
}
"""MoE layers, experts, top-k; DeepSeek's first layer is dense."""


def text(folder: Path) -> str:
    words = np.random.default_rng(5).choice(tiny_models.WORDS, 2000)
    path = folder / "mine.txt"
    path.write_text("\n\n".join(" ".join(words[i : i + 400]) for i in range(0, 2000, 400)))
    return str(path)


@pytest.mark.parametrize("kind", SIZES)
def test_every_layer_of_every_kind_is_recorded(kind: str) -> None:
    trace = record_own(tiny_models.tiny_moe(kind), SEQUENCES, batch_sequences=4)
    assert (trace.layers, trace.num_experts, trace.top_k) == SIZES[kind]
    assert trace.tokens == SEQUENCES.size
    assert np.allclose(trace.weights.sum(axis=2), 1, atol=1e-6)
    assert (np.diff(trace.weights, axis=2) <= 0).all(), "best first"
    assert (np.diff(np.sort(trace.experts, axis=2), axis=2) > 0).all()


@pytest.mark.parametrize("kind", ["mixtral", "olmoe", "qwen2_moe", "qwen3_moe"])
def test_the_choice_is_that_of_the_model_s_own_logits(kind: str) -> None:
    """Against what the model itself gives out when it is asked for its routers' logits."""
    model = tiny_models.tiny_moe(kind)
    trace = record_own(model, SEQUENCES, batch_sequences=4)
    with torch.inference_mode():
        logits = model(
            input_ids=torch.from_numpy(SEQUENCES.astype(np.int64)), output_router_logits=True
        ).router_logits
    for layer, of_layer in enumerate(logits):
        best, experts = of_layer.float().topk(trace.top_k, dim=-1)
        assert np.array_equal(trace.experts[:, layer], experts.numpy())
        assert np.allclose(trace.weights[:, layer], best.softmax(-1).numpy(), atol=1e-5)


def test_the_attention_id_is_that_of_the_block_before_the_router() -> None:
    model = tiny_models.tiny_moe("mixtral")
    trace = record_own(model, SEQUENCES)
    ids = torch.from_numpy(SEQUENCES.astype(np.int64))
    with torch.inference_mode():
        attentions = model(input_ids=ids, output_attentions=True).attentions
    for layer, weights in enumerate(attentions):
        expected = ids.gather(1, weights.sum(1).argmax(-1)).ravel().numpy()
        assert np.array_equal(trace.attention_id[:, layer], expected)


def own(folder: Path, kind: str = "olmoe", **changes: Any) -> RecordingSettings:
    layers, experts, top_k = SIZES[kind]
    model = tiny_models.save_tiny(kind, folder / kind)
    assert layers_of(str(model)) == layers
    asked = {"gate": "own", "experts": experts, "top_k": top_k, "tokens": 160, "sequence_tokens": 16}
    return RecordingSettings(model=str(model), corpus=text(folder), **(asked | changes))


@pytest.mark.parametrize("kind", ["olmoe", "deepseek_v2"])
def test_a_users_moe_model_is_recorded_and_kept(kind: str, tmp_path: Path, own_cache: Path) -> None:
    first = cached_record(own(tmp_path, kind))
    assert first.trace.origin["gate"] == "own"
    assert (first.trace.popularity().sum(axis=1) == 160 * SIZES[kind][2]).all()
    assert cached_record(own(tmp_path, kind)).was_cached


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"experts": 16}, "experts: expected 8 as olmoe's own gates have, got 16"),
        ({"top_k": 2}, "top_k: expected 4 as olmoe's own gates have, got 2"),
        ({"gate": "random"}, "is a Mixture-of-Experts block; expected a dense model, or gate: own"),
    ],
)
def test_other_experts_than_the_model_s_own_are_told(
    changes: dict[str, Any], says: str, tmp_path: Path, own_cache: Path
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        cached_record(own(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_dense_model_has_no_gates_of_its_own() -> None:
    with pytest.raises(InputError, match="no router found in it; expected a Mixture-of-Experts model"):
        record_own(tiny_models.tiny_model("llama"), SEQUENCES)
