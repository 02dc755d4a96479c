"""A converted model is the dense model with experts: same output where they are copies, routing that is real."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from moe.errors import InputError
from moe.pretrained.convert import (
    Gate,
    HiddenStatistics,
    MoELayer,
    convert,
    find_mlps,
    hidden_size,
    make_gates,
    moe_layers,
)
from moe.pretrained.passes import hidden_statistics, record_converted, record_dense
from moe.pretrained.settings import GateSettings
from tests.moe import tiny_models

KINDS = ("bert", "roberta", "distilbert", "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "opt")
SEQUENCES = np.random.default_rng(0).integers(4, tiny_models.VOCABULARY, (6, 20)).astype(np.int32)
TOLERANCE = 2e-5
"""Of outputs of a few units in float32: the sum of two halves rounds differently from the whole."""


def output(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.from_numpy(SEQUENCES.astype(np.int64))).last_hidden_state


def gates_of(model: Any, **settings: Any) -> list[Gate]:
    return make_gates(GateSettings(**settings), model.config.hidden_size, len(find_mlps(model)))


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_copies_of_the_mlp_leave_the_output_unchanged(kind: str, top_k: int) -> None:
    """Else a recorded trace is of another model than the one that is served."""
    dense = tiny_models.tiny_model(kind)
    before = output(dense)
    converted = convert(dense, gates_of(dense, experts=4, top_k=top_k), experts=4)
    assert len(moe_layers(converted)) == 3
    assert (output(converted) - before).abs().max() < TOLERANCE * before.abs().max()
    assert torch.equal(output(dense), before), "converting changed the dense model"


@pytest.mark.parametrize("kind", KINDS)
def test_without_renormalising_the_output_changes(kind: str) -> None:
    """Shows that the test above can fail."""
    dense = tiny_models.tiny_model(kind)
    gates = gates_of(dense, experts=4, top_k=2)
    for gate in gates:
        gate.renormalise = False
    difference = (output(convert(dense, gates, experts=4)) - output(dense)).abs().max()
    assert difference > 1000 * TOLERANCE * output(dense).abs().max()


def test_perturbed_experts_change_the_output_more_with_more_noise() -> None:
    dense = tiny_models.tiny_model("llama")
    gates = gates_of(dense, experts=4, top_k=2)

    def change(noise: float, seed: int = 0) -> float:
        return float((output(convert(dense, gates, 4, "perturbed", noise, seed)) - output(dense)).abs().max())

    assert TOLERANCE < change(0.001) < change(0.1)
    assert change(0.1, seed=5) == change(0.1, seed=5)
    assert change(0.1, seed=5) != change(0.1, seed=6)


def test_perturbed_experts_differ_from_each_other() -> None:
    dense = tiny_models.tiny_model("bert")
    layer = moe_layers(convert(dense, gates_of(dense, experts=3), 3, "perturbed"))[1]
    first, second, _ = (next(expert.parameters()).detach() for expert in layer.experts)
    original = next(find_mlps(dense)[1].mlp(dense).parameters()).detach()
    assert not torch.equal(first, second)
    assert 0.05 < float((first - original).std() / original.std()) < 0.2, "noise is relative, 0.1"


def test_a_layer_sums_its_experts_by_weight() -> None:
    """Against a direct computation, one token after the other, with experts that differ."""
    torch.manual_seed(1)
    gate = Gate(torch.randn(5, 8), torch.randn(5), top_k=3)
    experts = [nn.Linear(8, 8) for _ in range(5)]
    hidden = torch.randn(2, 7, 8)
    with torch.inference_mode():
        result = MoELayer(gate, experts, "block")(hidden)
        for row in range(2):
            for column in range(7):
                x = hidden[row, column]
                scores = (gate.weight @ x + gate.bias).tolist()
                best = sorted(range(5), key=lambda i: -scores[i])[:3]
                parts = np.exp([scores[i] for i in best])
                expected = sum(float(p / parts.sum()) * experts[i](x) for p, i in zip(parts, best, strict=True))
                assert torch.allclose(result[row, column], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "opt"])
def test_the_dense_pass_records_what_the_converted_model_routes(kind: str) -> None:
    """The shortcut of one dense pass for all gates, against the gates of the running MoE model."""
    dense = tiny_models.tiny_model(kind)
    gates = gates_of(dense, experts=4, top_k=2)
    (recorded,) = record_dense(dense, SEQUENCES, [gates], batch_sequences=4)
    converted = convert(dense, gates, experts=4)
    routed: list[torch.Tensor] = []
    for layer in moe_layers(converted):
        layer.gate.register_forward_hook(lambda _module, _inputs, chosen: routed.append(chosen[0]))
    output(converted)
    assert np.array_equal(recorded.experts, torch.stack(routed, dim=1).numpy())
    own = record_converted(converted, SEQUENCES, batch_sequences=4)
    assert np.array_equal(own.experts, recorded.experts)
    assert np.array_equal(own.attention_id, recorded.attention_id)
    assert np.allclose(own.weights, recorded.weights, atol=1e-4)


@pytest.mark.parametrize("gate", ["random", "standardised"])
def test_a_gate_does_not_depend_on_how_many_layers_follow(gate: str) -> None:
    """Else the first layers of a shallow and a deep model cannot be compared."""
    statistics = [HiddenStatistics(np.full(8, 0.5), np.full(8, 2.0))] * 5
    settings = GateSettings(gate=gate, gate_seed=7, experts=4)
    few, many = make_gates(settings, 8, 2, statistics), make_gates(settings, 8, 5, statistics)
    assert torch.equal(few[0].weight, many[0].weight)
    assert torch.equal(few[1].weight, many[1].weight)
    assert not torch.equal(many[0].weight, many[1].weight)
    other = make_gates(settings.model_copy(update={"gate_seed": 8}), 8, 2, statistics)
    assert not torch.equal(few[0].weight, other[0].weight)


def test_a_standardised_gate_sees_hidden_states_of_mean_0_and_deviation_1() -> None:
    rng = np.random.default_rng(2)
    hidden = rng.normal(3.0, [0.1, 1, 10, 100], (500, 4))
    statistics = HiddenStatistics(hidden.mean(0), hidden.std(0))
    (random,) = make_gates(GateSettings(experts=4), 4, 1)
    (standardised,) = make_gates(GateSettings(gate="standardised", experts=4), 4, 1, [statistics])
    z = torch.from_numpy((hidden - hidden.mean(0)) / hidden.std(0)).float()
    expected, weights = random(z)
    chosen, own = standardised(torch.from_numpy(hidden).float())
    assert (chosen == expected).float().mean() > 0.99
    assert torch.allclose(own, weights, atol=1e-3)


def test_a_dimension_that_never_varies_does_not_break_a_standardised_gate() -> None:
    statistics = HiddenStatistics(np.ones(4), np.array([1.0, 0.0, 1.0, 1.0]))
    (gate,) = make_gates(GateSettings(gate="standardised", experts=2), 4, 1, [statistics])
    assert torch.isfinite(gate.weight).all()
    assert torch.isfinite(gate.bias).all()


def test_statistics_are_those_of_all_mlp_inputs() -> None:
    model = tiny_models.tiny_model("llama")
    seen: list[np.ndarray] = []
    hook = model.layers[1].mlp.register_forward_pre_hook(lambda _module, args: seen.append(args[0].numpy()))
    output(model)
    hook.remove()
    statistics = hidden_statistics(model, SEQUENCES, batch_sequences=4)
    flat = seen[0].reshape(-1, 32).astype(np.float64)
    assert len(statistics) == 3
    assert np.allclose(statistics[1].mean, flat.mean(0), atol=1e-5)
    assert np.allclose(statistics[1].deviation, flat.std(0), atol=1e-5)


def test_a_model_without_mlps_is_told_in_one_line() -> None:
    with pytest.raises(InputError, match="Linear: no MLP found in it"):
        find_mlps(nn.Linear(2, 2))


def test_a_model_that_is_moe_already_is_told_in_one_line() -> None:
    config = transformers.MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    with pytest.raises(InputError, match="Mixture-of-Experts block; expected a dense model"):
        find_mlps(transformers.AutoModel.from_config(config))


def test_an_encoder_decoder_has_the_moe_layers_of_both_and_computes_what_it_did() -> None:
    """The 24 MoE layers of Bert2Bert: the encoder's, then the decoder's, also where it attends to the encoder."""
    dense = tiny_models.tiny_bert2bert()
    sites = [site.block.split(".")[0] for site in find_mlps(dense)]
    assert sites == ["encoder"] * 3 + ["decoder"] * 3
    gates = make_gates(GateSettings(experts=4, top_k=2), hidden_size(dense), 6)
    (trace,) = record_dense(dense, SEQUENCES, [gates])
    assert trace.experts.shape == (SEQUENCES.size, 6, 2)
    ids = torch.from_numpy(SEQUENCES.astype(np.int64))
    with torch.inference_mode():
        before = dense(input_ids=ids, decoder_input_ids=ids, output_attentions=True)
        after = convert(dense, gates, experts=4)(input_ids=ids, decoder_input_ids=ids)
    assert (after.logits - before.logits).abs().max() < TOLERANCE * before.logits.abs().max()
    for layer, attentions in enumerate((*before.encoder_attentions, *before.decoder_attentions)):
        expected = ids.gather(1, attentions.sum(1).argmax(-1))
        assert np.array_equal(trace.attention_id[:, layer], expected.ravel().numpy())


def test_bart_s_bare_layers_are_mlps_too() -> None:
    sizes = {
        f"{half}_{name}": n
        for half in ("encoder", "decoder")
        for name, n in (("attention_heads", 4), ("ffn_dim", 48))
    }
    config = transformers.BartConfig(vocab_size=64, d_model=32, encoder_layers=2, decoder_layers=1, **sizes)
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    (trace,) = record_dense(model, SEQUENCES, [make_gates(GateSettings(experts=4), hidden_size(model), 3)])
    assert trace.experts.shape == (SEQUENCES.size, 3, 1)


def test_attention_that_cannot_be_read_is_told_in_one_line() -> None:
    model = transformers.AutoModel.from_config(tiny_models.tiny_config("llama"), attn_implementation="sdpa")
    with pytest.raises(InputError, match="its attentions cannot be read"):
        record_dense(model, SEQUENCES, [gates_of(model)])
