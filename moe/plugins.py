"""What a user brings: a class or function named as `module:name`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from moe.errors import InputError


def load_object(name: str, what: str) -> Any:
    """The class or function that `module:name` names, of the current folder or wherever Python looks.

    Args:
        name: of it. what: it is for; errors begin with that.

    Raises:
        InputError: the module cannot be imported, or has nothing callable of that name.
    """
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError, SyntaxError) as error:
        raise InputError(f"{what}: '{name}': cannot import {module or 'nothing'}: {error}") from None
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise InputError(f"{what}: '{name}': module {module} has no class or function '{attribute}'")
    return found
