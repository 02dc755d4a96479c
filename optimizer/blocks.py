"""What stages of whole blocks may be, made of a model's sizes and a platform profile
(`simulator.stages.Blocks`)."""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from moe.errors import InputError, nearest, shortened
from moe.spec import BYTES_PER_PARAMETER, MoESpec
from simulator.plan import MB, DeploymentProblem
from simulator.profiles.closed_form import (
    expert_seconds,
    storage_bandwidth,
    transformer_flops_per_s,
    weight_read_s,
)
from simulator.profiles.schema import PlatformProfile
from simulator.stage_rules import largest_lane_tokens, needed_lane_bytes, stage_sizes
from simulator.staged_plan import blocks_of
from simulator.stages import BlockLayer, Blocks

ShapeName: TypeAlias = Literal["expert-functions", "blocks", "whole-model", "grouped"]
SHAPES: tuple[ShapeName, ...] = ("expert-functions", "blocks", "whole-model")
"""How a model may be cut: a function for each expert, for consecutive blocks, or for all of them."""
BLOCKS: tuple[ShapeName, ...] = ("blocks", "whole-model")
NAMED: tuple[ShapeName, ...] = (*SHAPES, "grouped")
"""These, and a function for several experts of a layer, which is searched for where it is named only."""

BLOCK_MEMORY_MB = (512, 1024, 1769, 2048, 3008, 4096, 5120, 6144, 7168, 8192, 9216, 10240)
TOKEN_ID_BYTES = 4.0


def shape_names(text: str, key: str) -> tuple[ShapeName, ...]:
    """Shapes in a list such as `blocks,whole-model`, or `all`, or `all,grouped`.

    Raises InputError, which names the key.
    """
    found = [name for each in text.split(",") for name in (SHAPES if each == "all" else (each,))]
    for name in found:
        if name not in NAMED:
            raise InputError(f"{key}: no shape {shortened(name)}{nearest(name, [*NAMED, 'all'])}")
    return tuple(shape for shape in NAMED if shape in found)


def make_blocks(
    spec: MoESpec,
    popularity: np.ndarray,
    profile: PlatformProfile,
    batch_tokens: float,
    *,
    memory_mb: Sequence[int] = BLOCK_MEMORY_MB,
    max_lanes: int = 64,
) -> Blocks:
    """The blocks of a model, as functions of which each holds one or several.

    A token is worked on by attention, gate, shared experts and `top_k` experts. A call reads all weights of its
    block once, of experts those that tokens of the batch go to: a lane may meet fewer. Weights that only one end
    of the model needs are in that end's block: dense layers before the first block and an embedding that no head
    shares in the first, a head with weights of its own in the last.

    Args:
        spec: the model's sizes, at the precision of its weights.
        popularity: d[e, i], tokens routed to each expert in a batch, shape (layers, experts).
        profile: the platform.
        batch_tokens: tokens of a batch, in sequences of `spec.sequence_tokens`.
        memory_mb, max_lanes: what a stage may choose from.
    """
    reached = (np.asarray(popularity, float) > 0).sum(axis=1)
    first, last = _ends(spec)
    parameters = spec.non_moe_parameters + spec.experts * spec.expert_parameters
    read = spec.non_moe_parameters + reached * spec.expert_parameters
    held = np.full(spec.moe_layers, parameters)
    held[0] += first
    held[-1] += last
    read[0] += spec.dense_parameters
    read[-1] += spec.head_vocabulary * spec.hidden if spec.tail_flops else 0
    per_byte_s = weight_read_s(profile, memory_mb, 1.0)
    _, experts_s = expert_seconds(profile, memory_mb, 0.0, spec.top_k * spec.expert_flops, spec.precision)
    rate = transformer_flops_per_s(profile, memory_mb, spec.precision)
    token_s = np.tile(experts_s + spec.non_moe_flops / rate, (spec.moe_layers, 1))
    token_s[0] += spec.dense_flops / rate
    return Blocks(
        memory_mb=tuple(memory_mb),
        max_lanes=max_lanes,
        sequences=math.ceil(batch_tokens / spec.sequence_tokens),
        weights=spec.precision,
        runtime_bytes=profile.compute.runtime_bytes.median,
        input_bytes_per_token=TOKEN_ID_BYTES,
        result_bytes_per_token=TOKEN_ID_BYTES if spec.tail_flops else spec.token_bytes / spec.sequence_tokens,
        head_bytes=spec.embedding_parameters * spec.bytes_per_parameter if _shares_head(spec) else 0.0,
        tail_seconds_per_token=tuple((spec.tail_flops / rate).tolist()) if spec.tail_flops else None,
        storage_bandwidth_bytes_per_s=tuple(storage_bandwidth(profile, np.asarray(memory_mb, float)).tolist()),
        layers=tuple(
            BlockLayer(
                parameter_bytes=float(held[e] * spec.bytes_per_parameter),
                bytes_per_token=_held_per_token(spec),
                seconds_per_token=tuple(token_s[e].tolist()),
                seconds_per_call=tuple((read[e] * spec.bytes_per_parameter * per_byte_s).tolist()),
                expert_share=float(reached[e] * spec.expert_parameters / read[e]),
            )
            for e in range(spec.moe_layers)
        ),
    )


def _shares_head(spec: MoESpec) -> bool:
    """Whether a language-model head needs the embedding's weights."""
    return spec.tied_head and spec.tail_flops > 0


