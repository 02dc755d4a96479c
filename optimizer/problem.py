"""Make a deployment problem of popularity, a model's sizes and a platform profile; make it again of other ones."""

from collections.abc import Sequence

import numpy as np

from moe.errors import InputError
from moe.spec import MoESpec, Weights
from optimizer.blocks import BLOCK_MEMORY_MB, ShapeName, make_blocks, remade_blocks
from simulator.plan import (
    MB,
    DeploymentProblem,
    NonMoESize,
    Objective,
    ProblemExpert,
    ProblemLayer,
    ProblemPlatform,
)
from simulator.profiles.closed_form import closed_form, expert_seconds, transformer_seconds
from simulator.profiles.schema import PlatformProfile

# The paper's 14 sizes (128, 768, 960, ... 3072 MB), and 3008 MB, the maximum that its baselines use.
PAPER_MEMORY_MB = (128, *range(768, 3009, 192), 3008, 3072)
PAPER_MAX_REPLICAS = 8


def make_problem(
    spec: MoESpec,
    popularity: np.ndarray,
    profile: PlatformProfile,
    *,
    name: str | None = None,
    memory_mb: Sequence[int] = PAPER_MEMORY_MB,
    max_replicas: int = PAPER_MAX_REPLICAS,
    non_moe_memory_mb: int = 3008,
    objective: Objective = "gb_s",
    latency_limit_s: float | None = None,
    shapes: Sequence[ShapeName] = ("expert-functions",),
    weights: Weights | None = None,
    block_memory_mb: Sequence[int] = BLOCK_MEMORY_MB,
) -> DeploymentProblem:
    """The deployment problem of one batch.

    Compute times are FLOPs over the profile's FLOP/s per vCPU; a call of an expert also reads its weights once.
    Non-MoE functions load their attention block and gate (the tail: the language-model head), fp32 as the experts.

    Args:
        spec: the model's sizes.
        popularity: d[e, i], tokens routed to each expert in a batch, shape (layers, experts).
        profile: the platform.
        memory_mb, max_replicas: what a deployment may choose from.
        non_moe_memory_mb: memory of gate and non-MoE functions.
        objective, latency_limit_s: of the optimisation.
        shapes: how the model may be cut; with any other than `expert-functions` the problem has `blocks`.
        weights: precision of the parameters, which changes their bytes, and arithmetic by the platform's factor
            (not the model's quality); None: the spec's.
        block_memory_mb: memory sizes of functions of whole blocks.

    Raises:
        InputError: popularity and model differ in layers or experts.

    >>> import serverless_moe as smoe
    >>> spec, tokens = smoe.load_spec("bert-moe"), [[5120, 2560, 1536, 1024]] * 12
    >>> smoe.make_problem(spec, tokens, smoe.load_profile(), latency_limit_s=60)
    DeploymentProblem(name=bert-moe, layers=12, experts=4, batch_tokens=10240, objective=gb_s, latency_limit_s=60)
    """
    popularity = _checked(popularity, spec.name, spec.moe_layers, spec.experts)
    batch_tokens = float(popularity.sum(axis=1).max()) / spec.top_k
    spec = spec.model_copy(update={"weights": weights or spec.weights})
    platform = problem_platform(profile, memory_mb, max_replicas)
    non_moe = _non_moe(spec, profile, platform, non_moe_memory_mb, platform.gate_bandwidth, batch_tokens)
    problem = DeploymentProblem(
        name=name or spec.name,
        objective=objective,
        platform=platform,
        layers=_layers(spec, popularity, profile, platform, non_moe),
        head_s=non_moe.head_s,
        tail_s=non_moe.tail_s,
        latency_limit_s=latency_limit_s,
        batch_tokens=batch_tokens,
        top_k=spec.top_k,
        non_moe=_non_moe_sizes(spec, profile, platform, batch_tokens),
    )
    if set(shapes) <= {"expert-functions"}:
        return problem
    return problem.with_blocks(make_blocks(spec, popularity, profile, batch_tokens, memory_mb=block_memory_mb))


def _checked(popularity: np.ndarray, name: str, layers: int, experts: int) -> np.ndarray:
    """The popularity as numbers, shape (layers, experts). Raises InputError for another shape."""
    found = np.asarray(popularity, float)
    if found.shape != (layers, experts):
        got = " x ".join(map(str, found.shape))
        raise InputError(f"{name}: expected popularity of its {layers} layers x {experts} experts, got {got}")
    return found


def _non_moe_sizes(
    spec: MoESpec, profile: PlatformProfile, platform: ProblemPlatform, batch_tokens: float
) -> tuple[NonMoESize, ...]:
    """Gate and non-MoE functions of each memory size of the platform that holds them."""
    needed_mb = _needed_bytes(spec, profile, batch_tokens) / MB
    return tuple(
        _non_moe(spec, profile, platform, size, bandwidth, batch_tokens)
        for size, bandwidth in zip(platform.memory_mb, platform.storage_bandwidths.tolist(), strict=True)
        if needed_mb <= size
    )


