"""What else this machine is doing: live durations are too long where others take its cores."""

from __future__ import annotations

import time
from pathlib import Path

STAT = Path("/proc/stat")


def busy_cores(seconds: float = 1.0) -> float:
    """Cores that are busy, on average over some seconds from now; NaN where the system does not tell."""
    if not STAT.is_file():
        return float("nan")
    before, began = _busy_ticks(), time.monotonic()
    time.sleep(seconds)
    return (_busy_ticks() - before) / 100 / (time.monotonic() - began)


def _busy_ticks() -> int:
    """Hundredths of core-seconds that were not idle, since the start of the system."""
    user, nice, system, _idle, _iowait, *rest = map(int, STAT.read_text().splitlines()[0].split()[1:])
    return user + nice + system + sum(rest[:3])