def _ends(spec: MoESpec) -> tuple[int, int]:
    """Parameters that the first block's function has besides, and the last one's."""
    embedding = 0 if _shares_head(spec) else spec.embedding_parameters
    return spec.dense_parameters + embedding, spec.own_head_parameters


def _held_per_token(spec: MoESpec) -> float:
    """What a block holds of each token beside its hidden state, bytes: the larger of attention and experts.

    Attention of all sequences of a call is computed at once: of a token its queries, keys, values and results,
    and of each head its scores over its sequence. Experts are computed one after the other, so that a token is in
    one of them: its hidden state again, what is inside of the widest MLP, and its result.
    """
    width = spec.hidden if spec.heads is None else spec.heads * (spec.head_width or spec.hidden // spec.heads)
    keys = width * (spec.key_value_heads or spec.query_heads) / spec.query_heads
    attention = 2 * width + 2 * keys + spec.query_heads * spec.sequence_tokens
    widest = max(spec.expert_ffn, spec.shared_ffn, spec.dense_ffn)
    experts = 2 * spec.hidden + (spec.matrices - 1) * widest
    return max(attention, experts) * spec.bytes_per_value


def remade_blocks(problem: DeploymentProblem, made_of: PlatformProfile, profile: PlatformProfile) -> Blocks:
    """The blocks of a problem as `make_blocks` would have made them of another profile."""
    blocks = blocks_of(problem)
    memory, weights = np.array(blocks.memory_mb, float), blocks.weights
    (read_0, expert_0), (read_1, expert_1) = (
        expert_seconds(each, blocks.memory_mb, 1.0, 1.0, weights) for each in (made_of, profile)
    )
    rate_0, rate_1 = (transformer_flops_per_s(each, blocks.memory_mb, weights) for each in (made_of, profile))
    one_0 = expert_seconds(made_of, problem.platform.memory_mb[:1], 1.0, 1.0, weights)[1][0]

    def layer(e: int) -> BlockLayer:
        each = blocks.layers[e]
        flops = problem.top_k * problem.layers[e].seconds_per_token[0] / one_0  # of a token's experts
        rest_s = np.array(each.seconds_per_token) - flops * expert_0
        token_s = flops * expert_1 + rest_s * rate_0 / rate_1
        call_s = None if each.seconds_per_call is None else np.array(each.seconds_per_call) * read_1 / read_0
        return each.model_copy(
            update={
                "seconds_per_token": tuple(token_s.tolist()),
                "seconds_per_call": None if call_s is None else tuple(call_s.tolist()),
            }
        )

    tail_s = blocks.tail_seconds_per_token
    if tail_s is not None:
        tail_s = tuple((np.array(tail_s) * rate_0 / rate_1).tolist())
    before, after = (each.compute.runtime_bytes.median for each in (made_of, profile))
    return blocks.model_copy(
        update={
            "runtime_bytes": blocks.runtime_bytes + after - before,
            "tail_seconds_per_token": tail_s,
            "storage_bandwidth_bytes_per_s": tuple(storage_bandwidth(profile, memory).tolist()),
            "layers": tuple(layer(e) for e in range(len(blocks.layers))),
        }
    )


def needed_mb(problem: DeploymentProblem) -> float:
    """Memory of a function that holds all blocks, with as many lanes as may be, MB."""
    return float(_needed_bytes(problem, [(0, len(problem.layers))])[0][0]) / MB


def _needed_bytes(problem: DeploymentProblem, pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Of functions with the layers of each pair, first and end: memory with as many lanes as may be, and
    parameters, bytes, both of shape (pairs,)."""
    blocks = blocks_of(problem)
    sizes = stage_sizes(problem, *np.array(pairs).T)
    most = np.array([min(blocks.max_lanes, blocks.sequences)])
    tokens = np.broadcast_to(largest_lane_tokens(problem, most), len(pairs))
    return needed_lane_bytes(problem, sizes, tokens), sizes.parameter_bytes


def check_fits(
    problem: DeploymentProblem, shape: ShapeName, pairs: Sequence[tuple[int, int]] | None = None
) -> None:
    """Raise InputError where a function of the shape has no memory size that holds it, whatever its lanes: says
    the smallest that would, and which precisions fit.

    Args:
        problem: with `blocks`. shape: `whole-model`, or `blocks`: each block in a function of its own.
        pairs: of `blocks`, first and end of each function's layers instead.
    """
    if shape in ("expert-functions", "grouped"):
        return  # of which each solver says so itself
    blocks, layers = blocks_of(problem), len(problem.layers)
    if shape == "whole-model":
        pairs = [(0, layers)]
    pairs = pairs or [(i, i + 1) for i in range(layers)]
    needed, parameters = _needed_bytes(problem, pairs)
    k = int(needed.argmax())
    largest = blocks.memory_mb[-1] * MB
    if needed[k] <= largest:
        return
    others = {
        weights: needed[k] + parameters[k] * (size / BYTES_PER_PARAMETER[blocks.weights] - 1)
        for weights, size in BYTES_PER_PARAMETER.items()
    }
    fitting = [f"{weights} ({x / MB:,.0f} MB)" for weights, x in others.items() if x <= largest]
    first, end = pairs[k]
    what = f"block {first}" if end == first + 1 else f"blocks {first} to {end - 1}"
    raise InputError(
        f"{shape}: {problem.name} needs {needed[k] / MB:,.0f} MB for {what} in {blocks.weights}, the largest "
        f"memory is {blocks.memory_mb[-1]:,} MB; fits in {', '.join(fitting) or 'no precision'}"
    )
