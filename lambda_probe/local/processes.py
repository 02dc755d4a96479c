"""Child processes that die with this one."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lambda_probe.local.mounts import View

_PR_SET_PDEATHSIG = 1
_ROUNDS, _BETWEEN_S = 100, 0.002
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


class Nursery:
    """Starts all children from one thread that lives as long as the endpoint.

    Linux signals a child when the *thread* that started it ends, not the process.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nursery")

    def spawn(
        self,
        command: list[str],
        folder: Path,
        environment: Mapping[str, str],
        data_bytes: int | None = None,
        view: View | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, its stdout and stderr in one pipe.

        Args:
            data_bytes: RLIMIT_DATA, a backstop behind the memory watcher.
            view: what it sees of the file system; None: what this process sees.

        Raises OSError or SubprocessError where it cannot be started.
        """
        parent = os.getpid()
        if view is not None:
            view.prepare()

        def in_child() -> None:
            if view is not None:
                view.enter()
            if _LIBC is not None:
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)
            if data_bytes is not None:
                resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=in_child,
            )

        return self._thread.submit(start).result()

    def close(self) -> None:
        """End the thread; on Linux this ends children that are left."""
        self._thread.shutdown()


def mounts_of(pid: int) -> str:
    """The mount namespace of a process, as the kernel names it; empty when that cannot be read."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def end_all(belongs: Callable[[int], bool]) -> None:
    """Kill every process that belongs, and what these start meanwhile."""
    for _ in range(_ROUNDS):
        found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if belongs(pid)]
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_BETWEEN_S)


def started_with(pid: int, variable: bytes) -> bool:
    """Whether a process was started with this variable (`NAME=VALUE`)."""
    try:
        return variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
