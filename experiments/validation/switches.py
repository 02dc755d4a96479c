"""Mechanisms of the simulator switched off, by the profile's constants or in its link."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from moe.files import FileModel
from simulator.constant import Constant
from simulator.network import Link
from simulator.profile import PlatformProfile


def with_value(profile: PlatformProfile, group: str, name: str, value: float) -> PlatformProfile:
    """The profile with another value of one constant."""
    section = getattr(profile, group)
    constant = getattr(section, name).model_copy(update={"value": value})
    return profile.model_copy(update={group: section.model_copy(update={name: constant})})


def without_tails(profile: PlatformProfile) -> PlatformProfile:
    """The profile with every distribution replaced by its median."""

    def still(inside: Any) -> Any:
        if isinstance(inside, Constant):
            return inside.model_copy(update={"value": inside.median})
        if isinstance(inside, dict):
            return {key: still(value) for key, value in inside.items()}
        if isinstance(inside, FileModel):
            return inside.model_copy(update={name: still(value) for name, value in inside})
        return inside

    changed: PlatformProfile = still(profile)
    return changed


def with_sustained_burst(profile: PlatformProfile) -> PlatformProfile:
    """The profile whose functions keep their burst bandwidth for ever."""
    return with_value(profile, "network", "sustained_bytes_per_s", profile.network.burst_bytes_per_s.median)


@contextmanager
def each_transfer_alone() -> Iterator[None]:
    """Meanwhile each of several transfers finds all of a link's bandwidth, and a token bucket, of its own."""
    shared = Link.batch

    def alone(link: Link, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        pairs = zip(starts.tolist(), sizes.tolist(), strict=True)
        ends = np.array([copy.copy(link).alone(at, size) for at, size in pairs])
        link.bytes_moved += float(sizes.sum())
        return ends

    Link.batch = alone  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Link.batch = shared  # type: ignore[method-assign]
