"""Where points are computed: processes of this machine (joblib), or a Ray cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.sweep.worker import Outcome, Task, compute
from experiments.tools.provenance import ROOT
from experiments.tools.workers import ONE_THREAD, workers
from moe.errors import InputError
from moe.plugins import PLACES, PROJECT

LOCAL, RAY = "local", "ray"
RAY_ANSWERS_WITHIN_S = 30.0


@dataclass(frozen=True)
class Executor:
    """Computes points, several at once.

    Attributes:
        submit: starts one.
        workers: how many at once.
        died: what a future raises when its worker was killed or crashed (then others may, too).
    """

    submit: Callable[[Task], Future[Outcome]]
    workers: int
    died: tuple[type[BaseException], ...]


@contextmanager
def executor(name: str, count: int | None, address: str | None) -> Iterator[Executor]:
    """The executor `local` or `ray`; on leaving it nothing runs any more.

    Args:
        count: points at once; None: as many as there are cores.
        address: of a Ray cluster; None: $RAY_ADDRESS, else a cluster of this machine that ends with the sweep.

    Raises InputError when ray is not installed, and when the address does not answer.
    """
    with _ray(count, address) if name == RAY else _local(count) as made:
        yield made


@contextmanager
def _local(count: int | None) -> Iterator[Executor]:
    from joblib import cpu_count

    count = count or cpu_count()
    with workers(count) as submit:
        yield Executor(lambda task: submit(compute, task), count, (BrokenExecutor,))


@contextmanager
def _ray(count: int | None, address: str | None) -> Iterator[Executor]:
    ray = _import_ray()
    address = address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        _check_answers(address)
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"address": "local", "num_cpus": count, "include_dashboard": False}
    variables = ONE_THREAD | {"PYTHONSAFEPATH": "1"}
    variables |= {name: os.environ[name] for name in ("SMOE_CACHE", PLACES) if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="smoe-code-") as code:
        _copy_code(Path(code))
        runtime = {"working_dir": code, "env_vars": variables}
        ray.init(**options, runtime_env=runtime, log_to_driver=False, logging_level="ERROR")
        try:
            remote = ray.remote(num_cpus=1, max_retries=0)(compute)
            count = count or max(1, int(ray.cluster_resources().get("CPU", 1)))
            died = (
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.NodeDiedError,
                ray.exceptions.OutOfMemoryError,
            )
            yield Executor(lambda task: remote.remote(task).future(), count, died)
        finally:
            ray.shutdown()


def _import_ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of its next version
    try:
        import ray
    except ImportError:
        raise InputError(
            f"--executor ray: ray is not installed; install it with: {sys.executable} -m pip install ray"
        ) from None
    return ray


def _check_answers(address: str) -> None:
    """Raise InputError unless a Ray cluster answers. Tried in another process: ray itself may try for ever."""
    script = f"import ray; ray.init(address={address!r}, log_to_driver=False)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=RAY_ANSWERS_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"--ray-address {address}: no Ray cluster answered within {RAY_ANSWERS_WITHIN_S:g} s"
        ) from None
    if done.returncode:
        told = done.stderr.strip().splitlines() or ["no reason given"]
        refused = [line for line in told if "AuthenticationError" in line]
        raise InputError(f"--ray-address {address}: no Ray cluster there: {(refused or told)[-1]}")


def _copy_code(folder: Path) -> None:
    """The packages as they are here, so that every node computes with the same code."""
    for package in PROJECT:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
