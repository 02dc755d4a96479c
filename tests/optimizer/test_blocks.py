"""Whole blocks in a function: a wrong size puts a model where it does not fit, a wrong time makes the wrong shape
the cheapest one."""

import numpy as np
import pytest

from moe.errors import InputError
from moe.spec import Weights, load_spec
from optimizer.blocks import SHAPES, check_fits, make_blocks, shape_names
from optimizer.problem import make_problem, remade
from simulator.profiles.schema import load_profile
from simulator.profiles.walk import with_constant
from simulator.stages import Blocks

PROFILE = load_profile()
TOKENS = 10_240


def blocks_of(name: str, weights: Weights | None = None, **sizes: int) -> Blocks:
    spec = load_spec(name, weights=weights, **sizes)
    popularity = np.full((spec.moe_layers, spec.experts), TOKENS * spec.top_k / spec.experts)
    return make_blocks(spec, popularity, PROFILE, TOKENS)


@pytest.mark.parametrize("name", ["bert-moe", "minilm-moe", "olmoe-1b-7b", "deepseek-v2-lite"])
@pytest.mark.parametrize("weights", [None, "int8", "int4"])
def test_a_function_with_all_blocks_holds_every_parameter_of_the_model_once(
    name: str, weights: Weights | None
) -> None:
    blocks, spec = blocks_of(name, weights), load_spec(name, weights=weights)
    held = sum(layer.parameter_bytes for layer in blocks.layers) + blocks.head_bytes
    assert held == pytest.approx(spec.parameters * spec.bytes_per_parameter)


def test_the_whole_of_bert_moe_in_one_function_by_hand() -> None:
    """80 sequences of 128 tokens: of each block 2 (4 768^2 + 4 768) for attention and gate, 4 128 768 for scores,
    4 768 3072 for one expert; a vCPU of 1,769 MB does 45 GFLOP/s of experts' work, 0.711 of that of a
    transformer's. At 1.67e-5 USD a GB-s that is 0.134 USD per million tokens, and 10,240 MB with 5.79^0.91 vCPUs
    take 9.7 s."""
    blocks = blocks_of("bert-moe")
    assert blocks.sequences == 80
    attention = 2 * (4 * 768**2 + 4 * 768) + 4 * 128 * 768
    token_s = (attention / 0.711 + 4 * 768 * 3072) / 45e9
    head_s = 0.15 * 2 * 768 * 30522 / 0.711 / 45e9
    batch_s = TOKENS * (12 * token_s + head_s)
    assert batch_s == pytest.approx(47.6, abs=0.1)
    vcpu, all_vcpus = blocks.memory_mb.index(1769), blocks.memory_mb.index(10240)
    assert blocks.tail_seconds_per_token is not None
    for k, faster in ((vcpu, 1.0), (all_vcpus, (10240 / 1769) ** 0.91)):
        found = TOKENS * (sum(x.seconds_per_token[k] for x in blocks.layers) + blocks.tail_seconds_per_token[k])
        assert found == pytest.approx(batch_s / faster)
    per_call = [layer.seconds_per_call[vcpu] for layer in blocks.layers if layer.seconds_per_call]
    assert sum(per_call) == pytest.approx(1.113e9 / 8e9, rel=1e-3), "weights from memory, once"


def test_experts_that_no_token_reaches_are_held_and_not_read() -> None:
    spec = load_spec("bert-moe")
    tokens = np.full((12, 4), TOKENS / 4)
    few = tokens.copy()
    few[3] = (TOKENS, 0, 0, 0)
    all_read, less_read = (make_blocks(spec, x, PROFILE, TOKENS).layers[3] for x in (tokens, few))
    assert less_read.parameter_bytes == all_read.parameter_bytes
    assert all_read.seconds_per_call
    assert less_read.seconds_per_call
    saved_s = all_read.seconds_per_call[2] - less_read.seconds_per_call[2]
    assert saved_s == pytest.approx(3 * spec.expert_parameter_bytes / 8e9)


