"""The contract of shapes: a model cut into stages, problem/2 and plan/2 (docs/formats.md).

A stage is a run of consecutive layers. As `blocks` it is one function that holds attention, gate and all experts
of its layers; `lanes` copies of it each take whole sequences, about 1/lanes of the batch. As `expert-functions` it
is one layer of the paper: a gate's function and a function for each expert. One stage of `blocks` over all layers
is the whole model in one function.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from moe.files import FileModel
from moe.spec import Weights

Shape: TypeAlias = Literal["blocks", "expert-functions"]
Handover: TypeAlias = Literal["payload", "storage"]
Front: TypeAlias = Literal["client", "function"]


def check_sizes(memory_mb: Sequence[int], values: Mapping[str, Sequence[float] | None]) -> None:
    """Raise ValueError unless the memory sizes increase, and each named list has a value for each of them."""
    if any(a >= b for a, b in pairwise(memory_mb)):
        raise ValueError(f"memory_mb must increase, got {list(memory_mb)}")
    for key, given in values.items():
        if given is not None and len(given) != len(memory_mb):
            raise ValueError(f"{key} has {len(given)} values for {len(memory_mb)} memory_mb")


def seconds_of(layers: Iterable[Any]) -> dict[str, Sequence[float] | None]:
    """By key, what layers take with each memory size, s."""
    keys = ("seconds_per_token", "seconds_per_call")
    return {f"layers.{e}.{key}": getattr(layer, key) for e, layer in enumerate(layers) for key in keys}


class BlockLayer(FileModel):
    """One block in a function of its own or with others: attention, gate and all experts of a layer.

    `parameter_bytes` at the problem's precision; `bytes_per_token`: what the computation of a token holds beside
    its hidden state (attention's scores, activations), bytes; `seconds_per_token`, `seconds_per_call`: of each
    memory size of `Blocks.memory_mb`. `expert_share`: of `seconds_per_call`, what reading experts' weights takes:
    a decode step reads only those that its tokens use.
    """

    parameter_bytes: Annotated[float, Field(ge=0)]
    bytes_per_token: Annotated[float, Field(ge=0)] = 0.0
    seconds_per_token: tuple[Annotated[float, Field(ge=0)], ...]
    seconds_per_call: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    expert_share: Annotated[float, Field(ge=0, le=1)] = 0.0


class Blocks(FileModel):
    """What stages of whole blocks may be: memory sizes, lanes, precision, and the sizes of each block.

    `sequences`: of a batch; a lane has one at least. `front`: who invokes lanes and waits for them: the client,
    which costs nothing, or a function of the smallest size, billed for as long as the stages take.
    `runtime_bytes`: a function without parameters.
    `input_bytes_per_token`: into the first stage (token IDs); `result_bytes_per_token`: out of the last one.
    `head_bytes`: parameters of the embedding, in the first stage; the head shares them, in the last stage where
    there is one (`tail_seconds_per_token`). What only one end needs may be in its layer's `parameter_bytes`.
    `tail_seconds_per_token`: of the language-model head, of each memory size. `storage_bandwidth_bytes_per_s`: B_s
    of each memory size; null: the platform's, of the same size or the next smaller one that it lists.
    """

    memory_mb: tuple[Annotated[int, Field(ge=128, le=10240)], ...] = Field(min_length=1)
    max_lanes: int = Field(64, ge=1, le=10_000)
    sequences: int = Field(ge=1)
    weights: Weights = "fp32"
    reload: Literal["every-invocation", "when-cold"] = "when-cold"
    front: Front = "client"
    runtime_bytes: Annotated[float, Field(ge=0)]
    input_bytes_per_token: Annotated[float, Field(ge=0)] = 4.0
    result_bytes_per_token: Annotated[float, Field(ge=0)] = 4.0
    head_bytes: Annotated[float, Field(ge=0)] = 0.0
    tail_seconds_per_token: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    storage_bandwidth_bytes_per_s: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    layers: tuple[BlockLayer, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Blocks":
        own = {key: getattr(self, key) for key in ("tail_seconds_per_token", "storage_bandwidth_bytes_per_s")}
        check_sizes(self.memory_mb, own | seconds_of(self.layers))
        return self
