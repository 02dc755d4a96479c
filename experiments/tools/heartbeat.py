"""Without a terminal, a line every `LINE_S` while something runs: what is silent for minutes seems to hang."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

LINE_S = 15.0

_waiting: list[Callable[[], str]] = []
"""What is being waited for; the innermost is told."""


@contextmanager
def told(line: Callable[[], str]) -> Iterator[None]:
    """While something runs, `line()` now and then where stderr is no terminal; of nested ones the innermost."""
    if sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(LINE_S):
            if _waiting[-1] is line:
                print(line(), file=sys.stderr, flush=True)

    _waiting.append(line)
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
        _waiting.remove(line)


def so_far(doing: str) -> Callable[[], str]:
    """`doing: 0:01:30 so far`, from now on."""
    began = time.monotonic()
    return lambda: f"{doing}: {timedelta(seconds=round(time.monotonic() - began))} so far"


class HowFar:
    """How far something is, as a line that can be asked for at any time."""

    def __init__(self, doing: str, unit: str):
        self._doing, self._unit = doing, unit
        self._nothing_yet = so_far(doing)
        self._at: tuple[int, int, float] | None = None

    def update(self, done: int, total: int, rate: float) -> None:
        """So many are done of all, at so many a second."""
        self._at = done, total, rate

    def __call__(self) -> str:
        """`doing: 3/4 cells, 2.5 cells/s, ETA 0:00:01`."""
        if self._at is None:
            return self._nothing_yet()
        done, total, rate = self._at
        eta = str(timedelta(seconds=round((total - done) / rate))) if rate > 0 else "unknown"
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{self._doing}: {done:,}/{total:,} {self._unit}, {speed} {self._unit}/s, ETA {eta}"
