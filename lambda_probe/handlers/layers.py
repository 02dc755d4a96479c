"""The arithmetic of a BERT-like encoder with MoE layers, in numpy fp32: it runs in functions, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Arrays: TypeAlias = "Mapping[str, np.ndarray]"
ROWS = 128  # tokens whose activation is worked on at a time: what that needs besides fits a core's cache

# Abramowitz and Stegun, 7.1.26: erf to 1.5e-7
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_ERF_P = 0.3275911


@dataclass(frozen=True)
class Sizes:
    """What arrays alone do not say: attention heads, tokens of a sequence, experts per token, epsilon of norms."""

    heads: int
    sequence_tokens: int
    top_k: int
    epsilon: float


def gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x), exact to fp32 rounding; shape of `x`."""
    import numpy as np

    z = np.abs(x)
    z *= np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(_ERF_P) * z)
    tail = np.full_like(t, _ERF[-1])
    for factor in _ERF[-2::-1]:
        tail *= t
        tail += np.float32(factor)
    tail *= t
    z *= -z
    tail *= np.exp(z, out=z)  # erfc(|x| / sqrt 2)
    tail *= 0.5
    return x * np.where(x >= 0, 1 - tail, tail)


def norm(x: np.ndarray, arrays: Arrays, name: str, epsilon: float) -> np.ndarray:
    """Layer norm over the last axis."""
    import numpy as np

    x = x - x.mean(-1, keepdims=True)
    variance = np.square(x).mean(-1, keepdims=True)
    return x / np.sqrt(variance + np.float32(epsilon)) * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]


def linear(x: np.ndarray, arrays: Arrays, name: str) -> np.ndarray:
    """x W + b, weights as (in, out)."""
    return x @ arrays[f"{name}.weight"] + arrays[f"{name}.bias"]


def embed(tokens: np.ndarray, arrays: Arrays, sizes: Sizes) -> np.ndarray:
    """Token IDs (S, n) to hidden states (S n, hidden)."""
    hidden = arrays["words"][tokens] + arrays["positions"][: tokens.shape[1]]
    return norm(hidden, arrays, "embedding_norm", sizes.epsilon).reshape(tokens.size, -1)


def attention(hidden: np.ndarray, arrays: Arrays, sizes: Sizes) -> np.ndarray:
    """Attention block with its residual and norm, sequence by sequence: (N, hidden) in and out."""
    import numpy as np

    out, n, width = np.empty_like(hidden), sizes.sequence_tokens, hidden.shape[1]
    head = width // sizes.heads
    for first in range(0, len(hidden), n):
        x = hidden[first : first + n]
        query, key, value = np.split(linear(x, arrays, "attention_in"), 3, axis=1)
        query, key, value = (y.reshape(-1, sizes.heads, head).swapaxes(0, 1) for y in (query, key, value))
        scores = query @ key.swapaxes(1, 2)
        scores *= np.float32(head**-0.5)
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        mixed = (scores @ value).swapaxes(0, 1).reshape(-1, width)
        out[first : first + n] = norm(
            linear(mixed, arrays, "attention_out") + x, arrays, "attention_norm", sizes.epsilon
        )
    return out


def gate(hidden: np.ndarray, arrays: Arrays, sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Chosen experts, best first, and their weights (softmax over the chosen): two of shape (N, k)."""
    import numpy as np

    logits = hidden @ arrays["gate.weight"] + arrays["gate.bias"]
    experts = np.argsort(-logits, axis=1, kind="stable")[:, : sizes.top_k]
    best = np.take_along_axis(logits, experts, axis=1)
    weights = np.exp(best - best[:, :1])
    return experts, weights / weights.sum(-1, keepdims=True)


def expert(rows: np.ndarray, arrays: Arrays) -> np.ndarray:
    """What an expert makes of its tokens.

    A row has the hidden state, the gate's weight w and r: 1 where it is the token's first choice, which also
    carries the residual, else 0. Result: w E(x) + r x.

    Args:
        rows: shape (tokens, hidden + 2).

    Returns:
        Shape (tokens, hidden).
    """
    import numpy as np

    x = np.ascontiguousarray(rows[:, :-2])
    activation = np.empty((len(x), len(arrays["expert_in.bias"])), np.float32)
    for first in range(0, len(x), ROWS):
        part = slice(first, first + ROWS)
        activation[part] = gelu(linear(x[part], arrays, "expert_in"))
    out = linear(activation, arrays, "expert_out")
    out *= rows[:, -2:-1]
    out += x * rows[:, -1:]
    return out
