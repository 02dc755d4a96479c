"""What is told to a user in one line: input that cannot be used, a platform that does not do its part."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

LONGEST = 60


class InputError(ValueError):
    """Input that cannot be used. Its message is one line: file, key, value and what was expected."""


class PlatformError(RuntimeError):
    """A platform that fails or does not answer. Its message is one line: what happened, and what to do."""


@contextmanager
def named(key: str) -> Iterator[None]:
    """InputErrors begin with the key whose value they are of."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def nearest(name: str, valid: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the valid name closest to `name`, or the list of valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; expected one of: {', '.join(names)}" if names else ""


def shortened(value: Any) -> str:
    """A user's value as messages show it: a string in quotes, 60 characters at most, no control characters."""
    text = repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
