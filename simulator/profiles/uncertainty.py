"""How sure a profile is: its constants at draws of their fits, or times factors as wide as they are unsure.

Draw k of the fits of all constants that rest on as many runs weighs these runs alike: what they have in common
stays together (docs/calibration.md). Factors are for decisions that must hold for the true platform:
every uncertain constant has one, measured or not. They are lognormal, and independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from moe.errors import InputError
from simulator.profiles.constant import Confidence, Constant, Fit
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import Keys, constant_at, with_constant

SPREAD: Mapping[Confidence, float] = {"high": 1.1, "medium": 1.3, "low": 2.0}
"""By confidence, of an unmeasured constant: its 95% range is the value over, to times, that. Assumed."""
UNCERTAIN: tuple[Keys, ...] = (
    ("compute", "flops_per_vcpu"),
    ("compute", "transformer_speed"),
    ("compute", "scaling_exponent"),
    ("compute", "weight_bandwidth_per_vcpu"),
    ("compute", "weight_bandwidth_per_function"),
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
    ("cluster", "core_speed"),
    ("cluster", "efficiency"),
    ("cluster", "memory_bytes_per_s"),
    ("cluster", "month_utilisation"),
)
"""Constants on which a decision may depend, between plans or between Lambda and a cluster; prices are known."""
AT_MOST_1 = (
    ("compute", "scaling_exponent"),
    ("cluster", "efficiency"),
    ("cluster", "month_utilisation"),
)
Z95 = 1.959964


def most_draws(profile: PlatformProfile) -> int:
    """How many draws every constant has that has any; 0: the profile does not say how sure it is."""
    counts = (len(fit.draws or ()) for constant in profile.constants().values() if (fit := _standing(constant)))
    return min(filter(None, counts), default=0)


def drawn(profile: PlatformProfile, k: int) -> PlatformProfile:
    """The profile of draw k (from 0) of its fits: distributions as wide as they are, about another median.

    Raises InputError: there is no such draw.
    """
    most = most_draws(profile)
    if not 0 <= k < most:
        said = (
            f"it has {most}"
            if most
            else "no constant has any: they come from smoe calibrate, with two or more runs"
        )
        raise InputError(f"profile '{profile.name}': draws: expected no more than there are, got {k + 1}; {said}")

    def at_draw(constant: Constant) -> Constant:
        fit = _standing(constant)
        if fit is None or not fit.draws:
            return constant
        if isinstance(constant.value, float):
            return constant.with_value(fit.draws[k])
        return constant.scaled(fit.draws[k] / constant.median)

    return profile.mapped(at_draw).model_copy(update={"name": f"{profile.name}, draw {k}"})


@dataclass(frozen=True)
class Factors:
    """Draws of the factors of uncertain constants.

    Attributes:
        paths: of the constants. sigmas: of the logarithms of their factors, shape (constants,).
        factors: shape (draws, constants), in an order whose every beginning is spread evenly (Sobol).
        measured: which have the interval of a fit, shape (constants,).
    """

    paths: tuple[Keys, ...]
    sigmas: np.ndarray
    factors: np.ndarray
    measured: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """The constants' dotted names."""
        return tuple(".".join(path) for path in self.paths)

    def applied(self, profile: PlatformProfile, draw: int) -> PlatformProfile:
        """The profile of one draw."""
        for path, factor in zip(self.paths, self.factors[draw].tolist(), strict=True):
            most = 1.0 if path in AT_MOST_1 else math.inf
            profile = with_constant(profile, path, constant_at(profile, path).scaled(factor, most))
        return profile


def drawn_factors(
    profile: PlatformProfile,
    draws: int,
    seed: int,
    spread: Mapping[Confidence, float] = SPREAD,
    fixed: Collection[Keys] = (),
) -> Factors:
    """Draws of a profile's factors.

    Args:
        profile: whose constants.
        draws: how many. seed: of the scrambled sequence.
        spread: by confidence, as SPREAD.
        fixed: paths of constants that are not drawn.
    """
    from scipy.stats import qmc

    paths = tuple(path for path in UNCERTAIN if path not in fixed and constant_at(profile, path).median)
    constants = [constant_at(profile, path) for path in paths]
    sigmas = np.array([sigma(constant, spread) for constant in constants])
    sequence = qmc.MultivariateNormalQMC(np.zeros(len(paths)), rng=np.random.default_rng(seed))
    normal = sequence.random(1 << max(0, draws - 1).bit_length())[:draws]
    fits = [_standing(constant) for constant in constants]
    measured = np.array([fit is not None and fit.interval is not None for fit in fits])
    return Factors(paths, sigmas, np.exp(normal * sigmas), measured)


def sigma(constant: Constant, spread: Mapping[Confidence, float] = SPREAD) -> float:
    """How unsure a constant is: the standard deviation of the logarithm of its factor.

    By the interval of its fit, where that stands, else by its source's; without one by its confidence. An interval
    that begins at 0 has no ratio: nothing is known of how small the value may be, and the constant is taken to be
    of low confidence.
    """
    interval = _interval(constant)
    if interval is None:
        return float(np.log(spread[constant.confidence])) / Z95
    low, high = interval
    return float(np.log(high / low) / 2 if low > 0 else np.log(spread["low"])) / Z95


def _interval(constant: Constant) -> tuple[float, float] | None:
    fit = _standing(constant)
    return constant.interval if fit is None or fit.interval is None else fit.interval


def _standing(constant: Constant) -> Fit | None:
    """The fit that the constant's value is of; None where another value was kept."""
    return constant.fit if constant.kept is None else None
