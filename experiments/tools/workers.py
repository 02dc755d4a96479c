"""Worker processes of this machine: they end with the process that started them, however it ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeAlias

Submit: TypeAlias = Callable[..., "Future[Any]"]

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Environment of a worker: the workers themselves use the cores. torch follows OMP_NUM_THREADS."""
IDLE_S = 300
PARENT_LOOK_S = 0.5


@contextmanager
def workers(count: int) -> Iterator[Submit]:
    """Takes a function and its arguments, as `Executor.submit`; on leaving it nothing runs any more.

    A worker that dies breaks the calls that run and wait beside it (BrokenExecutor); later ones get new workers.
    """
    from joblib.externals.loky import get_reusable_executor

    def pool() -> Any:  # again the same one, or a new one where a worker has died
        return get_reusable_executor(
            max_workers=count, timeout=IDLE_S, env=ONE_THREAD, initializer=_started, initargs=(os.getpid(),)
        )

    try:
        yield lambda function, *arguments: pool().submit(function, *arguments)
    finally:
        pool().shutdown(wait=True, kill_workers=True)


def _started(parent: int) -> None:
    """End this process soon after its parent has ended; a Ctrl-C on the terminal is the parent's to hear."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_S)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
