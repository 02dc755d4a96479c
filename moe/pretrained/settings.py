"""What a recording is made of: model, text, gate, experts. Imports nothing heavy."""

from collections.abc import Callable
from typing import Literal

from pydantic import Field, model_validator

from moe.files import FileModel
from moe.text.corpora import GATE_TEXT

GateKind = Literal["random", "standardised", "trained", "own"]
ExpertCopies = Literal["copies", "perturbed"]
Progress = Callable[[int, int, float], None]
"""Called with tokens done, tokens in all, tokens/s so far."""


class GateSettings(FileModel):
    """A gate of every MoE layer.

    `random`: a random linear layer on the hidden states, skewed; `standardised`: the same on hidden states
    that are standardised per dimension, balanced; `trained`: fitted to find the neurons that carry an MLP's output
    (`moe.pretrained.trained`). `own`: those of a model that is a Mixture-of-Experts already; `experts` and `top_k`
    must be its own.
    """

    gate: GateKind = "random"
    gate_seed: int = Field(0, ge=0, description="of the gates' random weights; of the command: --seed")
    experts: int = Field(4, ge=1, le=32767)
    top_k: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _top_k(self) -> "GateSettings":
        if self.top_k > self.experts:
            raise ValueError(f"top_k: expected at most experts = {self.experts}, got {self.top_k}")
        return self


class RecordingSettings(GateSettings):
    """One routing trace to record."""

    model: str = Field(
        "minilm",
        description="minilm, smollm2, a folder with a transformers model, or a name on the model hub; an encoder "
        "and a decoder as minilm+smollm2",
    )
    corpus: str = Field("wikipedia", description="a name that `moe.text.corpora.load_corpus` knows")
    tokens: int = Field(10_240, ge=1, description="in the trace, special tokens included")
    at_most: bool = Field(False, description="a corpus that is too short gives a shorter trace, not an error")
    sequence_tokens: int = Field(128, ge=2, description="of a sequence, special tokens included")
    seed: int = Field(0, ge=0, description="of the order of the corpus's documents")
    expert_copies: ExpertCopies = Field(
        "copies", description="of the dense MLP: as it is, which leaves the model's output as it is, or perturbed"
    )
    noise: float = Field(
        0.1, gt=0, description="of perturbed experts: standard deviation, relative to that of each weight tensor"
    )
    gate_corpus: str | None = Field(
        None,
        description="text that a standardised gate (null: wikipedia) or a trained one (null: other pages of "
        "Wikipedia) learns from, the same for all corpora",
    )
    batch_sequences: int = Field(
        16, ge=1, description="of a forward pass; it changes rounding, hence the recording"
    )

    @model_validator(mode="after")
    def _apart(self) -> "RecordingSettings":
        if self.gate == "trained" and self.gate_text == self.corpus:
            raise ValueError(
                f"gate_corpus: expected another text than is served with gate: trained, got {self.corpus}"
            )
        return self

    @property
    def gate_text(self) -> str | None:
        """The corpus that the gate learns from; None for a gate that learns nothing."""
        of_kind = {"standardised": "wikipedia", "trained": GATE_TEXT}.get(self.gate)
        return (self.gate_corpus or of_kind) if of_kind else None

    @property
    def gate_settings(self) -> GateSettings:
        """The gate alone."""
        return GateSettings(gate=self.gate, gate_seed=self.gate_seed, experts=self.experts, top_k=self.top_k)
