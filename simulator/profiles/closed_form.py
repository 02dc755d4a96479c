"""What the closed form needs of a profile: optimizer and simulator mean the same platform."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe.spec import Weights
from simulator.profiles.groups import Architecture
from simulator.profiles.schema import PlatformProfile


@dataclass(frozen=True)
class ClosedFormConstants:
    """What Eq. 3-11 need of a platform (docs/formats.md): medians only, no tails, bursts or contention.

    Attributes:
        storage_bandwidth_bytes_per_s: B_s of each memory size, shape (sizes,): one rate for both ways, of an
            expert that downloads weights and input and uploads as much as one of them.
        direct_bandwidth_bytes_per_s: B_f, raw bytes before encoding.
        storage_delay_s: T_dl, the mean of the medians of GET and PUT.
        warm_start_s: T_str.
    """

    storage_bandwidth_bytes_per_s: np.ndarray
    direct_bandwidth_bytes_per_s: float
    storage_delay_s: float
    warm_start_s: float


def closed_form(profile: PlatformProfile, memory_mb: Sequence[int]) -> ClosedFormConstants:
    """The closed form's constants of a profile, for the given memory sizes."""
    memory = np.asarray(memory_mb, float)
    payload, storage = profile.payload, profile.storage
    works = [work.median for work in (storage.get_vcpu_s, storage.put_vcpu_s) if work is not None]
    request_work_s = sum(works) / 2 * profile.compute.mb_per_vcpu.median / float(np.median(memory))
    direct = payload.bytes_per_s.median
    if payload.function_bytes_per_s_per_mb is not None:  # the closed form has one B_f for all sizes
        direct = min(direct, payload.function_bytes_per_s_per_mb.median * float(np.median(memory)))
    return ClosedFormConstants(
        storage_bandwidth_bytes_per_s=storage_bandwidth(profile, memory),
        direct_bandwidth_bytes_per_s=direct / payload.encoding_factor.median,
        storage_delay_s=(profile.storage_class.get_latency_s.median + profile.storage_class.put_latency_s.median)
        / 2
        + request_work_s,
        warm_start_s=profile.start.warm_s.median,
    )


def storage_bandwidth(profile: PlatformProfile, memory_mb: np.ndarray) -> np.ndarray:
    """B_s of each memory size, bytes/s, shape (sizes,)."""
    network, storage = profile.network, profile.storage
    upload_per_mb = network.function_upload_bytes_per_s_per_mb or network.function_bytes_per_s_per_mb
    upload_connection = storage.put_connection_bytes_per_s or storage.connection_bytes_per_s
    down = np.minimum(
        memory_mb * network.function_bytes_per_s_per_mb.median, storage.connection_bytes_per_s.median
    )
    up = np.minimum(memory_mb * upload_per_mb.median, upload_connection.median)
    return np.where(down == up, down, 3 / (2 / down + 1 / up))


def scaled_vcpus(vcpus: float | np.ndarray, exponent: float) -> np.ndarray:
    """How many times as fast as one vCPU so many are: as many up to one, to a power of them beyond."""
    return np.minimum(vcpus, 1.0) * np.maximum(vcpus, 1.0) ** exponent


def processors(profile: PlatformProfile, architecture: Architecture) -> tuple[np.ndarray, np.ndarray]:
    """Each generation of processors that functions of an architecture get: its share, and its speed over x86_64's.

    Both of shape (generations,).
    """
    if architecture == "x86_64":
        return np.ones(1), np.ones(1)
    generations = profile.compute.arm64.values()
    shares = np.array([each.share.median for each in generations])
    return shares / shares.sum(), np.array([each.speed.median for each in generations])


def precision_speeds(profile: PlatformProfile, architecture: Architecture, weights: Weights) -> np.ndarray:
    """Arithmetic at a precision over fp32's, of each generation of processors, shape (generations,).

    int4 weights are unpacked to int8 as they are read, and multiplied as int8.
    """
    kinds = [profile.compute] if architecture == "x86_64" else list(profile.compute.arm64.values())
    if weights == "fp32":
        return np.ones(len(kinds))
    return np.array([(kind.bf16_speed if weights == "bf16" else kind.int8_speed).median for kind in kinds])


def mean_speed(profile: PlatformProfile, architecture: Architecture, weights: Weights = "fp32") -> float:
    """Speed over x86_64's fp32 of an architecture's functions whose mean time is that of their generations."""
    shares, speeds = processors(profile, architecture)
    return float(1 / (shares / (speeds * precision_speeds(profile, architecture, weights))).sum())


def speed(profile: PlatformProfile, memory_mb: np.ndarray, weights: Weights = "fp32") -> np.ndarray:
    """Compute of each memory size, (sizes,), on the default package's architecture, over one vCPU's of x86_64 in
    fp32."""
    compute = profile.compute
    vcpus = memory_mb / compute.mb_per_vcpu.median
    mean = mean_speed(profile, profile.architecture, weights)
    return mean * scaled_vcpus(vcpus, compute.scaling_exponent.median)


def weight_read_s(profile: PlatformProfile, memory_mb: Sequence[int], parameter_bytes: float) -> np.ndarray:
    """Time in which weights are read from memory once, s, of each memory size, shape (sizes,)."""
    compute, memory = profile.compute, np.asarray(memory_mb, float)
    bandwidth = np.minimum(
        compute.weight_bandwidth_per_vcpu.median * memory / compute.mb_per_vcpu.median,
        compute.weight_bandwidth_per_function.median,
    )
    read_s: np.ndarray = parameter_bytes / bandwidth
    return read_s


def expert_seconds(
    profile: PlatformProfile,
    memory_mb: Sequence[int],
    parameter_bytes: float,
    flops_per_token: float,
    weights: Weights = "fp32",
) -> tuple[np.ndarray, np.ndarray]:
    """Block time a + b n of an expert over n tokens: its weights are read from memory once a call.

    Args:
        memory_mb: memory sizes. parameter_bytes: of the expert's weights. flops_per_token: of a token.
        weights: their precision.

    Returns:
        a and b of each memory size, s and s/token, both of shape (sizes,).
    """
    rate = profile.compute.flops_per_vcpu.median * speed(profile, np.asarray(memory_mb, float), weights)
    return weight_read_s(profile, memory_mb, parameter_bytes), flops_per_token / rate


def transformer_flops_per_s(
    profile: PlatformProfile, memory_mb: Sequence[int], weights: Weights = "fp32"
) -> np.ndarray:
    """Rate of attention, gates and a head, of each memory size, FLOP/s, shape (sizes,): work of a whole
    transformer, which is slower than an expert's."""
    compute = profile.compute
    rate = compute.flops_per_vcpu.median * compute.transformer_speed.median
    return rate * speed(profile, np.asarray(memory_mb, float), weights)


def transformer_seconds(
    profile: PlatformProfile, memory_mb: int, flops: float, weights: Weights = "fp32"
) -> float:
    """Time of such work on a function, s."""
    return flops / float(transformer_flops_per_s(profile, [memory_mb], weights)[0])
