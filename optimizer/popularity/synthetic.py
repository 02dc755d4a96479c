"""Routing traces out of nothing but numbers, to test and to time predictors with."""

import numpy as np

from moe.routing.synthetic import zipf_shares
from moe.trace import RoutingTrace


def synthetic_trace(
    seed: int,
    tokens: int,
    *,
    layers: int = 12,
    experts: int = 4,
    top_k: int = 1,
    vocabulary: int = 30_000,
    sequence_tokens: int = 128,
    determined: float = 0.7,
) -> RoutingTrace:
    """A trace whose token IDs are Zipf's (the n-th most frequent has a share like 1/n), in sequences.

    In each layer a token ID has experts of its own, drawn uniformly with seed 0; a gate takes those with
    probability `determined`, else others at random. The attention ID is the first token's of the sequence for
    half of the tokens, else that of any token of the sequence.

    Args:
        seed: of text and noise; the experts of a token ID are the same whatever the seed.
    """
    rng = np.random.default_rng(seed)
    token_id = rng.choice(vocabulary, tokens, p=zipf_shares(vocabulary, 1.0)).astype(np.int32)
    index = np.arange(tokens)
    start = index - index % sequence_tokens
    length = np.minimum(sequence_tokens, tokens - start)
    first_experts = np.random.default_rng(0).integers(0, experts, (vocabulary, layers), np.int16)
    chosen = np.empty((tokens, layers, top_k), np.int16)
    attention_id = np.empty((tokens, layers), np.int32)
    for e in range(layers):
        noise = rng.integers(0, experts, tokens, np.int16)
        best = np.where(rng.random(tokens) < determined, first_experts[token_id, e], noise)
        chosen[:, e] = (best[:, None] + np.arange(top_k)) % experts
        other = start + (rng.random(tokens) * length).astype(np.int64)
        attention_id[:, e] = token_id[np.where(rng.random(tokens) < 0.5, start, other)]
    return RoutingTrace(
        sequence=(index // sequence_tokens).astype(np.int32),
        token_id=token_id,
        position_id=(index % sequence_tokens).astype(np.int32),
        attention_id=attention_id,
        experts=chosen,
        weights=np.full((tokens, layers, top_k), 1 / top_k, np.float32),
        num_experts=experts,
        origin={"model": "synthetic", "vocabulary": vocabulary},
    )
