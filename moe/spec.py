"""What a Mixture-of-Experts model is for the platform: layers, experts, bytes and FLOPs per token."""

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel, read_model, validated

Weights: TypeAlias = Literal["fp32", "bf16", "int8", "int4"]

BYTES_PER_PARAMETER: dict[Weights, float] = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.56}
"""int4 with its scales. Activations and hidden states keep their own width."""


class MoESpec(FileModel):
    """Sizes of one MoE model.

    A block is attention, a gate and an MoE layer of `experts` MLPs, of which each token uses `top_k`; shared
    experts, which every token uses, belong to the attention's function. `dense_layers` come before the first
    block, with an MLP in place of gate and experts. FLOPs count a multiply-add as two. Biases and norms are left
    out (under 0.2% of the parameters).

    `bytes_per_value`: of activations, and of parameters unless `weights` says otherwise. `heads`: of queries;
    None: of 64 values each. `key_value_heads`: None: as many. `head_width`: None: hidden / heads.
    `attention_parameters`: of a block, where keys and values go through a latent state; None: what the heads say.
    `shared_ffn`, `dense_ffn`: widths of all shared experts of a block together, and of a dense layer.
    `tied_head`: whether the language-model head shares the embedding's weights. `latent_width`: of what is kept of
    a token's keys and values in a layer, both together, where that is one latent state.
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
    weights: Weights | None = None
    heads: int | None = Field(None, ge=1)
    key_value_heads: int | None = Field(None, ge=1)
    head_width: int | None = Field(None, ge=1)
    attention_parameters: int | None = Field(None, ge=1)
    shared_ffn: int = Field(0, ge=0)
    dense_layers: int = Field(0, ge=0)
    dense_ffn: int = Field(0, ge=0)
    tied_head: bool = True
    context_tokens: int | None = Field(None, ge=1, description="most tokens of a sequence; null: no limit known")
    latent_width: int | None = Field(None, ge=1)
    generates: bool = Field(False, description="whether it writes token after token (a decoder)")

    @model_validator(mode="after")
    def _top_k(self) -> "MoESpec":
        if self.top_k > self.experts:
            raise ValueError(f"top_k: expected at most experts = {self.experts}, got {self.top_k}")
        return self

    @property
    def precision(self) -> Weights:
        """Of the weights."""
        return self.weights or ("fp32" if self.bytes_per_value == 4 else "bf16")

    @property
    def bytes_per_parameter(self) -> float:
        """Of the weights, at their precision."""
        return BYTES_PER_PARAMETER[self.precision]

    @property
    def token_bytes(self) -> int:
        """D_in = D_o: one token's hidden state, bytes."""
        return self.hidden * self.bytes_per_value

    # Parameters

    @property
    def expert_parameters(self) -> int:
        """Of one expert."""
        return self.matrices * self.hidden * self.expert_ffn

    @property
    def block_attention_parameters(self) -> int:
        """Of one attention block: queries and results of `heads`, keys and values of `key_value_heads`."""
        if self.attention_parameters is not None:
            return self.attention_parameters
        if self.heads is None:
            return 4 * self.hidden**2
        return 2 * self.hidden * (self.heads + (self.key_value_heads or self.heads)) * self._head_width

    @property
    def non_moe_parameters(self) -> int:
        """Of one block without its experts: attention, gate, shared experts."""
        shared = self.matrices * self.hidden * self.shared_ffn
        return self.block_attention_parameters + self.hidden * self.experts + shared

    @property
    def dense_parameters(self) -> int:
        """Of all layers before the first block."""
        each = self.block_attention_parameters + self.matrices * self.hidden * self.dense_ffn
        return self.dense_layers * each

    @property
    def embedding_parameters(self) -> int:
        """Of the token embedding."""
        return self.vocabulary * self.hidden

    @property
    def own_head_parameters(self) -> int:
        """Of a language-model head with weights of its own; 0 where it has the embedding's, or there is none."""
        return 0 if self.tied_head else self.head_vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        blocks = self.moe_layers * (self.non_moe_parameters + self.experts * self.expert_parameters)
        return self.dense_parameters + blocks + self.embedding_parameters + self.own_head_parameters

    @property
    def active_parameters(self) -> int:
        """Of the whole model, without the experts that a token does not use."""
        return self.parameters - self.moe_layers * (self.experts - self.top_k) * self.expert_parameters

    # Bytes

    @property
    def expert_parameter_bytes(self) -> float:
        """P: weights of one expert, bytes."""
        return self.expert_parameters * self.bytes_per_parameter

    @property
    def expert_activation_bytes(self) -> int:
        """m: hidden activations of one token inside an expert, bytes."""
        return (self.matrices - 1) * self.expert_ffn * self.bytes_per_value

    @property
    def non_moe_parameter_bytes(self) -> float:
        """Weights of one attention block, its gate and its shared experts, bytes."""
        return self.non_moe_parameters * self.bytes_per_parameter

    @property
    def first_parameter_bytes(self) -> float:
        """Weights of the embedding and of the dense layers after it, bytes."""
        return (self.embedding_parameters + self.dense_parameters) * self.bytes_per_parameter

    @property
    def tail_parameter_bytes(self) -> float:
        """Weights that the language-model head needs, bytes."""
        return self.head_vocabulary * self.hidden * self.bytes_per_parameter if self.tail_flops else 0.0

    # FLOPs

    @property
    def expert_flops(self) -> int:
        """FLOPs of one token in one expert."""
        return 2 * self.expert_parameters

    @property
    def attention_flops(self) -> int:
        """FLOPs of one token in one attention block: projections, and scores over a sequence."""
        width = self.hidden if self.heads is None else self.heads * self._head_width
        return 2 * self.block_attention_parameters + 4 * width * self.sequence_tokens

    @property
    def non_moe_flops(self) -> int:
        """FLOPs of one token in one attention block, its gate and its shared experts."""
        shared = 2 * self.matrices * self.hidden * self.shared_ffn
        return self.attention_flops + 2 * self.hidden * self.experts + shared

    @property
    def dense_flops(self) -> int:
        """FLOPs of one token in all layers before the first block."""
        return self.dense_layers * (self.attention_flops + 2 * self.matrices * self.hidden * self.dense_ffn)

    @property
    def tail_flops(self) -> float:
        """FLOPs of one token in the language-model head, on average over the tokens of a batch."""
        return 2 * self.hidden * self.head_vocabulary * self.head_share

    @property
    def kept_width(self) -> int:
        """Values of a token's keys and values in a layer, which generation keeps."""
        own = 2 * (self.key_value_heads or self.query_heads) * self._head_width
        return self.latent_width or (own if self.heads else 2 * self.hidden)

    @property
    def query_heads(self) -> int:
        """Heads of the attention, each of which has scores of its own."""
        return self.heads or max(1, self.hidden // 64)

    @property
    def _head_width(self) -> int:
        return self.head_width or self.hidden // self.query_heads


def preset_names() -> list[str]:
    """Names of the presets that the package ships."""
    return sorted(p.name.removesuffix(".yaml") for p in _presets().iterdir() if p.name.endswith(".yaml"))


def load_spec(name_or_path: str | Path, **changes: object) -> MoESpec:
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
