"""How sure a profile is: the profile again, with every calibrated constant at one of the draws of its fit.

Draw k of all constants that rest on the same runs is of the same resampling of these: what they have in common
stays together (docs/calibration.md).
"""

from __future__ import annotations

from typing import Any

from moe.errors import InputError
from moe.files import FileModel
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile


def most_draws(profile: PlatformProfile) -> int:
    """How many draws every constant has that has any; 0: the profile does not say how sure it is."""
    return min((len(draws) for constant in _constants(profile) if (draws := _draws(constant))), default=0)


def drawn(profile: PlatformProfile, k: int) -> PlatformProfile:
    """The profile of draw k (from 0): distributions as wide as they are, about another median.

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
    changed: PlatformProfile = _at(profile, k)
    return changed.model_copy(update={"name": f"{profile.name}, draw {k}"})


def _draws(constant: Constant) -> tuple[float, ...]:
    """Of a constant whose fit stands."""
    return constant.fit.draws or () if constant.fit is not None and constant.kept is None else ()


def _constants(inside: Any) -> list[Constant]:
    if isinstance(inside, Constant):
        return [inside]
    if isinstance(inside, FileModel):
        inside = dict(inside)
    values = inside.values() if isinstance(inside, dict) else ()
    return [constant for value in values for constant in _constants(value)]


def _at(inside: Any, k: int) -> Any:
    """The same, with each constant at draw k."""
    if isinstance(inside, Constant):
        draws = _draws(inside)
        if not draws:
            return inside
        if isinstance(inside.value, float):
            return inside.model_copy(update={"value": draws[k]})
        return inside.scaled(draws[k] / inside.median)
    if isinstance(inside, dict):
        return {key: _at(value, k) for key, value in inside.items()}
    if isinstance(inside, FileModel):
        return inside.model_copy(update={name: _at(value, k) for name, value in inside})
    return inside


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
