"""Platform profiles: their constants, and the YAML files that hold them."""

from simulator.profiles.constant import Constant, Quantiles, Samples
from simulator.profiles.schema import DEFAULT_PROFILE, PlatformProfile, load_profile, profile_names
from simulator.profiles.walk import constant_at, with_constant

__all__ = [
    "DEFAULT_PROFILE",
    "Constant",
    "PlatformProfile",
    "Quantiles",
    "Samples",
    "constant_at",
    "load_profile",
    "profile_names",
    "with_constant",
]
