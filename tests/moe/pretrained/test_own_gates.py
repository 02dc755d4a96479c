"""Real MoE models' own gates: what is recorded is what their routers chose, or their traces are of nobody."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from moe.errors import InputError
from moe.pretrained.models import layers_of
from moe.pretrained.passes import record_own, routers_of
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


@pytest.mark.parametrize(
    ("kind", "config", "layers"),
    [
        ("qwen2_moe", {"num_hidden_layers": 4, "decoder_sparse_step": 2}, 2),  # blocks 1 and 3
        ("qwen2_moe", {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [0, 1]}, 1),
        ("qwen3_moe", {"num_hidden_layers": 5, "mlp_only_layers": [2]}, 4),
        ("deepseek_v2", {"num_hidden_layers": 4, "first_k_dense_replace": 3}, 1),
        ("deepseek_v3", {"num_hidden_layers": 5, "first_k_dense_replace": 2}, 3),
        ("llama4_text", {"num_hidden_layers": 6, "interleave_moe_layer_step": 3, "moe_layers": None}, 2),
        ("ernie4_5_moe", {"num_hidden_layers": 6, "moe_layer_start_index": 2, "moe_layer_interval": 1}, 4),
        ("jamba", {"num_hidden_layers": 8, "expert_layer_period": 2, "expert_layer_offset": 1}, 4),
        ("gpt_oss", {"num_hidden_layers": 3}, 3),
        ("mixtral", {"num_hidden_layers": 3}, 3),
        ("switch_transformers", {"num_layers": 4, "num_sparse_encoder_layers": 1, "num_decoder_layers": 2}, None),
    ],
)
def test_moe_layers_are_counted_as_the_models_class_builds_them(
    kind: str, config: dict[str, Any], layers: int | None, tmp_path: Path, own_cache: Path
) -> None:
    """Else a user's own model is refused, or its layers are told to be wrong only after an hour of recording."""
    made = transformers.AutoConfig.for_model(kind, **config)
    made.save_pretrained(tmp_path / "model")
    with torch.device("meta"):
        routers = routers_of(transformers.AutoModel.from_config(made))
    if layers is not None:
        assert len(routers) == layers
    assert layers_of(str(tmp_path / "model")) == len(routers)
    (kept,) = (own_cache / "layers").iterdir()
    text = kept.read_text()
    kept.write_text(text[:-2] + "9}")
    assert layers_of(str(tmp_path / "model")) == len(routers), "a damaged count was believed"
    assert kept.read_text() == text


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
