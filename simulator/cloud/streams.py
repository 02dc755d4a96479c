"""Streams of random numbers of one simulation: one of its own for each thing that is drawn, by name."""

from __future__ import annotations

import numpy as np

from simulator.draws import Chances, Draws, Retries
from simulator.profiles.constant import Constant
from simulator.profiles.groups import RetryConstants
from simulator.profiles.schema import PlatformProfile

UNUSED = np.random.default_rng(0)  # of what is never drawn
SPARE = 5


class Streams:
    """What a profile leaves to chance: constants as draws, each from the stream of its name.

    Args:
        profile: says which packages there are. rng: what the streams are spawned from.
    """

    def __init__(self, profile: PlatformProfile, rng: np.random.Generator) -> None:
        names = _names(profile)
        self._rngs = dict(zip(names, rng.spawn(len(names)), strict=True))

    def __getitem__(self, name: str) -> np.random.Generator:
        return self._rngs[name]

    def draws(self, name: str, constant: Constant) -> Draws:
        """Draws of a constant's distribution."""
        value = constant.value
        return Draws(value if isinstance(value, float) else value.draws_from, self[name])

    def chances(self, name: str, constant: Constant) -> Chances:
        """Yes and no, with a constant's probability."""
        return Chances(constant.median, self[name])

    def retries(self, name: str, constants: RetryConstants, again_after: tuple[str, ...] = ()) -> Retries:
        """A caller's retries after some statuses."""
        attempts = int(constants.attempts.median)
        return Retries(attempts, constants.base_s.median, constants.cap_s.median, self[name], again_after)


def _names(profile: PlatformProfile) -> list[str]:
    """Of all streams, in order. A stream keeps its numbers while its place is the same: a new one comes last."""
    halved = profile.start.keep_alive_halving_s is not None
    return [
        *(["keep_alive"] if halved else []),
        *(f"{package}.{what}" for package in sorted(profile.start.packages) for what in ("provisioning", "init")),
        "warm",
        *([] if halved else ["keep_alive"]),
        *("retries", "handler_error", "instance_life", "get_latency", "put_latency"),
        *("jitter", "payload_overhead", "stragglers"),
        "processors",
        *(f"spare {k}" for k in range(SPARE)),
        *("get_error", "get_retries", "put_error", "put_retries"),
        *(f"{kind}_{what}" for kind in ("get", "put") for what in ("drift", "slow", "delay")),
        "instance_factor",
    ]


def fixed(value: float) -> Draws:
    """Draws that are always the same."""
    return Draws(value, UNUSED)
