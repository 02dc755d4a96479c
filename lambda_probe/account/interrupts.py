"""Ctrl-C and SIGTERM: heard while something is measured, not while what was made is removed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, and SIGINT in a shell's background job, raise KeyboardInterrupt: what was made is removed."""
    with _handled_by(signal.default_int_handler):
        yield


@contextmanager
def deaf() -> Iterator[None]:
    """Ctrl-C and SIGTERM do nothing meanwhile: something is being removed."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, earlier in before.items():
            signal.signal(each, earlier)
