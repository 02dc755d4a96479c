"""What a request asks of any machine: arithmetic, weights that are read, keys and values that are kept.

A forward pass over n tokens uses each layer's attention, its gate and, of E experts, those that some token chose:
E (1 - (1 - k/E)^n) of them on average, with k for a token. Sizes are those of `moe.spec`; weights of a precision
have `BYTES_PER_PARAMETER`, keys and values two bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe.spec import MoESpec
from simulator.stages import BYTES_PER_PARAMETER, Weights

KV_BYTES = 2


@dataclass(frozen=True)
class Work:
    """A model at a precision of its weights.

    Attributes:
        spec: the model. weights: their precision.
    """

    spec: MoESpec
    weights: Weights

    def _bytes(self, stored: float) -> float:
        """Bytes at the precision, of weights whose size the spec has at its own."""
        return stored / self.spec.bytes_per_value * BYTES_PER_PARAMETER[self.weights]

    @property
    def shared_bytes(self) -> float:
        """Weights that every forward pass reads: attention, gates, head."""
        spec = self.spec
        return self._bytes(spec.moe_layers * spec.non_moe_parameter_bytes + spec.embedding_bytes)

    @property
    def expert_bytes(self) -> float:
        """Weights of all experts."""
        spec = self.spec
        return self._bytes(spec.moe_layers * spec.experts * spec.expert_parameter_bytes)

    @property
    def parameter_bytes(self) -> float:
        """All weights."""
        return self.shared_bytes + self.expert_bytes

    @property
    def kv_bytes_per_token(self) -> float:
        """Keys and values that a generated sequence keeps of a token."""
        spec = self.spec
        return 2.0 * spec.moe_layers * (spec.kv_width or spec.hidden) * KV_BYTES

    def bytes_read(self, tokens: float | np.ndarray) -> float | np.ndarray:
        """Weights that a forward pass over so many tokens reads."""
        unused = (1 - self.spec.top_k / self.spec.experts) ** np.maximum(tokens, 0)
        return self.shared_bytes + self.expert_bytes * (1 - unused)

    def pass_flops(self, tokens: float | np.ndarray) -> float | np.ndarray:
        """FLOPs of a whole sequence: attention over itself, experts, and the head where the task has it.

        A model that generates needs the logits of the last token only.
        """
        spec = self.spec
        each = 8 * spec.hidden**2 + 4 * spec.hidden * tokens + 2 * spec.hidden * spec.experts
        head = 2 * spec.hidden * spec.head_vocabulary
        logits = 1.0 if spec.generates else spec.head_share * tokens
        return tokens * spec.moe_layers * (each + spec.top_k * spec.expert_flops) + head * logits

    def step_flops(self, context: float | np.ndarray) -> float | np.ndarray:
        """FLOPs of one generated token after `context` others."""
        spec = self.spec
        each = 8 * spec.hidden**2 + 4 * spec.hidden * context + 2 * spec.hidden * spec.experts
        return spec.moe_layers * (each + spec.top_k * spec.expert_flops) + 2 * spec.hidden * spec.head_vocabulary
