"""What a user brings: a class or function named as `module:name`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from moe.errors import InputError


def load_object(name: str, what: str) -> Any:
    """The class or function that `module:name` names, wherever Python looks, or else in the current folder.

    Args:
        name: of it. what: it is for; errors begin with that.

    Raises:
        InputError: the module cannot be imported, or has nothing callable of that name.
    """
    module, _, attribute = name.partition(":")
    _look_here_last()
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError, SyntaxError) as error:
        raise InputError(f"{what}: '{name}': cannot import {module or 'nothing'}: {error}") from None
    if not callable(found):
        raise InputError(f"{what}: '{name}': module {module} has no class or function '{attribute}'")
    return found


def module_file(name: str) -> Path | None:
    """The file of the module of `module:name`, found as `load_object` finds it; None for any other text."""
    module, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), attribute)):
        return None
    _look_here_last()
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # said where it is loaded
        return None
    return Path(found.origin) if found is not None and found.origin else None


def _look_here_last() -> None:
    """A file of the current folder takes the place of no installed package."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
