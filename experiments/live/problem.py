"""What is known of a live model before anything is measured: its loads, and a deployment problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.measured.live_model import BlockFit, ModelFit
from experiments.live.settings import LiveSettings
from lambda_probe.handlers.exchange import pack
from lambda_probe.live.stages import arrays_of
from moe.pretrained.export import ExportedModel
from moe.spec import MoESpec
from optimizer.problem import make_problem
from simulator.plan import MB, DeploymentProblem, NonMoESize
from simulator.profiles.closed_form import expert_seconds, transformer_seconds
from simulator.profiles.schema import PlatformProfile
from simulator.staged_plan import BlocksStage
from simulator.stages import BlockLayer, Blocks

MAX_REPLICAS = 4
RUNTIME_BYTES = 80 * 2**20  # Python and numpy
HELD_STATES = 8


@dataclass(frozen=True)
class Load:
    """Tokens of a batch: IDs (S, n), what the undistributed model makes of them, and where its gates send them."""

    tokens: np.ndarray
    output: np.ndarray
    routing: np.ndarray


def loads_of(model: ExportedModel, sequences: np.ndarray, sizes: Sequence[int]) -> dict[int, Load]:
    """Each load's tokens, first sequences first, with the undistributed model's output and routing."""
    found = {}
    for size in sizes:
        tokens = sequences[:size]
        found[tokens.size] = Load(tokens, *model.undistributed(tokens))
    return found


def guessed_problem(
    model: ExportedModel, routing: np.ndarray, profile: PlatformProfile, settings: LiveSettings
) -> DeploymentProblem:
    """A problem with the model's real sizes, and times by the profile's FLOP/s.

    Args:
        routing: tokens of each expert in a batch, (layers, experts).
    """
    problem = make_problem(
        spec_of(model),
        routing,
        profile,
        memory_mb=settings.memory_mb,
        max_replicas=MAX_REPLICAS,
        non_moe_memory_mb=settings.non_moe_memory_mb,
    )
    constants, (token_in, token_out) = problem.platform, token_sizes(model)
    parameters = [len(pack(arrays)) for arrays in model.non_moe]

    def load_s(e: int, bandwidth: float = constants.gate_bandwidth) -> float:
        return constants.warm_start_s + constants.storage_delay_s + parameters[e] / bandwidth

    def loaded(size: NonMoESize) -> NonMoESize:
        head_s, *next_s = (load_s(e, size.storage_bandwidth_bytes_per_s) for e in range(len(parameters)))
        return size.model_copy(update={"head_s": head_s, "next_load_s": tuple(next_s)})

    layers = []
    for e, layer in enumerate(problem.layers):
        experts = tuple(
            x.model_copy(update={"parameter_bytes": float(len(pack(arrays)))})
            for x, arrays in zip(layer.experts, model.experts[e], strict=True)
        )
        sizes = {"token_in_bytes": token_in, "token_out_bytes": token_out}
        layers.append(layer.model_copy(update={"experts": experts, "next_load_s": load_s(e + 1), **sizes}))
    name = f"{model.name}-live-{int(routing[0].sum())}"
    non_moe = tuple(loaded(size) for size in problem.non_moe)
    return problem.model_copy(
        update={"name": name, "layers": tuple(layers), "head_s": load_s(0), "non_moe": non_moe}
    )


def measured_problem(problem: DeploymentProblem, fit: ModelFit, tokens: int) -> DeploymentProblem:
    """The problem of a load of so many tokens, with the measured costs of the model.

    Gate and non-MoE functions were measured at one size: at others they take more or less as experts do.
    """
    non_moe_s = fit.non_moe_s[tokens]
    measured_mb = problem.layers[0].non_moe_memory_mb or problem.platform.memory_mb[-1]
    sizes = []
    for size in problem.non_moe:
        *layers_s, tail_s = (s * (measured_mb / size.memory_mb) ** fit.share_exponent for s in non_moe_s)
        if fit.non_moe_bytes <= size.memory_mb * MB:
            sizes.append(size.model_copy(update={"non_moe_s": tuple(layers_s), "tail_s": tail_s}))
    memory = {
        "intermediate_bytes": fit.runtime_bytes,
        "intermediate_bytes_per_token": fit.bytes_per_token,
    }
    times = {"seconds_per_token": fit.seconds_per_token, "seconds_per_call": fit.seconds_per_call}
    layers = []
    for layer, before_s in zip(problem.layers, non_moe_s[:-1], strict=True):
        experts = tuple(x.model_copy(update=memory) for x in layer.experts)
        layers.append(layer.model_copy(update={**times, "non_moe_s": before_s, "experts": experts}))
    return problem.model_copy(update={"layers": tuple(layers), "tail_s": non_moe_s[-1], "non_moe": tuple(sizes)})


def guessed_blocks(model: ExportedModel, profile: PlatformProfile, settings: LiveSettings) -> tuple[BlockFit, ...]:
    """Costs of each layer's block by the profile's FLOP/s, before anything is measured."""
    spec, sizes = spec_of(model), settings.blocks_memory_mb
    call_s, expert_s = expert_seconds(
        profile, sizes, spec.experts * spec.expert_parameter_bytes, spec.top_k * spec.expert_flops
    )
    attention_s = np.array([transformer_seconds(profile, size, spec.non_moe_flops) for size in sizes])
    fit = BlockFit(tuple(call_s.tolist()), tuple((expert_s + attention_s).tolist()), 0.0)
    return (fit,) * len(model.experts)


def with_blocks(
    problem: DeploymentProblem, model: ExportedModel, fits: Sequence[BlockFit], settings: LiveSettings
) -> DeploymentProblem:
    """The problem, whose plans may also have stages of whole blocks, with their measured costs.

    A lane holds a hidden state several times over: attention's input and output, rows and results of experts.
    """
    ends = range(len(model.experts))
    stages = [BlocksStage(first_layer=e, last_layer=e, memory_mb=128, lanes=1, handover="storage") for e in ends]
    held = (HELD_STATES * model.hidden + model.expert_ffn) * 4.0
    embedding = sum(x.nbytes for name, x in model.non_moe[0].items() if name in ("words", "positions"))
    layers = [
        BlockLayer(
            parameter_bytes=len(pack(arrays_of(model, stage))) - (embedding if e == 0 else 0),
            bytes_per_token=held,
            seconds_per_token=fit.seconds_per_token,
            seconds_per_call=fit.seconds_per_call,
        )
        for e, (stage, fit) in enumerate(zip(stages, fits, strict=True))
    ]
    return problem.with_blocks(
        Blocks(
            memory_mb=settings.blocks_memory_mb,
            sequences=round(problem.served_tokens / model.sequence_tokens),
            runtime_bytes=RUNTIME_BYTES,
            result_bytes_per_token=4.0 * model.hidden,
            head_bytes=embedding,
            layers=tuple(layers),
        )
    )


def spec_of(model: ExportedModel) -> MoESpec:
    """The sizes of an exported model."""
    words, hidden = model.non_moe[0]["words"].shape
    return MoESpec(
        name=model.name,
        source="exported for live validation",
        moe_layers=len(model.experts),
        hidden=hidden,
        experts=len(model.experts[0]),
        top_k=model.top_k,
        expert_ffn=model.expert_ffn,
        vocabulary=words,
        sequence_tokens=model.sequence_tokens,
    )


def token_sizes(model: ExportedModel) -> tuple[float, float]:
    """D_in and D_o, bytes: a hidden state with the gate's weight and whether it is the first choice; a state."""
    return 4.0 * (model.hidden + 2), 4.0 * model.hidden
