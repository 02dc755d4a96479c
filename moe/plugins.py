"""What a user brings: a class or function named as `module:name`. Its module's code runs.

A file that somebody sent may name one. So modules are looked for in the user's own places, never among those of
Python or of installed packages, and only what the place asks for is called.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from moe.errors import InputError, nearest

PLACES = "SMOE_PLUGINS"
"""Where the places stand in the environment, as JSON, so that processes that are started know them."""
PROJECT = ("moe", "simulator", "optimizer", "lambda_probe", "calibration", "experiments")
"""Packages of this project: in a checkout they are in the current folder, and no user's own."""


def look_in(*places: Path) -> None:
    """From now on, modules are looked for in these folders and files, in this order, and nowhere else."""
    os.environ[PLACES] = json.dumps([str(place.resolve()) for place in places])


def load_object(name: str, what: str, methods: Sequence[str] = (), functions: bool = True) -> Any:
    """The class or function that `module:name` names, in the places of `look_in`; unsaid: in the current folder.

    Args:
        name: of it. what: it is for; errors begin with that.
        methods: a class that has all of these will do; none: no class will.
        functions: whether a function will do, if its module defines it.

    Raises:
        InputError: the module is in none of the places, or cannot be imported, or what is named is something else.
    """
    module, _, attribute = name.partition(":")
    here = _found(name)
    if here is None:
        places = ", ".join(map(str, _places()))
        raise InputError(f"{what}: '{name}': no module {module or '(no name)'} of your own in {places}")
    try:
        imported = _imported(module, *here)
    except InputError as error:
        raise InputError(f"{what}: '{name}': {error}") from None
    except (Exception, SystemExit) as error:
        raise InputError(f"{what}: '{name}': cannot import {module}: {type(error).__name__}: {error}") from None
    wanted = {
        f"a class with {' and '.join(methods)}": lambda x: inspect.isclass(x) and _has(x, methods),
        "a function that it defines": lambda x: inspect.isfunction(x) and x.__module__ == module,
    }
    asked = [words for words, do in zip(wanted, (bool(methods), functions), strict=True) if do]
    found = getattr(imported, attribute, None)
    if not any(wanted[words](found) for words in asked):
        names = [each for each, value in vars(imported).items() if any(wanted[words](value) for words in asked)]
        raise InputError(f"{what}: '{name}': expected {' or '.join(asked)}{nearest(attribute, names)}")
    return found


def module_file(name: str) -> Path | None:
    """The file of the module of `module:name`, found as `load_object` finds it; None for any other text."""
    found = _found(name)
    return found and found[1]


def _places() -> list[Path]:
    said = os.environ.get(PLACES)
    return [Path(place) for place in json.loads(said)] if said else [Path.cwd()]


def _found(name: str) -> tuple[Path, Path] | None:
    """The folder that the module of `module:name` is in, and its file."""
    module, colon, attribute = name.partition(":")
    parts = module.split(".")
    if not colon or parts[0] in PROJECT or not all(part.isidentifier() for part in (*parts, attribute)):
        return None
    return next(((place, file) for place, file in _candidates(parts) if file.is_file()), None)


def _candidates(parts: list[str]) -> Iterator[tuple[Path, Path]]:
    for place in _places():
        if place.suffix != ".py" or place.is_dir():
            yield place, place.joinpath(*parts).with_suffix(".py")
            yield place, place.joinpath(*parts, "__init__.py")
        elif parts == [place.stem]:
            yield place.parent, place


def _imported(module: str, folder: Path, file: Path) -> Any:
    """The module, from its file: looked for last, so that it takes the place of no other."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    first = module.partition(".")[0]
    spec = importlib.util.find_spec(first)
    ours = (folder / f"{first}.py", folder / first / "__init__.py")
    if spec is not None and spec.origin is not None and Path(spec.origin) not in ours:
        raise InputError(f"{first} is a module of Python or of a package, or was read before; rename your file")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or Path(spec.origin) != file:
        raise InputError(f"another module {module} is in the way; rename your file")
    return importlib.import_module(module)


def _has(found: type, methods: Sequence[str]) -> bool:
    return all(callable(getattr(found, name, None)) for name in methods)
