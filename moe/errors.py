"""The one error that a user's input can cause."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used. Its message is one line: file, key, value and what was expected."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to `name`, or the list of valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; expected one of: {', '.join(names)}" if names else ""
