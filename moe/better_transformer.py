"""What BetterTransformer gains on this machine: torch's fused attention and encoder fast path against eager code.

By layer type: `attention` (an attention block with its projections: `scaled_dot_product_attention`), `encoder` (a
whole encoder layer: `nn.TransformerEncoderLayer`'s fast path). An expert MLP alone is two matrix products and an
activation, which neither touches: 1.0 by definition. Sequences are full, so the gain from padding is not in it.

    python -m moe.better_transformer
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Speedup:
    """One layer type, measured.

    Attributes:
        layer: `attention` or `encoder`.
        eager_s, fast_s: median times of one forward pass, s.
        factor: median over the pairs of eager time / fast time.
        largest_difference: between the two outputs, absolute.
    """

    layer: str
    eager_s: float
    fast_s: float
    factor: float
    largest_difference: float


def measure(
    hidden: int = 768, heads: int = 12, sequence: int = 128, sequences: int = 8, repeats: int = 30, seed: int = 0
) -> list[Speedup]:
    """The gain of each layer type on one thread, eager and fast passes in turn.

    Args:
        hidden, heads: of the layer (defaults: BERT-base); its MLP is 4 x hidden wide.
        sequence: tokens of a sequence. sequences: in a batch.
        repeats: pairs of passes that are timed, after three that are not.
        seed: of the weights and inputs.
    """
    torch.manual_seed(seed)
    x = torch.randn(sequences, sequence, hidden)
    layer = nn.TransformerEncoderLayer(hidden, heads, 4 * hidden, activation=F.gelu, batch_first=True).eval()
    passes: dict[str, tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]] = {
        "attention": (lambda: _attention(layer, x, fused=False), lambda: _attention(layer, x, fused=True)),
        "encoder": (lambda: _encoder(layer, x), lambda: layer(x)),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return [_compare(name, *pair, repeats) for name, pair in passes.items()]
    finally:
        torch.set_num_threads(threads)


def _compare(
    name: str, eager: Callable[[], torch.Tensor], fast: Callable[[], torch.Tensor], repeats: int
) -> Speedup:
    difference = max(float((eager() - fast()).abs().max()) for _ in range(3))
    times = [(_seconds(eager), _seconds(fast)) for _ in range(repeats)]
    return Speedup(
        layer=name,
        eager_s=median(slow for slow, _ in times),
        fast_s=median(quick for _, quick in times),
        factor=median(slow / quick for slow, quick in times),
        largest_difference=difference,
    )


def _seconds(run: Callable[[], torch.Tensor]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _attention(layer: nn.TransformerEncoderLayer, x: torch.Tensor, fused: bool) -> torch.Tensor:
    """Self-attention with its projections; fused, or step by step as eager implementations do."""
    mha = layer.self_attn
    heads, hidden = mha.num_heads, mha.embed_dim
    projected = F.linear(x, mha.in_proj_weight, mha.in_proj_bias).chunk(3, dim=-1)
    query, key, value = (part.unflatten(-1, (heads, hidden // heads)).transpose(1, 2) for part in projected)
    if fused:
        mixed = F.scaled_dot_product_attention(query, key, value)
    else:
        scores = query @ key.transpose(-2, -1) / (hidden // heads) ** 0.5
        mixed = torch.softmax(scores, dim=-1) @ value
    return mha.out_proj(mixed.transpose(1, 2).flatten(2))


def _encoder(layer: nn.TransformerEncoderLayer, x: torch.Tensor) -> torch.Tensor:
    """The whole encoder layer, eager."""
    x = layer.norm1(x + _attention(layer, x, fused=False))
    return layer.norm2(x + layer.linear2(F.gelu(layer.linear1(x))))


if __name__ == "__main__":
    for found in measure():
        print(f"{found.layer}: x {found.factor:.3f} ({found.eager_s * 1e3:.2f} -> {found.fast_s * 1e3:.2f} ms)")
