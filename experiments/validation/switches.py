"""Mechanisms of the simulator switched off, by the profile's constants or in its link."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from simulator.network import Link
from simulator.profile import Constant, PlatformProfile


def with_value(profile: PlatformProfile, group: str, name: str, value: float) -> PlatformProfile:
    """The profile with another value of one constant."""
    section = getattr(profile, group)
    constant = getattr(section, name).model_copy(update={"value": value})
    return profile.model_copy(update={group: section.model_copy(update={name: constant})})


def without_tails(profile: PlatformProfile) -> PlatformProfile:
    """The profile with every distribution replaced by its median."""
    groups = {}
    for group, section in profile:
        constants = {n: c for n, c in section if isinstance(c, Constant)} if hasattr(section, "model_copy") else {}
        if constants:
            medians = {n: c.model_copy(update={"value": c.median}) for n, c in constants.items()}
            groups[group] = section.model_copy(update=medians)
    return profile.model_copy(update=groups)


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
