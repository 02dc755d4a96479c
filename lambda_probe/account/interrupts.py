"""Ctrl-C and SIGTERM: heard at once while something is measured, the third time while what was made is removed."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ENDED_BY = 3
_LOG = logging.getLogger(__name__)


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, and SIGINT in a shell's background job, raise KeyboardInterrupt: what was made is removed."""
    with _handled_by(signal.default_int_handler):
        yield


@contextmanager
def deaf() -> Iterator[None]:
    """Ctrl-C and SIGTERM do nothing meanwhile: something is being written, or removed."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextmanager
def stubborn(doing: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C and SIGTERM say what is being done; the third raises KeyboardInterrupt."""
    heard = 0

    def hear(*_: Any) -> None:
        nonlocal heard
        heard += 1
        if heard >= ENDED_BY:
            raise KeyboardInterrupt
        _LOG.warning("%s: waiting for it; %d more Ctrl-C end this", doing(), ENDED_BY - heard)

    with _handled_by(hear):
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
