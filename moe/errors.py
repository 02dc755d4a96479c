"""What is told to a user in one line: input that cannot be used, a platform that does not do its part."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used. Its message is one line: file, key, value and what was expected."""


class PlatformError(RuntimeError):
    """A platform that fails or does not answer. Its message is one line: what happened, and what to do."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to `name`, or the list of valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; expected one of: {', '.join(names)}" if names else ""
