"""What a Mixture-of-Experts model is for the platform: layers, experts, bytes and FLOPs per token."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel, read_model, validated


class MoESpec(FileModel):
    """Sizes of one MoE model.

    A block is attention, a gate and an MoE layer of `experts` MLPs, of which each token uses `top_k`.
    FLOPs count a multiply-add as two. Biases and norms are left out (under 0.2% of the parameters).
    """

    schema_: Literal["moe-spec/1"] = Field("moe-spec/1", alias="schema")
    name: str
    source: str
    moe_layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    experts: int = Field(ge=1)
    top_k: int = Field(1, ge=1)
    expert_ffn: int = Field(ge=1)
    matrices: Literal[2, 3] = 2
    bytes_per_value: Literal[2, 4] = 4
    vocabulary: int = Field(ge=1)
    head_vocabulary: int = Field(0, ge=0, description="logits of a token in the language-model head; 0: no head")
    head_share: float = Field(1.0, ge=0, le=1, description="share of the tokens whose logits are computed")
    sequence_tokens: int = Field(128, ge=1)
    context_tokens: int | None = Field(None, ge=1, description="most tokens of a sequence; null: no limit known")
    kv_width: int | None = Field(None, ge=1, description="of the keys of a token in a layer; null: hidden")
    generates: bool = Field(False, description="whether it writes token after token (a decoder)")

    @model_validator(mode="after")
    def _top_k(self) -> "MoESpec":
        if self.top_k > self.experts:
            raise ValueError(f"top_k: expected at most experts = {self.experts}, got {self.top_k}")
        return self

    @property
    def token_bytes(self) -> int:
        """D_in = D_o: one token's hidden state, bytes."""
        return self.hidden * self.bytes_per_value

    @property
    def expert_parameter_bytes(self) -> int:
        """P: weights of one expert, bytes."""
        return self.matrices * self.hidden * self.expert_ffn * self.bytes_per_value

    @property
    def expert_activation_bytes(self) -> int:
        """m: hidden activations of one token inside an expert, bytes."""
        return (self.matrices - 1) * self.expert_ffn * self.bytes_per_value

    @property
    def expert_flops(self) -> int:
        """FLOPs of one token in one expert."""
        return 2 * self.matrices * self.hidden * self.expert_ffn

    @property
    def non_moe_parameter_bytes(self) -> int:
        """Weights of one attention block and its gate, bytes."""
        return (4 * self.hidden**2 + self.hidden * self.experts) * self.bytes_per_value

    @property
    def non_moe_flops(self) -> int:
        """FLOPs of one token in one attention block (projections, scores over a sequence) and its gate."""
        attention = 8 * self.hidden**2 + 4 * self.hidden * self.sequence_tokens
        return attention + 2 * self.hidden * self.experts

    @property
    def embedding_bytes(self) -> int:
        """Weights of the token embedding (the language-model head shares them), bytes."""
        return self.vocabulary * self.hidden * self.bytes_per_value

    @property
    def tail_flops(self) -> float:
        """FLOPs of one token in the language-model head, on average over the tokens of a batch."""
        return 2 * self.hidden * self.head_vocabulary * self.head_share


def preset_names() -> list[str]:
    """Names of the presets that the package ships."""
    return sorted(p.name.removesuffix(".yaml") for p in _presets().iterdir() if p.name.endswith(".yaml"))


def load_spec(name_or_path: str | Path, **changes: int) -> MoESpec:
    """A preset by name, or a YAML or JSON file, with some fields changed.

    Raises InputError for an unknown preset (with the nearest name) and for values that do not fit.

    >>> import serverless_moe as smoe
    >>> spec = smoe.load_spec("bert-moe", experts=8)
    >>> spec.moe_layers, spec.experts, spec.top_k
    (12, 8, 1)
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml", ".json"):
        if str(name_or_path) not in preset_names():
            raise InputError(
                f"model: no preset {shortened(str(name_or_path))}{nearest(str(name_or_path), preset_names())}"
            )
        path = Path(str(_presets() / f"{name_or_path}.yaml"))
    spec = read_model(MoESpec, path)
    return validated(MoESpec, spec.model_dump(by_alias=True) | changes, f"model {name_or_path}")


def _presets() -> Traversable:
    return resources.files("moe") / "presets"
