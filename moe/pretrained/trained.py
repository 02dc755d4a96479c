"""Gates that are fitted: an MLP's neurons become experts, and a linear layer finds those that carry its output.

After MoEfication (Zhang et al., Findings of ACL 2022): neurons of each MLP are clustered by their weights into
experts of equal size. On a text apart from what is served, the share of the MLP's output that each expert carries
is regressed on the MLP's input. Routers of real MoE models are trained for even loads: here a bias for each expert
makes loads even on that text (as in DeepSeek-V3: Wang et al. 2024, arXiv 2408.15664).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from moe.errors import InputError
from moe.pretrained.convert import SMALLEST_DEVIATION, Gate, MLPSite, find_mlps, hidden_size
from moe.pretrained.passes import watch_neurons
from moe.pretrained.settings import GateSettings

KMEANS_ROUNDS = 20
BALANCE_ROUNDS = 200
RIDGE = 0.01
"""Penalty on the weights of standardised inputs, for each token of the text."""


@dataclass(frozen=True)
class Neurons:
    """The neurons of a dense MLP, F of them.

    Attributes:
        up: the linear layers that make them of the MLP's input.
        down: the one that makes the MLP's output of them.
    """

    up: tuple[nn.Module, ...]
    down: nn.Module

    @property
    def into(self) -> np.ndarray:
        """Weights into each, side by side where an MLP is gated, (F, n hidden)."""
        rows = [_rows(x).detach().float().numpy() for x in self.up]
        count = _rows(self.down).shape[1]
        return np.concatenate([part for x in rows for part in np.split(x, len(x) // count)], axis=1)

    @property
    def out(self) -> torch.Tensor:
        """Weights out of each, (F, hidden)."""
        return _rows(self.down).T.float()


def neurons_of(model: nn.Module, site: MLPSite) -> Neurons:
    """An MLP's neurons: its last linear layer reads them, the others write them. Raises InputError."""
    linear = [x for x in site.mlp(model).modules() if isinstance(x, nn.Linear) or type(x).__name__ == "Conv1D"]
    sizes = [_rows(x).shape for x in linear]
    if len(linear) < 2 or any(made % sizes[-1][1] for made, _ in sizes[:-1]):
        raise InputError(
            f"model: {type(model).__name__}: neurons of its MLPs cannot be told; not with gate: trained"
        )
    return Neurons(tuple(linear[:-1]), linear[-1])


def clusters(into: np.ndarray, experts: int, rng: np.random.Generator) -> np.ndarray:
    """The expert of each neuron, (F,) int: k-means on their weights (F, n), clusters of equal size to within one.

    Raises InputError for more experts than neurons.
    """
    if experts > len(into):
        raise InputError(
            f"experts: expected at most the {len(into)} neurons of an MLP with gate: trained, got {experts}"
        )
    rows = into / np.maximum(np.linalg.norm(into, axis=1, keepdims=True), SMALLEST_DEVIATION)
    sizes = len(rows) // experts + (np.arange(experts) < len(rows) % experts)
    centers, owner = rows[rng.choice(len(rows), experts, replace=False)], np.empty(0)
    for _ in range(KMEANS_ROUNDS):
        before, owner = owner, _nearest_with_room(np.square(centers).sum(1) - 2 * rows @ centers.T, sizes)
        if np.array_equal(before, owner):
            break
        centers = np.stack([rows[owner == e].mean(0) for e in range(experts)])
    return owner


