"""A dense transformer made into a Mixture-of-Experts model: gates, and experts that are copies of its MLPs.

With copies and renormalised gate weights the experts' outputs sum to the dense MLP's, so the model computes
what it did, up to float rounding.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from moe.errors import InputError
from moe.pretrained.settings import ExpertCopies, GateSettings

_MLP_NAMES = ("mlp", "ffn", "feed_forward")
SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class MLPSite:
    """Where a dense MLP sits in a transformer.

    Attributes:
        block: path of the transformer block in the model.
        parts: paths, inside the block, of the modules that make up the MLP, in the order they are applied.
    """

    block: str
    parts: tuple[str, ...]

    def entry(self, model: nn.Module) -> nn.Module:
        """The module whose input is the MLP's input."""
        return model.get_submodule(f"{self.block}.{self.parts[0]}")

    def mlp(self, model: nn.Module) -> nn.Module:
        """The MLP as one module."""
        parts = [model.get_submodule(f"{self.block}.{part}") for part in self.parts]
        return parts[0] if len(parts) == 1 else nn.Sequential(*parts)

    def replace(self, model: nn.Module, layer: nn.Module) -> None:
        """Put `layer` in the MLP's place."""
        for part in self.parts[:-1]:
            model.set_submodule(f"{self.block}.{part}", nn.Identity())
        model.set_submodule(f"{self.block}.{self.parts[-1]}", layer)


def find_mlps(model: nn.Module) -> list[MLPSite]:
    """The MLPs of an encoder or decoder, first block first.

    Known shapes: `intermediate` and `output.dense` (BERT and its kin), a module `mlp`, `ffn` or `feed_forward`
    (GPT-2, GPT-NeoX, Llama, Mistral, Qwen, DistilBERT, ...), and bare `fc1`, `fc2` (OPT).
    Raises InputError for a model that has none of these, or whose MLPs are Mixture-of-Experts layers already.
    """
    kind = type(model).__name__
    sites = [
        MLPSite(name, parts) for name, block in model.named_modules() if name and (parts := _mlp_parts(block))
    ]
    if not sites:
        raise InputError(f"model: {kind}: no MLP found in it; expected a BERT-, GPT- or Llama-like transformer")
    for site in sites:
        if any(name.split(".")[-1] in ("experts", "router") for name, _ in site.mlp(model).named_modules()):
            raise InputError(
                f"model: {kind}: {site.block} is a Mixture-of-Experts block; expected a dense model, "
                "or gate: own, which records its own gates"
            )
    return sites


def hidden_size(model: nn.Module) -> int:
    """Size of a model's hidden states. Raises InputError for an encoder and a decoder of different sizes."""
    config: Any = model.config
    parts = [getattr(config, name) for name in ("encoder", "decoder") if hasattr(config, name)] or [config]
    sizes = {part.hidden_size for part in parts}
    if len(sizes) > 1:
        raise InputError(f"model: {type(model).__name__}: expected one hidden size, got {sorted(sizes)}")
    return int(sizes.pop())


def _mlp_parts(block: nn.Module) -> tuple[str, ...] | None:
    """The paths of the MLP's parts in a transformer block; None where the module is no such block."""
    children = dict(block.named_children())
    if "intermediate" in children and isinstance(getattr(children.get("output"), "dense", None), nn.Linear):
        return ("intermediate", "output.dense")
    if "fc1" in children and "fc2" in children and "activation_fn" in children:
        return ("fc1", "activation_fn", "fc2")
    for name in _MLP_NAMES:
        if name in children and not isinstance(children[name], nn.Linear):
            return (name,)
    return None


@dataclass(frozen=True)
class HiddenStatistics:
    """Mean and standard deviation of an MLP's inputs per dimension, each shape (hidden,) float64."""

    mean: np.ndarray
    deviation: np.ndarray


class Gate(nn.Module):
    """A linear layer that gives each token its k experts.

    Args:
        weight, bias: shapes (E, hidden) and (E,).
        top_k: experts per token.
        renormalise: weights are the softmax over the chosen experts, summing to 1; if not, over all experts.

    Attributes:
        keeps: of a trained gate, the share of the MLP's output that the chosen experts' neurons carry, and the
            cosine of the two.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, top_k: int, renormalise: bool = True):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.top_k = top_k
        self.renormalise = renormalise
        self.keeps: tuple[float, float] | None = None

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Chosen experts, best first, and their weights: hidden (N, hidden) to two of shape (N, k)."""
        logits = nn.functional.linear(hidden.float(), self.weight, self.bias)
        best, experts = logits.topk(self.top_k, dim=-1)
        if self.renormalise:
            return experts, best.softmax(-1)
        return experts, logits.softmax(-1).gather(-1, experts)


