"""Forward passes over token sequences, watched: attention IDs, MLP inputs, what the gates choose."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from moe.errors import InputError
from moe.pretrained.convert import Gate, HiddenStatistics, find_mlps, hidden_size, moe_layers
from moe.pretrained.settings import Progress
from moe.trace import RoutingTrace


def record_dense(
    model: nn.Module,
    sequences: np.ndarray,
    gates: Sequence[Sequence[Gate]],
    batch_sequences: int = 16,
    progress: Progress | None = None,
    attended_as: np.ndarray | None = None,
) -> list[RoutingTrace]:
    """Routing traces of several gates in one pass of the dense model: right where experts are its copies.

    A decoder that follows an encoder in the model reads the same sequences as the encoder.

    Args:
        model: a dense transformer, eager attention.
        sequences: token IDs, shape (S, n); after the end of a sequence, -1.
        gates: for each trace, a gate per MLP.
        batch_sequences: sequences per forward pass.
        attended_as: what the attention ID of a token that attends to a place is, shape (S, n); None: its token ID.

    Raises InputError for a model without MLPs, or with attentions that cannot be read.
    """
    return _record(_Pass(model, _mlp_points(model)), sequences, gates, batch_sequences, progress, attended_as)


def record_own(
    model: nn.Module, sequences: np.ndarray, batch_sequences: int = 16, progress: Progress | None = None
) -> RoutingTrace:
    """The routing trace of a model that is a Mixture-of-Experts already. Arguments as of `record_dense`.

    Raises InputError for a model without routers, with routers whose choice cannot be read, or with layers that
    differ in experts or top-k.
    """
    kind = type(model).__name__
    routers = routers_of(model)
    if not routers:
        raise InputError(
            f"model: {kind}: no router found in it; expected a Mixture-of-Experts model for gate: own"
        )
    points = []
    for name, router in routers.items():
        block, mlp, _ = name.rsplit(".", 2)
        points.append(_Point(block, mlp, router, is_router=True))
    chosen: list[list[torch.Tensor]] = [[] for _ in points]
    weights: list[list[torch.Tensor]] = [[] for _ in points]
    sizes: set[tuple[int, int]] = set()

    def on_choice(layer: int, _rows: slice, output: Any) -> None:
        is_known = isinstance(output, tuple) and len(output) == 3 and not output[2].is_floating_point()
        if not is_known or output[1].shape != output[2].shape:
            raise InputError(f"model: {kind}: the choice of its routers cannot be read; not supported")
        logits, weight, experts = output
        order = weight.argsort(dim=-1, descending=True, stable=True)
        best = weight.gather(-1, order).float()
        chosen[layer].append(experts.gather(-1, order).to(torch.int16))
        weights[layer].append(best / best.sum(-1, keepdim=True))
        sizes.add((logits.shape[-1], experts.shape[-1]))

    attended = _Pass(model, points).run(sequences, on_choice, batch_sequences, progress)
    if len(sizes) != 1:
        raise InputError(f"model: {kind}: expected the same experts and top-k in each layer, got {sorted(sizes)}")
    experts, weight = (torch.stack([torch.cat(x) for x in part], dim=1).numpy() for part in (chosen, weights))
    return _trace(sequences, _at(sequences, attended), experts, weight, sizes.pop()[0])


def routers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The routers of a Mixture-of-Experts model by their paths, first block first; one for each MoE layer."""
    return {name: module for name, module in model.named_modules() if type(module).__name__.endswith("Router")}


def record_converted(
    model: nn.Module, sequences: np.ndarray, batch_sequences: int = 16, progress: Progress | None = None
) -> RoutingTrace:
    """The routing trace of a converted model: what its own gates choose. Arguments as of `record_dense`."""
    layers = moe_layers(model)
    points = [_Point(layer.block, "", layer) for layer in layers]
    gates = [[layer.gate for layer in layers]]
    return _record(_Pass(model, points), sequences, gates, batch_sequences, progress)[0]


