"""The one way to walk a profile's constants, and to change them.

A constant is found by its path of keys, such as `("storage", "get_latency_s")`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from moe.files import FileModel
from simulator.profiles.constant import Constant, Sourced

Keys: TypeAlias = tuple[str, ...]
Profile = TypeVar("Profile", bound=FileModel)


def leaves(inside: Any, path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Everything in a profile by its path, in the order of its file: constants, rules and settings."""
    if isinstance(inside, FileModel) and not isinstance(inside, Sourced):
        inside = dict(inside)
    if isinstance(inside, dict):
        for key, value in inside.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, inside


def mapped(inside: Any, change: Callable[[Constant], Constant]) -> Any:
    """The same, with every constant changed."""
    if isinstance(inside, Constant):
        return change(inside)
    if isinstance(inside, dict):
        return {key: mapped(value, change) for key, value in inside.items()}
    if isinstance(inside, FileModel) and not isinstance(inside, Sourced):
        return inside.model_copy(update={name: mapped(value, change) for name, value in inside})
    return inside


def constant_at(profile: FileModel, path: Sequence[str]) -> Constant:
    """The constant at a path."""
    found: Any = profile
    for key in path:
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    return found


def with_constant(profile: Profile, path: Sequence[str], constant: Sourced | float | None) -> Profile:
    """The profile with another constant at a path; a number: the same one with that value; None: without it."""
    new = constant_at(profile, path).with_value(constant) if isinstance(constant, int | float) else constant

    def changed(inside: Any, keys: Sequence[str]) -> Any:
        if not keys:
            return new
        if isinstance(inside, dict):
            return inside | {keys[0]: changed(inside[keys[0]], keys[1:])}
        return inside.model_copy(update={keys[0]: changed(getattr(inside, keys[0]), keys[1:])})

    found: Profile = changed(profile, path)
    return found


def multiplied(profile: Profile, paths: Sequence[Keys], factor: float) -> Profile:
    """The profile with the constants at these paths times a factor; one that it leaves out (null) stays out."""
    for path in paths:
        constant: Constant | None = constant_at(profile, path)
        if constant is not None:
            profile = with_constant(profile, path, constant.scaled(factor))
    return profile