def make_gates(
    settings: GateSettings,
    hidden: int,
    layers: int,
    statistics: Sequence[HiddenStatistics] | None = None,
    first: int = 0,
) -> list[Gate]:
    """A `random` or `standardised` gate for each MoE layer; layer e draws from its own stream of the gate's seed.

    A `standardised` gate W ((x - mean) / deviation) is folded into one linear layer on x itself.

    Args:
        hidden: size of a hidden state.
        statistics: of each layer's MLP inputs; only for `standardised` gates, which need them.
        first: number of the first layer; a decoder's follow an encoder's.
    """
    if settings.gate == "standardised" and statistics is None:
        raise ValueError("a standardised gate needs the statistics of the hidden states")
    gates = []
    for layer, stream in enumerate(np.random.SeedSequence(settings.gate_seed).spawn(first + layers)[first:]):
        draws = np.random.default_rng(stream).standard_normal((settings.experts, hidden))
        weight, bias = draws / np.sqrt(hidden), np.zeros(settings.experts)
        if settings.gate == "standardised" and statistics is not None:
            weight = weight / np.maximum(statistics[layer].deviation, SMALLEST_DEVIATION)
            bias = -weight @ statistics[layer].mean
        gates.append(Gate(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), settings.top_k))
    return gates


class MoELayer(nn.Module):
    """A gate and its experts: sum over a token's chosen experts of weight x expert(token).

    Args:
        gate: chooses experts and weights.
        experts: E modules, hidden state in, hidden state out.
        block: path in the model of the transformer block that it is in.
    """

    def __init__(self, gate: Gate, experts: Sequence[nn.Module], block: str):
        super().__init__()
        self.gate = gate
        self.experts = nn.ModuleList(experts)
        self.block = block

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states of any shape (..., hidden) in and out; each expert sees only its own tokens."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        chosen, weights = self.gate(flat)
        out = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            token, slot = (chosen == index).nonzero(as_tuple=True)
            if len(token):
                out.index_add_(0, token, expert(flat[token]) * weights[token, slot, None].to(out.dtype))
        return out.reshape(hidden.shape)


def convert(
    model: nn.Module,
    gates: Sequence[Gate],
    experts: int,
    expert_copies: ExpertCopies = "copies",
    noise: float = 0.1,
    seed: int = 0,
) -> nn.Module:
    """A copy of a dense transformer with an MoE layer in place of each MLP.

    Args:
        gates: one for each MLP (`make_gates`).
        experts: E.
        expert_copies: `copies` of the MLP, or `perturbed`: Gaussian noise is added to each weight tensor.
        noise: standard deviation of the noise, relative to that of the tensor.
        seed: of the noise; each expert of each layer has its own stream.

    Raises InputError where `find_mlps` does.
    """
    model = copy.deepcopy(model)
    for layer, (site, gate) in enumerate(zip(find_mlps(model), gates, strict=True)):
        mlp = site.mlp(model)
        copies = [copy.deepcopy(mlp) for _ in range(experts)]
        if expert_copies == "perturbed":
            for index, expert in enumerate(copies):
                _perturb(expert, noise, np.random.SeedSequence(seed, spawn_key=(layer, index)))
        site.replace(model, MoELayer(gate, copies, site.block))
    return model


def moe_layers(model: nn.Module) -> list[MoELayer]:
    """The MoE layers of a converted model, first block first."""
    return [module for module in model.modules() if isinstance(module, MoELayer)]


@torch.no_grad()
def _perturb(expert: nn.Module, noise: float, stream: np.random.SeedSequence) -> None:
    generator = torch.Generator().manual_seed(int(stream.generate_state(1, np.uint32)[0]))
    for tensor in expert.parameters():
        draws = torch.randn(tensor.shape, generator=generator)
        tensor.add_((noise * tensor.std(unbiased=False) * draws).to(tensor.dtype))
