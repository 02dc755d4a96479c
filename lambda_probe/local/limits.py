"""CPU and memory limits of a sandbox, without root: a duty cycle, and a watcher of resident size (Linux)."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

PERIOD_S = 0.020
SHORTEST_WAIT_S = 0.0005
MEMORY_WATCH_S = 0.010
SUPPORTED = sys.platform.startswith("linux")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used (its POSIX CPU-time clock); OSError when it is gone."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Resident size of a process now; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def peak_bytes(pid: int) -> int:
    """The largest resident size that a process ever had; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


class _Limit(ABC):
    """A thread that works between `begin` and `end`, and waits otherwise."""

    def __init__(self) -> None:
        self._active, self._closed = Event(), False
        Thread(target=self._run, daemon=True).start()

    def begin(self) -> None:
        """The sandbox has work."""
        self._active.set()

    def end(self) -> None:
        """The sandbox waits for its next call."""
        self._active.clear()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._active.set()

    def _run(self) -> None:
        while not self._closed:
            self._active.wait()
            try:
                self._work()
            except OSError:  # the process is gone
                self._active.clear()

    def _on(self) -> bool:
        return self._active.is_set() and not self._closed

    @abstractmethod
    def _work(self) -> None:
        """One period of watching; until it is closed, again and again."""


class CpuLimit(_Limit):
    """A share of the CPU: each 20 ms period has a budget of CPU time; who has used it is stopped until the next.

    What is used beyond the budget (the clock is read a little late) is owed to the next periods.

    Args:
        share: cores, 0.25 is a quarter of one; threads share it.
        stop, resume: what stops the process, and lets it go on.
    """

    def __init__(self, pid: int, share: float, stop: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pid, self._budget_s = pid, share * PERIOD_S
        self._stop, self._resume = stop, resume
        super().__init__()

    def _work(self) -> None:
        credit_s, used_s = self._budget_s, cpu_s(self._pid)
        refill = time.monotonic() + PERIOD_S
        while self._on():
            to_refill = max(refill - time.monotonic(), SHORTEST_WAIT_S)
            time.sleep(min(max(credit_s / cores(), SHORTEST_WAIT_S), to_refill) if credit_s > 0 else to_refill)
            now, used = time.monotonic(), cpu_s(self._pid)
            credit_s, used_s = credit_s - (used - used_s), used
            stopped = credit_s <= 0
            if now >= refill:
                periods = int((now - refill) / PERIOD_S) + 1
                credit_s = min(credit_s + periods * self._budget_s, self._budget_s)
                refill += periods * PERIOD_S
            if credit_s <= 0:
                self._stop()
            elif stopped:
                self._resume()
        self._resume()


class MemoryWatch(_Limit):
    """Looks at the resident size each 10 ms, and acts once when it is above the limit.

    RLIMIT_AS would be wrong: torch maps three times what it touches.

    Attributes:
        highest: the largest size seen, in bytes.
    """

    def __init__(self, pid: int, limit_bytes: int, over: Callable[[], None]) -> None:
        self._pid, self._limit_bytes, self._over = pid, limit_bytes, over
        self.highest = 0
        super().__init__()

    def _work(self) -> None:
        while self._on():
            self.highest = max(self.highest, resident_bytes(self._pid))
            if self.highest > self._limit_bytes:
                self._over()
                self._closed = True
            time.sleep(MEMORY_WATCH_S)
