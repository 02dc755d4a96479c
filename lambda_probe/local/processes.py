"""Child processes that die with this one."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


class Nursery:
    """Starts all children from one thread that lives as long as the endpoint.

    Linux signals a child when the *thread* that started it ends, not the process.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nursery")

    def spawn(
        self, command: list[str], folder: Path, environment: Mapping[str, str], data_bytes: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, its stdout and stderr in one pipe.

        Args:
            data_bytes: RLIMIT_DATA, a backstop behind the memory watcher.
        """
        parent = os.getpid()

        def in_child() -> None:
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
