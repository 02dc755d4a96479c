"""The predictor `similar-prompts`: the experts that the most similar past prompts used.

Source: Remoe (2025): activation matrices of past prompts, similarity by soft cosine of embeddings, weighted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace
from optimizer.popularity.interface import Batch, Predictor

if TYPE_CHECKING:
    from scipy import sparse

PROMPTS_AT_ONCE = 256
"""Served prompts compared with all profiled ones at a time: bounds the memory."""


class SimilarPrompts(Predictor):
    """A prompt's experts are those of the most similar profiled prompts, weighted by similarity.

    A prompt is a sequence of the trace; its activation matrix, (layers, experts), is the mean of its tokens. The
    soft cosine of prompts a and b, bags of token IDs weighted by inverse document frequency, is
    a S b / sqrt(a S a x b S b) with S the cosines of the tokens' embeddings. With embeddings of length 1 as the
    rows of V, S = V V', so it is the cosine of a V and b V. Without embeddings a token ID is similar to itself
    only (S = 1): the cosine of the bags. A prompt that is like none takes the mean of the profiled tokens.

    Args:
        neighbours: profiled prompts that a prompt is predicted from, at most.
        embeddings: of each token ID, shape (vocabulary, dimensions), such as the model's own; None: see above.
    """

    def __init__(self, neighbours: int = 16, embeddings: np.ndarray | None = None) -> None:
        if neighbours < 1:
            raise InputError(f"neighbours: expected at least 1 prompt, got {neighbours}")
        self.neighbours = neighbours
        self._vectors = None if embeddings is None else _unit_rows(np.asarray(embeddings, float))

    def learn(self, trace: RoutingTrace) -> None:
        prompts, row = np.unique(trace.sequence, return_inverse=True)
        tokens = np.bincount(row)
        cells = trace.layers * trace.num_experts
        layer = np.arange(trace.layers)[:, None] * trace.num_experts
        at = (row[:, None, None] * cells + layer + trace.experts).ravel()
        activation = np.bincount(at, minlength=len(prompts) * cells).reshape(-1, cells)
        self._activation = activation / tokens[:, None]
        self._mean = activation.sum(axis=0) / trace.tokens
        self._ids = self._vocabulary(trace)
        bags = self._bags(row, trace.token_id, len(prompts))
        self._rarity = np.log((1 + len(prompts)) / (1 + (bags > 0).sum(axis=0)))
        profiled: Any = self._embedded(bags).T
        self._profiled = profiled if isinstance(profiled, np.ndarray) else profiled.tocsr()

    def popularity(self, batch: Batch) -> np.ndarray:
        prompts, row = np.unique(batch.sequence, return_inverse=True)
        tokens = np.bincount(row)
        served = self._embedded(self._bags(row, batch.token_id, len(prompts)))
        total = np.zeros(self._mean.shape)
        for start in range(0, len(prompts), PROMPTS_AT_ONCE):
            part = slice(start, start + PROMPTS_AT_ONCE)
            total += tokens[part] @ self._predicted(served[part])
        return total.reshape(self.shape.layers, self.shape.experts)

    def _predicted(self, served: sparse.csr_array | np.ndarray) -> np.ndarray:
        """Activation of each served prompt, shape (prompts, layers x experts)."""
        from scipy import sparse

        product = served @ self._profiled
        similarity = product if isinstance(product, np.ndarray) else product.toarray()
        count = min(self.neighbours, similarity.shape[1])
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        weight = np.maximum(np.take_along_axis(similarity, nearest, axis=1), 0.0)
        weight[weight < 1e-9] = 0.0
        total = weight.sum(axis=1)
        row = np.repeat(np.arange(len(weight)), count)
        share = sparse.csr_array(
            ((weight / np.where(total > 0, total, 1)[:, None]).ravel(), (row, nearest.ravel())), similarity.shape
        )
        return share @ self._activation + np.outer(total <= 0, self._mean)

    def _vocabulary(self, trace: RoutingTrace) -> np.ndarray:
        """Token IDs that prompts are compared by: those profiled, or all that have an embedding."""
        ids = np.unique(trace.token_id)
        if self._vectors is None:
            return ids
        if ids[0] < 0 or ids[-1] >= len(self._vectors):
            raise InputError(
                f"embeddings: expected a row for each token ID up to {ids[-1]}, got {len(self._vectors)} rows"
            )
        return np.arange(len(self._vectors))

    def _bags(self, row: np.ndarray, token_ids: np.ndarray, prompts: int) -> sparse.csr_array:
        """How often each prompt has each token ID of the vocabulary, shape (prompts, IDs)."""
        from scipy import sparse

        at = np.minimum(np.searchsorted(self._ids, token_ids), len(self._ids) - 1)
        known = self._ids[at] == token_ids
        shape = (prompts, len(self._ids))
        bags = sparse.coo_array((np.ones(known.sum()), (row[known], at[known])), shape).tocsr()
        bags.sum_duplicates()
        return bags

    def _embedded(self, bags: sparse.csr_array) -> sparse.csr_array | np.ndarray:
        """Prompts as vectors of length 1 whose products are their soft cosines."""
        from scipy import sparse

        weighted = bags @ sparse.diags_array(self._rarity)
        if self._vectors is None:
            length = np.sqrt(weighted.multiply(weighted).sum(axis=1))
            return (sparse.diags_array(1 / np.where(length > 0, length, 1)) @ weighted).tocsr()
        return _unit_rows(weighted @ self._vectors)


def _unit_rows(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)
