"""What the closed form needs of a profile: optimizer and simulator mean the same platform."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.profiles.schema import PlatformProfile


@dataclass(frozen=True)
class ClosedFormConstants:
    """What Eq. 3-11 need of a platform (docs/formats.md): medians only, no tails, bursts or contention.

    Attributes:
        vcpus: of each memory size, shape (sizes,).
        storage_bandwidth_bytes_per_s: B_s of each memory size, shape (sizes,): one rate for both ways, of an
            expert that downloads weights and input and uploads as much as one of them.
        direct_bandwidth_bytes_per_s: B_f, raw bytes before encoding.
        storage_delay_s: T_dl, the mean of the medians of GET and PUT.
        warm_start_s: T_str.
    """

    vcpus: np.ndarray
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
        vcpus=memory / profile.compute.mb_per_vcpu.median,
        storage_bandwidth_bytes_per_s=_storage_bandwidth(profile, memory),
        direct_bandwidth_bytes_per_s=direct / payload.encoding_factor.median,
        storage_delay_s=(profile.storage_class.get_latency_s.median + profile.storage_class.put_latency_s.median)
        / 2
        + request_work_s,
        warm_start_s=profile.start.warm_s.median,
    )


def _storage_bandwidth(profile: PlatformProfile, memory_mb: np.ndarray) -> np.ndarray:
    network, storage = profile.network, profile.storage
    upload_per_mb = network.function_upload_bytes_per_s_per_mb or network.function_bytes_per_s_per_mb
    upload_connection = storage.put_connection_bytes_per_s or storage.connection_bytes_per_s
    down = np.minimum(
        memory_mb * network.function_bytes_per_s_per_mb.median, storage.connection_bytes_per_s.median
    )
    up = np.minimum(memory_mb * upload_per_mb.median, upload_connection.median)
    return np.where(down == up, down, 3 / (2 / down + 1 / up))


def expert_seconds(
    profile: PlatformProfile, memory_mb: Sequence[int], parameter_bytes: float, flops_per_token: float
) -> tuple[np.ndarray, np.ndarray]:
    """Block time a + b n of an expert over n tokens: its weights are read once a call, by one thread.

    Args:
        memory_mb: memory sizes. parameter_bytes: of the expert's weights. flops_per_token: of a token.

    Returns:
        a and b of each memory size, s and s/token, both of shape (sizes,).
    """
    vcpus = closed_form(profile, memory_mb).vcpus
    read_weights_s = parameter_bytes / profile.compute.weight_bandwidth_per_vcpu.median
    per_token = flops_per_token / (profile.compute.flops_per_vcpu.median * vcpus)
    return read_weights_s / np.minimum(1.0, vcpus), per_token
