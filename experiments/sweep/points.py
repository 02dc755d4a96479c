"""From a file with a `sweep:` to its points, each a whole experiment that is known to be possible."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.run.folder import Runnable, run_key
from experiments.sweep.block import Changes, Sweep
from experiments.sweep.kinds import AnyFile, Kind
from moe.cache import content_key
from moe.errors import InputError
from moe.files import read_settings, set_key, source_of, validated


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
        number: its place in the sweep, from 0.
        changes: key -> value that it sets.
        runnable: the whole experiment or scenario.
    """

    number: int
    changes: Changes
    runnable: Runnable

    @cached_property
    def folder(self) -> str:
        """Name of its folder: a hash of the resolved experiment, so equal points share one."""
        return content_key(self.runnable.model_dump(mode="json", by_alias=True))[:16]

    @cached_property
    def key(self) -> str:
        """Hash of the resolved experiment, the files that it names, and the code."""
        return run_key(self.runnable)


@dataclass(frozen=True)
class SweepFile:
    """A file with a sweep, all of its points checked.

    Attributes:
        kind: experiments, with `cost:` or not, or traffic scenarios.
        file: the file itself.
        keys: what the points change, in the order of the file.
        points: in the fixed order of the sweep.
    """

    kind: Kind
    file: AnyFile
    keys: list[str]
    points: list[Point]

    def label(self, point: Point) -> str:
        """`experts=8, seed=1`: what a point changes, keys as short as they can be."""
        short = dict(zip(self.keys, short_names(self.keys), strict=True))
        return ", ".join(f"{short[key]}={value}" for key, value in point.changes.items())


def short_names(keys: list[str]) -> list[str]:
    """The last part of each key; the whole key where two would be the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for name, key in zip(last, keys, strict=True)]


def load_sweep(path: Path, settings: Sequence[str], kind: Kind) -> SweepFile | None:
    """The sweep in a file; None where it has none.

    Args:
        path: the YAML.
        settings: `key.key=value`, applied before the sweep.
        kind: what the file is.

    Raises InputError, also for the first point that is impossible or names what is not there.
    """
    source = source_of(path, settings)
    data = read_settings(path, settings)
    file = validated(kind.file, kind.located(data, path.parent), source)
    if file.sweep is None:
        return None
    _check_settings(settings, file.sweep)
    del data["sweep"]
    points = []
    for number, changes in enumerate(file.sweep.points()):
        where = f"{source}: sweep, point {number} of {file.sweep.count:,}"
        points.append(Point(number, changes, _point(data, changes, kind, path.parent, where)))
    _check_names(points, kind, source)
    return SweepFile(kind, file, file.sweep.keys, points)


def _point(base: dict[str, Any], changes: Changes, kind: Kind, folder: Path, where: str) -> Runnable:
    data = copy.deepcopy(base)
    for key, value in changes.items():
        set_key(data, key, value, where)
    return validated(kind.point, kind.located(data, folder), f"{where} ({_told(changes)})")


def _told(changes: Changes) -> str:
    return ", ".join(f"{key}={value}" for key, value in changes.items()) or "as in the file"


def _check_settings(settings: Sequence[str], sweep: Sweep) -> None:
    """Raise InputError where --set (or --seed) means a key that every point sets anew."""
    for setting in settings:
        key = setting.partition("=")[0]
        for swept in sweep.keys:
            if swept == key or swept.startswith(f"{key}.") or key.startswith(f"{swept}."):
                raise InputError(
                    f"--set {setting}: the sweep sets {swept}; expected another key, or the sweep itself, "
                    "for example --set 'sweep={seeds: 3}'"
                )


def _check_names(points: list[Point], kind: Kind, source: str) -> None:
    """Raise InputError for the first point that names what is not there."""
    seen = set()
    for point in points:
        names = kind.names(point.runnable)
        if names in seen:
            continue
        seen.add(names)
        try:
            kind.check(point.runnable)
        except InputError as error:
            raise InputError(f"{source}: sweep, point {point.number} ({_told(point.changes)}): {error}") from None