def _non_moe(
    spec: MoESpec,
    profile: PlatformProfile,
    platform: ProblemPlatform,
    memory_mb: int,
    bandwidth: float,
    batch_tokens: float,
) -> NonMoESize:
    """Gate and non-MoE functions of a memory size: their compute, and loads at their B_s."""

    def load_s(size_bytes: float) -> float:
        return platform.warm_start_s + platform.storage_delay_s + size_bytes / bandwidth

    def compute_s(flops: float) -> float:
        return transformer_seconds(profile, memory_mb, flops * batch_tokens, spec.precision)

    block_s = compute_s(spec.non_moe_flops)
    return NonMoESize(
        memory_mb=memory_mb,
        storage_bandwidth_bytes_per_s=bandwidth,
        head_s=load_s(spec.first_parameter_bytes + spec.non_moe_parameter_bytes),
        tail_s=compute_s(spec.tail_flops),
        non_moe_s=(block_s + compute_s(spec.dense_flops), *[block_s] * (spec.moe_layers - 1)),
        next_load_s=(
            *[load_s(spec.non_moe_parameter_bytes)] * (spec.moe_layers - 1),
            load_s(spec.tail_parameter_bytes),
        ),
    )


def _needed_bytes(spec: MoESpec, profile: PlatformProfile, batch_tokens: float) -> float:
    """Memory of the largest non-MoE function: runtime, embedding, dense layers and attention block, and of each
    token of the batch its hidden state, query, key, value, attention's result, and top_k experts' results."""
    parameters = spec.first_parameter_bytes + spec.non_moe_parameter_bytes
    tokens = batch_tokens * (5 + spec.top_k) * spec.token_bytes
    return profile.compute.runtime_bytes.median + parameters + tokens


def with_tokens(problem: DeploymentProblem, popularity: np.ndarray) -> DeploymentProblem:
    """The problem with other tokens of its experts, (layers, experts). Raises InputError for another shape."""
    popularity = _checked(popularity, problem.name, len(problem.layers), len(problem.layers[0].experts))
    layers = []
    for layer, tokens in zip(problem.layers, popularity.tolist(), strict=True):
        experts = [x.model_copy(update={"tokens": d}) for x, d in zip(layer.experts, tokens, strict=True)]
        layers.append(layer.model_copy(update={"experts": tuple(experts)}))
    return problem.model_copy(update={"layers": tuple(layers)})


def with_memory(problem: DeploymentProblem, runtime_bytes: float, token_bytes: float) -> DeploymentProblem:
    """The problem whose experts need other memory than its model's sizes say.

    Args:
        problem: the problem.
        runtime_bytes: of a function without parameters, M_itrm.
        token_bytes: of each token, D_in + D_o + m: what its input and output do not take is m.
    """
    layers = []
    for layer in problem.layers:
        held = max(0.0, token_bytes - layer.token_in_bytes - layer.token_out_bytes)
        memory = {"intermediate_bytes": runtime_bytes, "intermediate_bytes_per_token": held}
        experts = [x.model_copy(update=memory) for x in layer.experts]
        layers.append(layer.model_copy(update={"experts": tuple(experts)}))
    return problem.model_copy(update={"layers": tuple(layers)})


def _check_made_of(problem: DeploymentProblem, profile: PlatformProfile) -> None:
    platform = problem.platform
    if platform != problem_platform(profile, platform.memory_mb, platform.max_replicas):
        raise InputError(
            f"{problem.name}: its platform is not that of profile '{profile.name}'; expected a problem made by "
            "smoe problem --profile with the same profile"
        )


