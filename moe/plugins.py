"""What a user brings: an object named as `module:object`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from moe.errors import InputError, nearest


def load_object(name: str) -> Any:
    """The object that `module:object` names; modules of the current folder are found as well.

    Raises:
        InputError: there is no such module, or no such object in it.
    """
    module_name, _, object_name = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"{name}: the module '{module_name}' cannot be imported: {error}") from None
    if not object_name or not hasattr(module, object_name):
        public = [each for each in vars(module) if not each.startswith("_")]
        raise InputError(f"{name}: no '{object_name}' in {module_name}{nearest(object_name, public)}")
    return getattr(module, object_name)