def trained_gates(
    model: nn.Module, settings: Sequence[GateSettings], text: np.ndarray, first: int = 0
) -> list[list[Gate]]:
    """For each setting, a fitted gate for each MLP of a dense model.

    Args:
        text: token IDs, shape (S, n): four fifths to fit the gates on, a fifth to see what they keep of.
        first: number of the first layer, whose stream of the gate's seed it takes (`make_gates`).

    Raises InputError for MLPs whose neurons cannot be told, and for a text of one sequence.
    """
    if len(text) < 2:
        raise InputError(f"gate_corpus: expected 2 sequences of {text.shape[1]} tokens, got {len(text)}")
    learnt, checked = np.split(text, [len(text) * 4 // 5])
    layers = [neurons_of(model, site) for site in find_mlps(model)]
    owners = [_owners(layers, each, first) for each in settings]
    hidden = np.empty((len(layers), learnt.size, hidden_size(model)), np.float32)
    carried = [np.empty((len(layers), learnt.size, each.experts), np.float32) for each in settings]

    def on_learnt(layer: int, rows: slice, inputs: torch.Tensor, neurons: torch.Tensor) -> None:
        hidden[layer, rows] = inputs.numpy()
        along = _along_output(neurons, layers[layer].out)
        for own, owner in zip(carried, owners, strict=True):
            own[layer, rows] = along @ np.eye(own.shape[-1], dtype=np.float32)[owner[layer]]

    watch_neurons(model, learnt, [x.down for x in layers], on_learnt)
    gates = [
        [_fitted(hidden[e], shares[e], each.top_k) for e in range(len(layers))]
        for each, shares in zip(settings, carried, strict=True)
    ]
    _check(model, checked, layers, gates, owners)
    return gates


def _owners(layers: Sequence[Neurons], settings: GateSettings, first: int) -> list[np.ndarray]:
    streams = np.random.SeedSequence(settings.gate_seed).spawn(first + len(layers))[first:]
    return [
        clusters(x.into, settings.experts, np.random.default_rng(stream))
        for x, stream in zip(layers, streams, strict=True)
    ]


def _nearest_with_room(distance: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The nearest cluster (F, E) of each neuron that has room: each takes its nearest first, the others go on."""
    owner, room = np.full(len(distance), -1), sizes.copy()
    while (free := np.flatnonzero(owner < 0)).size:
        wanted = np.where(room > 0, distance[free], np.inf).argmin(1)
        for e in np.unique(wanted):
            asking = free[wanted == e]
            taken = asking[np.argsort(distance[asking, e], kind="stable")[: room[e]]]
            owner[taken] = e
            room[e] -= len(taken)
    return owner


def _along_output(neurons: torch.Tensor, out: torch.Tensor) -> np.ndarray:
    """Share of the MLP's output y = sum of y_i that each neuron carries: y . y_i / |y|^2, (N, F), of sum 1."""
    output = neurons.float() @ out
    along = neurons * (output @ out.T)
    return (along / output.square().sum(1, keepdim=True).clamp(min=SMALLEST_DEVIATION**2)).numpy()


def _fitted(hidden: np.ndarray, shares: np.ndarray, top_k: int) -> Gate:
    """Ridge regression of the experts' shares (N, E) on inputs (N, hidden), with even loads on them."""
    mean, deviation = hidden.mean(0), np.maximum(hidden.std(0), SMALLEST_DEVIATION)
    inputs = ((hidden - mean) / deviation).astype(np.float64)
    squares = inputs.T @ inputs + RIDGE * len(inputs) * np.eye(inputs.shape[1])
    slopes = np.linalg.solve(squares, inputs.T @ (shares - shares.mean(0)))
    weight = slopes.T / deviation
    bias = _even(inputs @ slopes, top_k) - weight @ mean
    return Gate(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), top_k)


def _even(logits: np.ndarray, top_k: int) -> np.ndarray:
    """The bias of each expert with which the top-k of logits (N, E) are spread evenly, (E,)."""
    tokens, experts = logits.shape
    bias, step = np.zeros(experts), logits.std()
    for n in range(BALANCE_ROUNDS):
        best = np.argpartition(-(logits + bias), top_k - 1, axis=1)[:, :top_k]
        load = np.bincount(best.ravel(), minlength=experts) * experts / (tokens * top_k)
        bias -= step / (2 + n / 5) * np.clip(load - 1, -1, 1)
    return bias


def _check(
    model: nn.Module,
    checked: np.ndarray,
    layers: Sequence[Neurons],
    gates: Sequence[Sequence[Gate]],
    owners: Sequence[Sequence[np.ndarray]],
) -> None:
    """Say of each gate what it keeps of the MLP's output, were only its chosen experts' neurons there.

    The share of the output's energy, 1 - sum |y - kept|^2 / sum |y|^2, and the mean cosine of y and what is kept.
    """
    energy, lost, cosine = (np.zeros((len(gates), len(layers))) for _ in range(3))

    def on_checked(layer: int, _rows: slice, inputs: torch.Tensor, neurons: torch.Tensor) -> None:
        output = neurons.float() @ layers[layer].out
        for index, (own, owner) in enumerate(zip(gates, owners, strict=True)):
            chosen, _ = own[layer](inputs)
            is_chosen = torch.zeros(len(inputs), len(own[layer].weight)).scatter_(1, chosen, 1.0)
            kept = (neurons * is_chosen[:, owner[layer]]) @ layers[layer].out
            energy[index, layer] += float(output.square().sum())
            lost[index, layer] += float((output - kept).square().sum())
            cosine[index, layer] += float(nn.functional.cosine_similarity(output, kept).sum())

    watch_neurons(model, checked, [x.down for x in layers], on_checked)
    for index, own in enumerate(gates):
        for layer, gate in enumerate(own):
            share = float(1 - lost[index, layer] / energy[index, layer])
            gate.keeps = round(share, 4), round(float(cosine[index, layer]) / checked.size, 4)


def _rows(linear: nn.Module) -> torch.Tensor:
    """Weights of a linear layer as (out, in); GPT-2's are the other way round."""
    weight: torch.Tensor = linear.weight  # type: ignore[assignment]
    return weight if isinstance(linear, nn.Linear) else weight.T
