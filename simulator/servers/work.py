"""What a request asks of any machine: arithmetic, weights that are read, keys and values that are kept.

A forward pass over n tokens uses each layer's attention, its gate and, of E experts, those that some token chose:
E (1 - (1 - k/E)^n) of them on average, with k for a token. Sizes and precision are those of `moe.spec`; keys and
values have two bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe.spec import MoESpec

KV_BYTES = 2


@dataclass(frozen=True)
class Work:
    """A model at the precision of its weights."""

    spec: MoESpec

    @cached_property
    def parameter_bytes(self) -> float:
        """All weights."""
        return self.spec.parameters * self.spec.bytes_per_parameter

    @cached_property
    def expert_bytes(self) -> float:
        """Weights of all experts."""
        return self.spec.moe_layers * self.spec.experts * self.spec.expert_parameter_bytes

    @cached_property
    def shared_bytes(self) -> float:
        """Weights that every forward pass reads: all but experts, and an embedding that is only looked up."""
        spec = self.spec
        looked_up = 0 if spec.tied_head and spec.tail_flops else spec.embedding_parameters
        return self.parameter_bytes - self.expert_bytes - looked_up * spec.bytes_per_parameter

    @cached_property
    def kv_bytes_per_token(self) -> float:
        """Keys and values that a generated sequence keeps of a token."""
        spec = self.spec
        return float((spec.moe_layers + spec.dense_layers) * spec.kept_width * KV_BYTES)

    def bytes_read(self, tokens: float | np.ndarray) -> float | np.ndarray:
        """Weights that a forward pass over so many tokens reads."""
        unused = (1 - self.spec.top_k / self.spec.experts) ** np.maximum(tokens, 0)
        return self.shared_bytes + self.expert_bytes * (1 - unused)

    @cached_property
    def _flops(self) -> tuple[float, float, float]:
        """FLOPs of a token in all layers, what each token of its context adds in scores, and of its logits."""
        spec = self.spec
        scores = (spec.attention_flops - 2 * spec.block_attention_parameters) / spec.sequence_tokens
        scores *= spec.moe_layers + spec.dense_layers
        layers = spec.moe_layers * (spec.non_moe_flops + spec.top_k * spec.expert_flops) + spec.dense_flops
        return layers - scores * spec.sequence_tokens, scores, 2.0 * spec.hidden * spec.head_vocabulary

    def pass_flops(self, tokens: float | np.ndarray) -> float | np.ndarray:
        """FLOPs of a whole sequence: attention over itself, experts, and the head where the task has it.

        A model that generates needs the logits of the last token only.
        """
        layers, scores, head = self._flops
        logits = 1.0 if self.spec.generates else self.spec.head_share * tokens
        return tokens * (layers + scores * tokens) + head * logits

    def step_flops(self, context: float | np.ndarray) -> float | np.ndarray:
        """FLOPs of one generated token after `context` others."""
        layers, scores, head = self._flops
        return layers + scores * context + head
