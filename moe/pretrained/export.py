"""A BERT-like encoder with MoE layers as numpy arrays, function by function: what live validation deploys."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from moe.errors import InputError
from moe.pretrained.settings import GateSettings

if TYPE_CHECKING:
    from moe.pretrained.models import LoadedModel


@dataclass(frozen=True)
class ExportedModel:
    """The first layers of an encoder, cut into the functions of a deployment. Arrays are fp32, weights (in, out).

    Attributes:
        name: of the model. heads, sequence_tokens, top_k, epsilon: what arrays alone do not say.
        non_moe: arrays of non-MoE function e, for each of layers + 1 (the first has the embedding, the last is
            the tail).
        experts: arrays of each expert of each layer.
        reference: the undistributed model in torch.
    """

    name: str
    heads: int
    sequence_tokens: int
    top_k: int
    epsilon: float
    non_moe: tuple[dict[str, np.ndarray], ...]
    experts: tuple[tuple[dict[str, np.ndarray], ...], ...]
    reference: Any = field(repr=False)

    @property
    def hidden(self) -> int:
        """Size of a hidden state."""
        return len(self.non_moe[0]["embedding_norm.weight"])

    @property
    def expert_ffn(self) -> int:
        """Size of an expert's hidden activation."""
        return len(self.experts[0][0]["expert_in.bias"])

    def undistributed(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the undistributed model makes of token IDs (S, n), and where its gates send them.

        Returns:
            Hidden states after the last layer, (S n, hidden), and tokens of each expert, (layers, experts) int.
        """
        import torch

        from moe.pretrained.convert import moe_layers

        counts = np.zeros((len(self.experts), len(self.experts[0])), int)

        def count(layer: int) -> Any:
            def hook(_module: Any, _inputs: Any, chosen: Any) -> None:
                counts[layer] += np.bincount(chosen[0].numpy().ravel(), minlength=counts.shape[1])

            return hook

        hooks = [x.gate.register_forward_hook(count(e)) for e, x in enumerate(moe_layers(self.reference))]
        try:
            with torch.no_grad():
                parts = [
                    self.reference(torch.from_numpy(part.astype(np.int64))).last_hidden_state.numpy()
                    for part in np.array_split(tokens, -(-len(tokens) // 16))
                ]
        finally:
            for hook in hooks:
                hook.remove()
        return np.concatenate(parts).reshape(tokens.size, -1), counts


def export(
    loaded: LoadedModel, gates: GateSettings, layers: int, sequence_tokens: int, sample: np.ndarray, noise: float
) -> ExportedModel:
    """The first `layers` blocks of a BERT-like encoder, each with an MoE layer of perturbed experts.

    Args:
        loaded: the dense encoder.
        gates: of each MoE layer. sample: token IDs (S, n) that `standardised` and `trained` gates learn from.
        sequence_tokens: of all sequences that will be served: attention needs it.
        noise: standard deviation of the experts' perturbation, relative to that of each weight tensor: a token
            that goes to the wrong expert shows in the output.

    Raises:
        InputError: it is no BERT-like encoder, or has fewer blocks.
    """
    from moe.pretrained.convert import convert, make_gates
    from moe.pretrained.passes import hidden_statistics
    from moe.pretrained.trained import trained_gates

    config = loaded.model.config
    if getattr(config, "model_type", "") != "bert":
        raise InputError(f"model: {loaded.name}: expected a BERT-like encoder, got {config.model_type}")
    blocks = len(loaded.model.encoder.layer)
    if not 1 <= layers <= blocks:
        raise InputError(f"layers: {loaded.name} has 1 to {blocks}, got {layers}")
    dense = copy.deepcopy(loaded.model)
    dense.encoder.layer, dense.pooler = dense.encoder.layer[:layers], None
    statistics = hidden_statistics(dense, sample) if gates.gate == "standardised" else None
    if gates.gate == "trained":
        (made,) = trained_gates(dense, [gates], sample)
    else:
        made = make_gates(gates, int(config.hidden_size), layers, statistics)
    model: Any = convert(dense, made, gates.experts, "perturbed", noise)
    parts = [_attention_arrays(block) for block in model.encoder.layer]
    parts[0] |= _embedding_arrays(model.embeddings)
    tails = [_norm("output_norm", block.output.LayerNorm) for block in model.encoder.layer]
    non_moe = [(parts[e] if e < layers else {}) | (tails[e - 1] if e else {}) for e in range(layers + 1)]
    return ExportedModel(
        name=loaded.name,
        heads=int(config.num_attention_heads),
        sequence_tokens=sequence_tokens,
        top_k=gates.top_k,
        epsilon=float(config.layer_norm_eps),
        non_moe=tuple(non_moe),
        experts=tuple(
            tuple(_expert_arrays(x) for x in block.output.dense.experts) for block in model.encoder.layer
        ),
        reference=model,
    )


def _array(tensor: Any) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)


def _linear(name: str, *modules: Any) -> dict[str, np.ndarray]:
    """Weights as (in, out) and biases of linear layers side by side."""
    weight = np.concatenate([_array(x.weight) for x in modules]).T
    return {
        f"{name}.weight": np.ascontiguousarray(weight),
        f"{name}.bias": np.concatenate([_array(x.bias) for x in modules]),
    }


def _norm(name: str, module: Any) -> dict[str, np.ndarray]:
    return {f"{name}.weight": _array(module.weight), f"{name}.bias": _array(module.bias)}


def _embedding_arrays(embeddings: Any) -> dict[str, np.ndarray]:
    positions = _array(embeddings.position_embeddings.weight) + _array(embeddings.token_type_embeddings.weight[0])
    return {
        "words": _array(embeddings.word_embeddings.weight),
        "positions": positions,
        **_norm("embedding_norm", embeddings.LayerNorm),
    }


def _attention_arrays(block: Any) -> dict[str, np.ndarray]:
    own, output = block.attention.self, block.attention.output
    return {
        **_linear("attention_in", own.query, own.key, own.value),
        **_linear("attention_out", output.dense),
        **_norm("attention_norm", output.LayerNorm),
        **_linear("gate", block.output.dense.gate),
    }


def _expert_arrays(expert: Any) -> dict[str, np.ndarray]:
    """Arrays of one expert: `Sequential(intermediate, output.dense)` of a BERT block."""
    return {**_linear("expert_in", expert[0].dense), **_linear("expert_out", expert[1])}