def test_arithmetic_changes_by_the_platform_s_factor_of_the_precision() -> None:
    fp32, int8, int4, bf16 = (
        blocks_of("bert-moe", w).layers[0].seconds_per_token for w in ("fp32", "int8", "int4", "bf16")
    )
    assert np.allclose(np.divide(fp32, int8), PROFILE.compute.int8_speed.median)
    assert np.allclose(np.divide(fp32, bf16), PROFILE.compute.bf16_speed.median)
    assert int4 == int8, "unpacked to int8"


def test_dense_layers_come_with_the_first_block_and_a_head_of_its_own_with_the_last() -> None:
    blocks, spec = blocks_of("deepseek-v2-lite"), load_spec("deepseek-v2-lite")
    first, middle, last = (blocks.layers[e].parameter_bytes / 2 for e in (0, 1, -1))
    dense = 13_762_560 + 3 * 2048 * 10_944
    assert first - middle == pytest.approx(102_400 * 2048 + dense)
    assert last - middle == pytest.approx(102_400 * 2048)
    assert blocks.head_bytes == 0
    assert blocks.layers[0].seconds_per_token[2] > blocks.layers[1].seconds_per_token[2]
    assert spec.non_moe_parameters == 13_762_560 + 2048 * 64 + 3 * 2048 * 2816, "shared experts in their block"


@pytest.mark.parametrize(
    ("name", "weights"), [("olmoe-1b-7b", "int8"), ("deepseek-v2-lite", "int4"), ("qwen1.5-moe-a2.7b", "int4")]
)
def test_models_of_7_to_16_billion_parameters_fit_one_function_at_few_bits(name: str, weights: Weights) -> None:
    """The first thing to know of a model: one precision higher and it has to be cut."""
    spec = load_spec(name)
    tokens = np.full((spec.moe_layers, spec.experts), TOKENS * spec.top_k / spec.experts)
    check_fits(make_problem(spec, tokens, PROFILE, shapes=SHAPES, weights=weights), "whole-model")
    larger: Weights = "bf16" if weights == "int8" else "int8"
    problem = make_problem(spec, tokens, PROFILE, shapes=SHAPES, weights=larger)
    with pytest.raises(InputError, match=rf"{larger}, the largest memory is 10,240 MB; fits in (int8|int4) \("):
        check_fits(problem, "whole-model")
    check_fits(problem, "blocks")


def test_what_fits_no_function_says_so_with_the_number() -> None:
    spec = load_spec("mixtral-8x7b")
    problem = make_problem(spec, np.full((32, 8), 2560.0), PROFILE, shapes=("whole-model",))
    with pytest.raises(InputError, match=r"whole-model: mixtral-8x7b needs 89,\d\d\d MB .* fits in no precision"):
        check_fits(problem, "whole-model")
    with pytest.raises(InputError, match="no shape 'whole-modle'; did you mean 'whole-model'"):
        shape_names("blocks,whole-modle", "--shapes")


def test_a_problem_of_expert_functions_alone_is_as_it_was() -> None:
    spec = load_spec("bert-moe")
    tokens = np.full((12, 4), TOKENS / 4)
    problem = make_problem(spec, tokens, PROFILE)
    assert problem.blocks is None
    cut = make_problem(spec, tokens, PROFILE, shapes=SHAPES)
    assert cut.with_blocks(None) == problem


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_blocks_remade_of_another_profile_are_those_made_of_it(weights: Weights) -> None:
    """Else what is shown over draws of the constants compares shapes on different platforms."""
    spec = load_spec("bert-moe")
    tokens = np.full((12, 4), TOKENS / 4)
    other = PROFILE
    for path, value in (("flops_per_vcpu", 30e9), ("transformer_speed", 0.5), ("int8_speed", 1.7)):
        other = with_constant(other, ("compute", path), value)
    made, expected = (make_problem(spec, tokens, x, shapes=SHAPES, weights=weights) for x in (PROFILE, other))
    found = remade(made, PROFILE, other).blocks
    assert found is not None
    assert expected.blocks is not None
    for a, b in zip(found.layers, expected.blocks.layers, strict=True):
        assert a.seconds_per_token == pytest.approx(b.seconds_per_token)
        assert a.seconds_per_call == pytest.approx(b.seconds_per_call)
    assert found.tail_seconds_per_token == pytest.approx(expected.blocks.tail_seconds_per_token)
