"""How sure a profile's constants are, as factors on them: drawn where a decision must hold for the true platform.

A calibrated constant's factor comes from its 95% interval; another's from its confidence, by a range that the
user sets. Factors are lognormal, and independent of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from simulator.profiles.schema import PlatformProfile, constant_at, with_constant

UNCERTAIN: tuple[tuple[str, ...], ...] = (
    ("compute", "flops_per_vcpu"),
    ("compute", "weight_bandwidth_per_vcpu"),
    ("network", "function_bytes_per_s_per_mb"),
    ("network", "sustained_bytes_per_s"),
    ("network", "burst_bytes"),
    ("storage", "connection_bytes_per_s"),
    ("storage", "get_latency_s"),
    ("storage", "put_latency_s"),
    ("start", "warm_s"),
    ("start", "keep_alive_s"),
    ("payload", "overhead_s"),
    ("payload", "bytes_per_s"),
    ("cluster", "flops_per_core"),
    ("cluster", "efficiency"),
    ("cluster", "memory_bytes_per_s"),
    ("cluster", "month_utilisation"),
)
"""Constants of which a decision between Lambda and a cluster may depend; prices are known."""
AT_MOST_1 = (("cluster", "efficiency"), ("cluster", "month_utilisation"))
Z95 = 1.959964


@dataclass(frozen=True)
class Uncertainty:
    """Draws of the factors.

    Attributes:
        names: of the constants. sigmas: of the logarithms of their factors, shape (constants,).
        factors: shape (draws, constants), in an order whose every beginning is spread evenly (Sobol).
        measured: which have an interval of their own, shape (constants,).
    """

    names: tuple[str, ...]
    sigmas: np.ndarray
    factors: np.ndarray
    measured: np.ndarray

    def applied(self, profile: PlatformProfile, draw: int) -> PlatformProfile:
        """The profile of one draw."""
        for name, factor in zip(self.names, self.factors[draw].tolist(), strict=True):
            path = tuple(name.split("."))
            most = 1.0 if path in AT_MOST_1 else np.inf
            profile = with_constant(profile, path, constant_at(profile, path).scaled(factor, most))
        return profile


def uncertainty(
    profile: PlatformProfile, spread: Mapping[str, float], draws: int, seed: int, fixed: tuple[str, ...] = ()
) -> Uncertainty:
    """Draws of a profile's factors.

    Args:
        profile: whose constants.
        spread: by confidence, of an unmeasured constant: its 95% range is the value over, to times, that.
        draws: how many. seed: of the scrambled sequence.
        fixed: names of constants that are not drawn.
    """
    names, sigmas, measured = [], [], []
    for path in UNCERTAIN:
        constant = constant_at(profile, path)
        if ".".join(path) in fixed or not constant.median:
            continue
        interval = constant.fit.interval if constant.fit is not None and constant.kept is None else None
        ratio = np.log(interval[1] / interval[0]) / 2 if interval else np.log(spread[constant.confidence])
        names.append(".".join(path))
        sigmas.append(float(ratio) / Z95)
        measured.append(interval is not None)
    sequence = qmc.MultivariateNormalQMC(np.zeros(len(names)), rng=np.random.default_rng(seed))
    normal = sequence.random(1 << max(0, draws - 1).bit_length())[:draws]
    return Uncertainty(tuple(names), np.array(sigmas), np.exp(normal * np.array(sigmas)), np.array(measured))
