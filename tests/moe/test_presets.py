"""Sizes of public models: a wrong one is a wrong bill for everybody who plans with it."""

import pytest

from moe.spec import BYTES_PER_PARAMETER, load_spec, preset_names

# MoE layers, experts, top-k, MiB per expert in bf16, as the models' configuration files give them.
PUBLISHED = {
    "olmoe-1b-7b": (16, 64, 8, 12),
    "qwen1.5-moe-a2.7b": (24, 60, 4, 16.5),
    "qwen3-30b-a3b": (48, 128, 8, 9),
    "deepseek-v2-lite": (26, 64, 6, 16.5),
    "gpt-oss-20b": (24, 32, 4, 47.5),
    "mixtral-8x7b": (32, 8, 2, 336),
    "phi-3.5-moe": (32, 16, 2, 150),
    "dbrx": (40, 16, 4, 378),
    "deepseek-v3": (58, 256, 8, 84),
    "grok-1": (64, 8, 2, 1152),
}

# Billions of parameters, in all and of those that a token uses, as the authors state them: OLMoE (arXiv
# 2409.02060), Qwen1.5-MoE, Qwen3, DeepSeek-V2-Lite and -V3 and Phi-3.5-MoE (model cards), gpt-oss (arXiv
# 2508.10925), Mixtral (arXiv 2401.04088), DBRX (Databricks, 2024), Grok-1 (xAI, 2024: a quarter of its weights),
# SmolLM2-135M. DeepSeek and gpt-oss count no embedding among the parameters that a token uses.
PARAMETERS = {
    "olmoe-1b-7b": (6.92, 1.28),
    "qwen1.5-moe-a2.7b": (14.3, 2.7),
    "qwen3-30b-a3b": (30.5, 3.3),
    "deepseek-v2-lite": (15.7, 2.4),
    "gpt-oss-20b": (20.9, 3.6),
    "mixtral-8x7b": (46.7, 12.9),
    "phi-3.5-moe": (41.9, 6.6),
    "dbrx": (132, 36),
    "deepseek-v3": (671, 37),
    "grok-1": (314, 314 / 4),
}
WITHOUT_EMBEDDING = ("deepseek-v2-lite", "deepseek-v3", "gpt-oss-20b")


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_has_as_many_parameters_as_its_authors_say(name: str) -> None:
    """What fits one function hangs on it, and what a token costs."""
    spec, (total, active) = load_spec(name), PARAMETERS[name]
    assert spec.parameters / 1e9 == pytest.approx(total, rel=6e-3)
    counted = spec.active_parameters - (spec.embedding_parameters if name in WITHOUT_EMBEDDING else 0)
    assert counted / 1e9 == pytest.approx(active, rel=0.025 if name != "grok-1" else 0.07)


def test_the_dense_models_that_experts_are_copies_of_have_their_published_size() -> None:
    for name, millions in {"bert-moe": 110, "gpt2-moe": 124, "smollm2-moe": 135, "minilm-moe": 22.7}.items():
        dense = load_spec(name, experts=1, top_k=1)
        assert dense.parameters / 1e6 == pytest.approx(millions, rel=0.03), "but for biases, norms and positions"


def test_weights_of_another_precision_change_the_parameters_alone() -> None:
    for weights, size in BYTES_PER_PARAMETER.items():
        spec = load_spec("bert-moe", weights=weights)
        assert spec.expert_parameter_bytes == pytest.approx(2 * 768 * 3072 * size)
        assert (spec.token_bytes, spec.expert_activation_bytes) == (4 * 768, 4 * 3072)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_expert_is_as_large_as_the_published_one(name: str) -> None:
    spec = load_spec(name)
    layers, experts, top_k, mib = PUBLISHED[name]
    assert (spec.name, spec.moe_layers, spec.experts, spec.top_k) == (name, layers, experts, top_k)
    assert spec.expert_parameter_bytes / 2**20 == pytest.approx(mib, rel=2e-3)
    assert spec.token_bytes == 2 * spec.hidden


def test_the_paper_s_models_have_18_mib_experts_in_fp32() -> None:
    for name in ("bert-moe", "gpt2-moe", "bert2bert-moe"):
        assert load_spec(name).expert_parameter_bytes == 18 * 2**20


def test_every_preset_can_be_read_by_its_name() -> None:
    assert [load_spec(name).name for name in preset_names()] == preset_names()
