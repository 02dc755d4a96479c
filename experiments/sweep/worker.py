"""Computing one point in a process of its own, here or on another machine."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from experiments.run.folder import RunFolder, Runnable, dump, run_key
from moe.errors import InputError

SCRATCH = ".point-"  # how names of folders begin that are not whole yet


@dataclass(frozen=True)
class Task:
    """What a worker is told.

    Attributes:
        runnable: the experiment or scenario. key: its hash where the sweep was started.
        folder: where the sweep was started; names of files are relative to it.
        scratch: where to work, if it is there (else the system's place for temporary files).
        command: of the sweep, for provenance.
    """

    runnable: Runnable
    key: str
    folder: str
    scratch: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back.

    Attributes:
        files: relative path -> content. Of a failed point: config.yaml alone.
        error: one line; None when the point is computed.
        trace: the whole traceback of a failure that is not the input's.
        seconds: wall time.
    """

    files: dict[str, bytes]
    error: str | None = None
    trace: str | None = None
    seconds: float = 0.0


def compute(task: Task) -> Outcome:
    """Compute one point in a temporary folder, and send its files; an error is an outcome, too."""
    from experiments.tools.console import log

    log.quiet = True
    if Path(task.folder).is_dir():
        os.chdir(task.folder)
    sys.argv = [sys.argv[0], *task.command]
    parent = task.scratch if Path(task.scratch).is_dir() else None
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
    began = time.perf_counter()
    try:
        return _files_of(task, scratch, began)
    except InputError as error:
        return _failed(task, str(error), None, scratch)
    except Exception as error:
        told = "".join(traceback.format_exception_only(error))
        return _failed(task, told, traceback.format_exc(), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _files_of(task: Task, scratch: Path, began: float) -> Outcome:
    from experiments.sweep.kinds import kind_of

    if run_key(task.runnable) != task.key:
        raise InputError("this worker has other code, or other files under the names in the experiment")
    folder = RunFolder(scratch, task.key)
    kind_of(task.runnable).run(task.runnable, folder)
    seconds = time.perf_counter() - began
    if not (scratch / "wall_times.json").exists():
        folder.write_json("wall_times.json", {"all": seconds})
    files = {
        str(file.relative_to(scratch)): file.read_bytes() for file in sorted(scratch.rglob("*")) if file.is_file()
    }
    return Outcome(files, seconds=seconds)


def _failed(task: Task, error: str, trace: str | None, scratch: Path) -> Outcome:
    """A failure in one line, which does not depend on where the worker happened to work."""
    told = " ".join(error.replace(str(scratch), "FOLDER").split())
    return Outcome({"config.yaml": dump(task.runnable).encode()}, told, trace)
