"""One instance of a function: a process with AWS's runtime client in it, its limits and its log."""

from __future__ import annotations

import math
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread

from lambda_probe.local import limits
from lambda_probe.local.functions import Function
from lambda_probe.local.mounts import TMP, View, packages
from lambda_probe.local.processes import Nursery, end_all, mounts_of, started_with
from lambda_probe.local.runtime_api import Call, RuntimeApi, Said
from lambda_probe.local.s3_network import S3Network
from lambda_probe.local.settings import LocalSettings
from lambda_probe.local.walls import connected

_MB = 2**20
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_KEPT_LOG_BYTES = 64 * 1024
_EXIT_WAIT_S = 0.25  # a client whose answer was refused ends by itself


@dataclass(frozen=True)
class Ended:
    """How INIT or a call ended, and how long it took; `said` is None for a timeout."""

    said: Said | None
    duration_s: float


class Sandbox:
    """An instance of one version of a function. One call at a time; never used again after `close`.

    Args:
        own_view: whether it gets a /tmp of its own, and its code read-only.
        network: its way to S3, closed with it; None: its environment names S3 itself.
    """

    def __init__(
        self,
        function: Function,
        environment: Mapping[str, str],
        settings: LocalSettings,
        nursery: Nursery,
        own_view: bool,
        network: S3Network | None = None,
    ) -> None:
        self._network = network
        self.function, self.idle_since = function, time.monotonic()
        self._log, self._log_lock = bytearray(), Lock()
        self._out_of_memory = self._closed = self._frozen = False
        self._freeze_lock = Lock()
        self._temporary = Path(tempfile.mkdtemp(prefix="tmp-", dir=function.code.folder.parent))
        self._runtime = RuntimeApi(self._freeze, self._thaw, self._is_own)
        self._started = time.perf_counter()
        vcpu, limit_bytes = settings.vcpu(function.memory_mb), function.memory_mb * _MB
        view = View(self._temporary, function.code.folder) if own_view else None
        variables = _runtime_variables(function, self._runtime.address, TMP if view else self._temporary, vcpu)
        with self._freeze_lock:  # on a busy machine it asks for its first call before it is known here
            self._process = nursery.spawn(
                # -S: no .pth files, so nothing of an editable install; -P: not the current folder
                [sys.executable, "-S", "-P", "-m", "awslambdaric", function.handler],
                function.code.folder,
                {**environment, **variables},
                2 * limit_bytes + 256 * _MB if limits.SUPPORTED else None,
                view,
            )
        self.pid = self._process.pid
        self._mounts = mounts_of(self.pid) if view else ""
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._memory = self._cpu = None
        if limits.SUPPORTED:
            self._memory = limits.MemoryWatch(self.pid, limit_bytes, self._kill_out_of_memory)
            if vcpu < limits.cores():
                self._cpu = limits.CpuLimit(self.pid, vcpu, self._stop, self._resume)
        Thread(target=self._read_log, daemon=True).start()
        Thread(target=self._wait_for_exit, daemon=True).start()

    def initialise(self, limit_s: float, throttled: bool) -> Ended:
        """Wait until the handler is imported; `said.kind` is then `ready`."""
        self._begin(throttled)
        said = self._runtime.listen(limit_s - (time.perf_counter() - self._started))
        duration_s = time.perf_counter() - self._started
        self._end()
        return Ended(said, duration_s)

    def invoke(self, call: Call, limit_s: float) -> Ended:
        """Give it a call and wait for the answer."""
        self._begin(throttled=True)
        started = time.perf_counter()
        self._runtime.hand_over(call)
        said = self._runtime.listen(limit_s)
        duration_s = time.perf_counter() - started
        self._end()
        self.idle_since = time.monotonic()
        return Ended(said, duration_s)

    @property
    def out_of_memory(self) -> bool:
        """Whether the memory watcher killed it."""
        return self._out_of_memory

    def peak_mb(self) -> int:
        """The most memory it ever used, in MB; never above the function's, as on AWS."""
        highest = self._memory.highest if self._memory else 0
        return min(self.function.memory_mb, math.ceil(max(highest, limits.peak_bytes(self.pid)) / _MB))

    def alive(self) -> bool:
        """Whether its process is."""
        return self._process.poll() is None

    def take_log(self) -> bytes:
        """What it wrote since the last time (the end of it, when that is long)."""
        self._drain()
        with self._log_lock:
            written, self._log = bytes(self._log), bytearray()
        return written

    def close(self) -> None:
        """Kill it and all it started; remove its files."""
        if self._closed:
            return
        self._closed = True
        self._kill()
        for limit in (self._memory, self._cpu):
            if limit is not None:
                limit.close()
        self._process.wait()
        if limits.SUPPORTED:
            end_all(self._is_kin)
        self._runtime.close()
        if self._network is not None:
            self._network.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def wait_for_own_end(self) -> None:
        """Give a client whose answer was refused time to write its last words."""
        self._runtime.listen(_EXIT_WAIT_S)

    def _begin(self, throttled: bool) -> None:
        if self._memory is not None:
            self._memory.begin()
        if self._cpu is not None and throttled:
            self._cpu.begin()

    def _end(self) -> None:
        for limit in (self._memory, self._cpu):
            if limit is not None:
                limit.end()

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def _resume(self) -> None:
        with self._freeze_lock:
            if not self._frozen:
                self._process.send_signal(signal.SIGCONT)

    def _freeze(self) -> None:
        """Between calls nothing runs, threads of the handler included."""
        with self._freeze_lock:
            self._frozen = True
            self._stop()

    def _is_own(self, client_port: int, server_port: int) -> bool:
        with self._freeze_lock:  # it asks before it is known here
            return connected(self._process.pid, client_port, server_port)

    def _thaw(self) -> None:
        self._frozen = False
        self._resume()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _is_kin(self, pid: int) -> bool:
        """Whether a process, in a session of its own perhaps, is one that this instance started."""
        if self._mounts:
            return mounts_of(pid) == self._mounts
        return started_with(pid, f"AWS_LAMBDA_RUNTIME_API={self._runtime.address}".encode())

    def _kill_out_of_memory(self) -> None:
        self._out_of_memory = True
        self._kill()

    def _wait_for_exit(self) -> None:
        code = self._process.wait()
        self._runtime.tell(Said("exited", _exit_reason(code).encode()))

    def _read_log(self) -> None:
        something = select.poll()
        something.register(self._pipe, select.POLLIN)
        while self._drain():
            something.poll()

    def _drain(self) -> bool:
        """Read what is in the pipe; False at its end, and then it is closed."""
        with self._log_lock:
            while not self._pipe.closed:
                try:
                    read = os.read(self._pipe.fileno(), 65536)
                except BlockingIOError:
                    return True
                if not read:
                    self._pipe.close()
                self._log = (self._log + read)[-_KEPT_LOG_BYTES:]
        return False


def _exit_reason(code: int) -> str:
    if code == 0:
        return "Runtime exited without providing a reason"
    if code > 0:
        return f"Runtime exited with error: exit status {code}"
    name = signal.strsignal(-code) or str(-code)
    return f"Runtime exited with error: signal: {name.lower()}"


def _runtime_variables(function: Function, runtime_api: str, temporary: Path, vcpu: float) -> dict[str, str]:
    """What AWS sets in every sandbox; the packages of this interpreter are the managed runtime."""
    defaults = dict.fromkeys(_THREAD_VARIABLES, str(max(1, math.ceil(vcpu))))
    defaults |= {"PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(temporary), "HOME": str(temporary)}
    return {
        **{name: function.environment.get(name, value) for name, value in defaults.items()},
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_LOG_FORMAT": function.log_format,
        "LAMBDA_TASK_ROOT": str(function.code.folder),
        "_HANDLER": function.handler,
        "PYTHONPATH": os.pathsep.join((str(function.code.folder), *packages())),
    }
