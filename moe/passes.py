"""Forward passes over token sequences, watched: attention IDs, MLP inputs, what the gates choose."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from moe.convert import Gate, HiddenStatistics, find_mlps, moe_layers
from moe.errors import InputError
from moe.settings import Progress
from moe.trace import RoutingTrace


def record_dense(
    model: nn.Module,
    sequences: np.ndarray,
    gates: Sequence[Sequence[Gate]],
    batch_sequences: int = 16,
    progress: Progress | None = None,
) -> list[RoutingTrace]:
    """Routing traces of several gates in one pass of the dense model: right where experts are its copies.

    Args:
        model: a dense transformer, eager attention.
        sequences: token IDs, shape (S, n).
        gates: for each trace, a gate per MLP.
        batch_sequences: sequences per forward pass.

    Raises InputError for a model without MLPs, or with attentions that cannot be read.
    """
    points = [_Point(site.block, site.parts[0].split(".")[0], site.entry(model)) for site in find_mlps(model)]
    return _record(_Pass(model, points), sequences, gates, batch_sequences, progress)


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
    points = [_Point(site.block, site.parts[0].split(".")[0], site.entry(model)) for site in find_mlps(model)]
    config: Any = model.config
    total, squares = np.zeros((2, len(points), int(config.hidden_size)))

    def on_input(layer: int, _rows: slice, hidden: torch.Tensor) -> None:
        wide = hidden.double()
        total[layer] += wide.sum(0).numpy()
        squares[layer] += wide.square().sum(0).numpy()

    _Pass(model, points).run(sequences, on_input, batch_sequences, None)
    mean = total / sequences.size
    deviation = np.sqrt(np.maximum(squares / sequences.size - mean**2, 0.0))
    return [HiddenStatistics(m, d) for m, d in zip(mean, deviation, strict=True)]


def _record(
    forward: "_Pass",
    sequences: np.ndarray,
    gates: Sequence[Sequence[Gate]],
    batch_sequences: int,
    progress: Progress | None,
) -> list[RoutingTrace]:
    shapes = [(sequences.size, len(own), own[0].top_k) for own in gates]
    experts = [np.empty(shape, dtype=np.int16) for shape in shapes]
    weights = [np.empty(shape, dtype=np.float32) for shape in shapes]

    def on_input(layer: int, rows: slice, hidden: torch.Tensor) -> None:
        for index, own in enumerate(gates):
            chosen, weight = own[layer](hidden)
            experts[index][rows, layer] = chosen.numpy()
            weights[index][rows, layer] = weight.numpy()

    attention_id = forward.run(sequences, on_input, batch_sequences, progress)
    count, length = sequences.shape
    return [
        RoutingTrace(
            sequence=np.repeat(np.arange(count, dtype=np.int32), length),
            token_id=sequences.ravel().astype(np.int32),
            position_id=np.tile(np.arange(length, dtype=np.int32), count),
            attention_id=attention_id,
            experts=experts[index],
            weights=weights[index],
            num_experts=len(own[0].weight),
        )
        for index, own in enumerate(gates)
    ]


@dataclass(frozen=True)
class _Point:
    """A layer to watch: its block's path, the block's child that is the MLP, the module that gets its input."""

    block: str
    mlp: str
    entry: nn.Module


OnInput = Callable[[int, slice, torch.Tensor], None]
"""Called with the layer, the rows of the batch's tokens, and the MLP's input, shape (tokens, hidden)."""


class _Pass:
    """A forward pass of a model over many sequences, with hooks on its MLPs and attentions."""

    def __init__(self, model: nn.Module, points: Sequence[_Point]):
        self.kind = type(model).__name__
        if getattr(model.config, "is_encoder_decoder", False):
            raise InputError(f"model: {self.kind}: expected an encoder or a decoder, not both in one model")
        self.model = model
        self.points = points
        self.options = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
        self.batch = torch.empty(0)
        self.rows = slice(0, 0)
        self.most: list[torch.Tensor | None] = []

    def run(
        self, sequences: np.ndarray, on_input: OnInput, batch_sequences: int, progress: Progress | None
    ) -> np.ndarray:
        """Run the model over all sequences (S, n); return the attention IDs, shape (S n, L) int32."""
        ids = torch.from_numpy(sequences.astype(np.int64))
        attention_id = np.empty((sequences.size, len(self.points)), dtype=np.int32)
        started = time.perf_counter()
        handles = self._add_hooks(on_input)
        try:
            for self.batch in ids.split(batch_sequences):
                self.rows = slice(self.rows.stop, self.rows.stop + self.batch.numel())
                self.most = [None] * len(self.points)
                with torch.inference_mode():
                    self.model(input_ids=self.batch, **self.options)
                attention_id[self.rows] = self._attention_ids()
                if progress:
                    done = self.rows.stop
                    progress(done, sequences.size, done / max(time.perf_counter() - started, 1e-9))
        finally:
            for handle in handles:
                handle.remove()
        return attention_id

    def _add_hooks(self, on_input: OnInput) -> list[torch.utils.hooks.RemovableHandle]:
        handles = []
        for layer, point in enumerate(self.points):
            handles.append(point.entry.register_forward_pre_hook(partial(self._on_mlp, layer, on_input)))
            for name, child in self.model.get_submodule(point.block).named_children():
                if name != point.mlp:
                    handles.append(child.register_forward_hook(partial(self._on_child, layer)))
        return handles

    def _on_mlp(self, layer: int, on_input: OnInput, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(inputs) != 1:
            raise InputError(f"model: {self.kind}: its MLPs take more than hidden states; not supported")
        on_input(layer, self.rows, inputs[0].reshape(-1, inputs[0].shape[-1]))

    def _on_child(self, layer: int, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        """Note the attention ID where a block's child returns softmax attentions (sequences, heads, n, n).

        The argmax over the attended positions of the sum over heads; ties go to the first position.
        """
        if self.most[layer] is not None or not isinstance(output, tuple):
            return
        count, length = self.batch.shape
        for part in output:
            if isinstance(part, torch.Tensor) and part.ndim == 4 and part.shape[2:] == (length, length):
                position = part.float().sum(1).argmax(-1)
                self.most[layer] = self.batch.gather(1, position).reshape(count * length)
                return

    def _attention_ids(self) -> np.ndarray:
        """Attention IDs of the batch, shape (tokens, L)."""
        found = [ids for ids in self.most if ids is not None]
        if len(found) != len(self.points):
            raise InputError(
                f"model: {self.kind}: its attentions cannot be read; expected attn_implementation='eager'"
            )
        return torch.stack(found, dim=1).numpy()
