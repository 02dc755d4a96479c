"""Sizes of public models: a wrong one is a wrong bill for everybody who plans with it."""

import pytest

from moe.spec import load_spec, preset_names

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