def hidden_statistics(
    model: nn.Module, sequences: np.ndarray, batch_sequences: int = 16
) -> list[HiddenStatistics]:
    """Mean and standard deviation of the inputs of each MLP of a dense model, over `sequences` (S, n)."""
    points = _mlp_points(model)
    total, squares = np.zeros((2, len(points), hidden_size(model)))

    def on_input(layer: int, _rows: slice, hidden: torch.Tensor) -> None:
        wide = hidden.double()
        total[layer] += wide.sum(0).numpy()
        squares[layer] += wide.square().sum(0).numpy()

    _Pass(model, points).run(sequences, on_input, batch_sequences, None)
    mean = total / sequences.size
    deviation = np.sqrt(np.maximum(squares / sequences.size - mean**2, 0.0))
    return [HiddenStatistics(m, d) for m, d in zip(mean, deviation, strict=True)]


OnNeurons = Callable[[int, slice, torch.Tensor, torch.Tensor], None]
"""Called with the layer, the rows of the batch's tokens, the MLP's input (N, hidden) and its neurons (N, F)."""


def watch_neurons(
    model: nn.Module,
    sequences: np.ndarray,
    down: Sequence[nn.Module],
    on_neurons: OnNeurons,
    batch_sequences: int = 16,
) -> None:
    """Run a dense model over sequences (S, n) and show what the neurons of its MLPs do.

    Args:
        down: of each MLP, the layer that reads its neurons.
    """
    seen: dict[int, tuple[slice, torch.Tensor]] = {}

    def on_input(layer: int, rows: slice, hidden: torch.Tensor) -> None:
        seen[layer] = rows, hidden

    def on_down(layer: int, _module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        on_neurons(layer, *seen.pop(layer), inputs[0].reshape(-1, inputs[0].shape[-1]))

    handles = [x.register_forward_pre_hook(partial(on_down, layer)) for layer, x in enumerate(down)]
    try:
        _Pass(model, _mlp_points(model)).run(sequences, on_input, batch_sequences, None)
    finally:
        for handle in handles:
            handle.remove()


def _record(
    forward: "_Pass",
    sequences: np.ndarray,
    gates: Sequence[Sequence[Gate]],
    batch_sequences: int,
    progress: Progress | None,
    attended_as: np.ndarray | None = None,
) -> list[RoutingTrace]:
    shapes = [(sequences.size, len(own), own[0].top_k) for own in gates]
    experts = [np.empty(shape, dtype=np.int16) for shape in shapes]
    weights = [np.empty(shape, dtype=np.float32) for shape in shapes]

    def on_input(layer: int, rows: slice, hidden: torch.Tensor) -> None:
        for index, own in enumerate(gates):
            chosen, weight = own[layer](hidden)
            experts[index][rows, layer] = chosen.numpy()
            weights[index][rows, layer] = weight.numpy()

    attended = forward.run(sequences, on_input, batch_sequences, progress)
    attention_id = _at(sequences if attended_as is None else attended_as, attended)
    return [
        _trace(sequences, attention_id, experts[index], weights[index], len(own[0].weight))
        for index, own in enumerate(gates)
    ]


def _trace(
    sequences: np.ndarray, attention_id: np.ndarray, experts: np.ndarray, weights: np.ndarray, num_experts: int
) -> RoutingTrace:
    count, length = sequences.shape
    return RoutingTrace(
        sequence=np.repeat(np.arange(count, dtype=np.int32), length),
        token_id=sequences.ravel().astype(np.int32),
        position_id=np.tile(np.arange(length, dtype=np.int32), count),
        attention_id=attention_id,
        experts=experts,
        weights=weights,
        num_experts=num_experts,
    )


def _at(sequences: np.ndarray, attended: np.ndarray) -> np.ndarray:
    """What stands in sequences (S, n) at the attended places (S n, L) of the same sequence, int32."""
    row = np.repeat(np.arange(len(sequences)), sequences.shape[1])
    return sequences[row[:, None], attended].astype(np.int32)


def _mlp_points(model: nn.Module) -> "list[_Point]":
    return [_Point(site.block, site.parts[0].split(".")[0], site.entry(model)) for site in find_mlps(model)]


@dataclass(frozen=True)
class _Point:
    """A layer to watch: its block's path, the block's child that is the MLP, the module that gets its input.

    Of a router (`is_router`) the output is watched instead.
    """

    block: str
    mlp: str
    entry: nn.Module
    is_router: bool = False


OnInput = Callable[[int, slice, Any], None]
"""Called with the layer, the rows of the batch's tokens, and the MLP's input or a router's output."""


class _Pass:
    """A forward pass of a model over many sequences, with hooks on its MLPs and attentions."""

    def __init__(self, model: nn.Module, points: Sequence[_Point]):
        self.kind = type(model).__name__
        self.has_both = getattr(model.config, "is_encoder_decoder", False)
        self.model = model
        self.points = points
        self.options = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
        self.batch = torch.empty(0)
        self.rows = slice(0, 0)
        self.most: list[torch.Tensor | None] = []

    def run(
        self, sequences: np.ndarray, on_input: OnInput, batch_sequences: int, progress: Progress | None
    ) -> np.ndarray:
        """Run the model over all sequences (S, n); return the place each token attends to most, (S n, L) int32."""
        ids = torch.from_numpy(sequences.astype(np.int64))
        attended = np.empty((sequences.size, len(self.points)), dtype=np.int32)
        started = time.perf_counter()
        handles = self._add_hooks(on_input)
        try:
            for self.batch in ids.split(batch_sequences):
                self.rows = slice(self.rows.stop, self.rows.stop + self.batch.numel())
                self.most = [None] * len(self.points)
                with torch.inference_mode():
                    self.model(**self._inputs(), **self.options)
                attended[self.rows] = self._attended()
                if progress:
                    done = self.rows.stop
                    progress(done, sequences.size, done / max(time.perf_counter() - started, 1e-9))
        finally:
            for handle in handles:
                handle.remove()
        return attended

    def _inputs(self) -> dict[str, torch.Tensor]:
        """The batch as the model takes it; a mask only where a sequence ends early."""
        is_token = self.batch >= 0
        given = {"input_ids": self.batch.clamp(min=0)}
        if not is_token.all():
            given["attention_mask"] = is_token.long()
        return given | ({"decoder_input_ids": given["input_ids"]} if self.has_both else {})

    def _add_hooks(self, on_input: OnInput) -> list[torch.utils.hooks.RemovableHandle]:
        handles = []
        for layer, point in enumerate(self.points):
            if point.is_router:
                handles.append(point.entry.register_forward_hook(partial(self._on_router, layer, on_input)))
            else:
                handles.append(point.entry.register_forward_pre_hook(partial(self._on_mlp, layer, on_input)))
            for name, child in self.model.get_submodule(point.block).named_children():
                if name != point.mlp:
                    handles.append(child.register_forward_hook(partial(self._on_child, layer)))
        return handles

    def _on_mlp(self, layer: int, on_input: OnInput, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(inputs) != 1:
            raise InputError(f"model: {self.kind}: its MLPs take more than hidden states; not supported")
        on_input(layer, self.rows, inputs[0].reshape(-1, inputs[0].shape[-1]))

    def _on_router(
        self, layer: int, on_input: OnInput, _module: nn.Module, _inputs: tuple[Any, ...], output: Any
    ) -> None:
        on_input(layer, self.rows, output)

    def _on_child(self, layer: int, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        """Note where tokens attend to, if a block's child returns softmax attentions (sequences, heads, n, n).

        The argmax over the attended positions of the sum over heads; ties go to the first position. Where a block
        has two (a decoder that also attends to an encoder), the first one's: self-attention.
        """
        if self.most[layer] is not None or not isinstance(output, tuple):
            return
        count, length = self.batch.shape
        for part in output:
            if isinstance(part, torch.Tensor) and part.ndim == 4 and part.shape[2:] == (length, length):
                self.most[layer] = part.float().sum(1).argmax(-1).reshape(count * length)
                return

    def _attended(self) -> np.ndarray:
        """The places that the batch's tokens attend to, shape (tokens, L)."""
        found = [ids for ids in self.most if ids is not None]
        if len(found) != len(self.points):
            raise InputError(
                f"model: {self.kind}: its attentions cannot be read; expected attn_implementation='eager'"
            )
        return torch.stack(found, dim=1).numpy()