def remade(problem: DeploymentProblem, made_of: PlatformProfile, profile: PlatformProfile) -> DeploymentProblem:
    """The problem as `make_problem` would have made it of another profile, without the model it was made for.

    Args:
        problem: the problem. made_of: the profile that it was made of. profile: the other one.

    Raises InputError: the problem was made of something else.
    """
    before, memory_mb = problem.platform, problem.platform.memory_mb
    _check_made_of(problem, made_of)
    after = problem_platform(profile, memory_mb, before.max_replicas)
    weights: Weights = "fp32" if problem.blocks is None else problem.blocks.weights
    rates = [expert_seconds(each, memory_mb, 1.0, 1.0, weights) for each in (made_of, profile)]
    runtime = profile.compute.runtime_bytes.median - made_of.compute.runtime_bytes.median
    fixed_0, fixed_1 = (each.warm_start_s + each.storage_delay_s for each in (before, after))
    bandwidths = dict(zip(memory_mb, after.storage_bandwidths.tolist(), strict=True))

    def loaded(seconds: float, was: float = before.gate_bandwidth, now: float = after.gate_bandwidth) -> float:
        return fixed_1 + (seconds - fixed_0) * was / now

    def slower(size_mb: int | None) -> float:
        """Seconds of a non-MoE function over those before."""
        size_mb = size_mb or memory_mb[-1]
        now, was = (transformer_seconds(each, size_mb, 1.0, weights) for each in (profile, made_of))
        return now / was

    def size(each: NonMoESize) -> NonMoESize:
        was, now = each.storage_bandwidth_bytes_per_s, bandwidths[each.memory_mb]
        return NonMoESize(
            memory_mb=each.memory_mb,
            storage_bandwidth_bytes_per_s=now,
            head_s=loaded(each.head_s, was, now),
            tail_s=each.tail_s * slower(each.memory_mb),
            non_moe_s=tuple(x * slower(each.memory_mb) for x in each.non_moe_s),
            next_load_s=tuple(loaded(x, was, now) for x in each.next_load_s),
        )

    def layer(each: ProblemLayer) -> ProblemLayer:
        return each.model_copy(
            update={
                **_times_remade(each, *rates),
                "non_moe_s": each.non_moe_s * slower(each.non_moe_memory_mb),
                "next_load_s": loaded(each.next_load_s),
                "experts": tuple(_with_runtime(expert, runtime) for expert in each.experts),
            }
        )

    return problem.model_copy(
        update={
            "platform": after,
            "layers": tuple(layer(each) for each in problem.layers),
            "head_s": loaded(problem.head_s),
            "tail_s": problem.tail_s * slower(problem.layers[-1].non_moe_memory_mb),
            "non_moe": tuple(size(each) for each in problem.non_moe if each.memory_mb in bandwidths),
            "blocks": None if problem.blocks is None else remade_blocks(problem, made_of, profile),
        }
    )


def _times_remade(
    layer: ProblemLayer, made_of: Sequence[np.ndarray], profile: Sequence[np.ndarray]
) -> dict[str, tuple[float, ...] | None]:
    """An expert's times on another profile: what both take to read a byte and to compute a FLOP, s."""
    call, token = (now / was for was, now in zip(made_of, profile, strict=True))
    calls = layer.seconds_per_call
    return {
        "seconds_per_token": tuple((np.array(layer.seconds_per_token) * token).tolist()),
        "seconds_per_call": None if calls is None else tuple((np.array(calls) * call).tolist()),
    }


def problem_platform(profile: PlatformProfile, memory_mb: Sequence[int], max_replicas: int) -> ProblemPlatform:
    """A profile's constants as the closed form sees them, for the memory sizes of a problem."""
    derived = closed_form(profile, memory_mb)
    return ProblemPlatform(
        memory_mb=tuple(memory_mb),
        max_replicas=max_replicas,
        storage_bandwidth_bytes_per_s=tuple(derived.storage_bandwidth_bytes_per_s.tolist()),
        direct_bandwidth_bytes_per_s=derived.direct_bandwidth_bytes_per_s,
        storage_delay_s=derived.storage_delay_s,
        warm_start_s=derived.warm_start_s,
        payload_limit_bytes=profile.payload.limit_bytes.median,
        payload_encoding_factor=profile.payload.encoding_factor.median,
        direct_hands_on=True,
        price_per_gb_s=profile.gb_s_usd,
        price_per_invocation=profile.prices.invocation.median,
        price_per_put=profile.storage_class.put_usd,
        price_per_get=profile.storage_class.get_usd,
    )


def _layers(
    spec: MoESpec,
    popularity: np.ndarray,
    profile: PlatformProfile,
    platform: ProblemPlatform,
    non_moe: NonMoESize,
) -> tuple[ProblemLayer, ...]:
    """The layers: U_j is arithmetic per token, a call's fixed time reads the weights once."""
    per_call, per_token = expert_seconds(
        profile, platform.memory_mb, spec.expert_parameter_bytes, spec.expert_flops, spec.precision
    )
    return tuple(
        ProblemLayer(
            token_in_bytes=spec.token_bytes,
            token_out_bytes=spec.token_bytes,
            seconds_per_token=tuple(per_token.tolist()),
            seconds_per_call=tuple(per_call.tolist()),
            non_moe_s=non_moe_s,
            next_load_s=next_load_s,
            non_moe_memory_mb=non_moe.memory_mb,
            experts=_experts(spec, profile, tokens),
        )
        for tokens, non_moe_s, next_load_s in zip(popularity, non_moe.non_moe_s, non_moe.next_load_s, strict=True)
    )


def _experts(spec: MoESpec, profile: PlatformProfile, tokens: np.ndarray) -> tuple[ProblemExpert, ...]:
    return tuple(
        ProblemExpert(
            tokens=d,
            parameter_bytes=spec.expert_parameter_bytes,
            intermediate_bytes=profile.compute.runtime_bytes.median,
            intermediate_bytes_per_token=spec.expert_activation_bytes,
        )
        for d in tokens.tolist()
    )


def _with_runtime(expert: ProblemExpert, more_bytes: float) -> ProblemExpert:
    return expert.model_copy(update={"intermediate_bytes": expert.intermediate_bytes + more_bytes})
