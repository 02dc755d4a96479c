"""Make a deployment problem: popularity, a model's sizes and a platform profile in, the contract's file out."""

from collections.abc import Sequence

import numpy as np

from moe.errors import InputError
from moe.spec import MoESpec
from simulator.plan import (
    DeploymentProblem,
    Objective,
    ProblemExpert,
    ProblemLayer,
    ProblemPlatform,
)
from simulator.profiles.closed_form import closed_form, expert_seconds
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

    Raises:
        InputError: popularity and model differ in layers or experts.
    """
    popularity = np.asarray(popularity, float)
    if popularity.shape != (spec.moe_layers, spec.experts):
        raise InputError(
            f"popularity: expected {spec.moe_layers} layers x {spec.experts} experts for {spec.name}, "
            f"got {' x '.join(map(str, popularity.shape))}"
        )
    batch_tokens = float(popularity.sum(axis=1).max()) / spec.top_k
    platform = problem_platform(profile, memory_mb, max_replicas)
    warm_start_s, delay_s = platform.warm_start_s, platform.storage_delay_s
    non_moe_flops_per_s = (
        profile.compute.flops_per_vcpu.median * non_moe_memory_mb / profile.compute.mb_per_vcpu.median
    )

    def load_s(size: float) -> float:
        return warm_start_s + delay_s + size / platform.gate_bandwidth

    tail_bytes = spec.embedding_bytes if spec.tail_flops else 0
    compute = _expert_compute(spec, profile, memory_mb)
    layers = [
        ProblemLayer(
            token_in_bytes=spec.token_bytes,
            token_out_bytes=spec.token_bytes,
            non_moe_s=spec.non_moe_flops * batch_tokens / non_moe_flops_per_s,
            next_load_s=load_s(tail_bytes if e == spec.moe_layers - 1 else spec.non_moe_parameter_bytes),
            non_moe_memory_mb=non_moe_memory_mb,
            experts=_experts(spec, profile, popularity[e]),
            **compute,
        )
        for e in range(spec.moe_layers)
    ]
    return DeploymentProblem(
        name=name or spec.name,
        objective=objective,
        platform=platform,
        layers=tuple(layers),
        head_s=load_s(spec.embedding_bytes + spec.non_moe_parameter_bytes),
        tail_s=spec.tail_flops * batch_tokens / non_moe_flops_per_s,
        latency_limit_s=latency_limit_s,
        batch_tokens=batch_tokens,
        top_k=spec.top_k,
    )


def with_tokens(problem: DeploymentProblem, popularity: np.ndarray) -> DeploymentProblem:
    """The problem with other tokens of its experts, (layers, experts). Raises InputError for another shape."""
    popularity = np.asarray(popularity, float)
    shape = (len(problem.layers), len(problem.layers[0].experts))
    if popularity.shape != shape:
        raise InputError(
            f"{problem.name}: expected popularity of its {shape[0]} layers x {shape[1]} experts, "
            f"got {' x '.join(map(str, popularity.shape))}"
        )
    layers = []
    for layer, tokens in zip(problem.layers, popularity.tolist(), strict=True):
        experts = [x.model_copy(update={"tokens": d}) for x, d in zip(layer.experts, tokens, strict=True)]
        layers.append(layer.model_copy(update={"experts": tuple(experts)}))
    return problem.model_copy(update={"layers": tuple(layers)})


def _expert_compute(
    spec: MoESpec, profile: PlatformProfile, memory_mb: Sequence[int]
) -> dict[str, tuple[float, ...]]:
    """U_j and a call's fixed time for each memory size: arithmetic per token, and the weights read once."""
    per_call, per_token = expert_seconds(profile, memory_mb, spec.expert_parameter_bytes, spec.expert_flops)
    return {"seconds_per_token": tuple(per_token.tolist()), "seconds_per_call": tuple(per_call.tolist())}


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
        price_per_gb_s=profile.prices.gb_s.median,
        price_per_invocation=profile.prices.invocation.median,
        price_per_put=profile.storage_class.put_usd,
        price_per_get=profile.storage_class.get_usd,
    )
