"""A folder that a command writes into: this process's alone, none with somebody else's files, and whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from moe.errors import InputError, PlatformError
from moe.files import writing

LOCK = ".lock"
PARTIAL = ".partial-"


@contextmanager
def held(path: Path, *ours: str) -> Iterator[None]:
    """Hold a folder for `with`. It is made where there is none, and gone again where nothing was written into it.

    Args:
        path: the folder.
        ours: patterns of files; a folder that is not empty has to have one of them.

    The lock of a process that died is none, and says that the folder is ours. Raises InputError when another
    process holds it, and for other files in it; PlatformError where it cannot be written to.
    """
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    lock, is_ours = None, not (path / LOCK).exists()
    try:
        lock = _locked(path)
        lock.seek(0)
        if not lock.read().strip().isdigit():
            _check_ours(path, ours)
        is_ours = True
        with writing(path):
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n".encode())
        for left in path.glob(f"{PARTIAL}*"):  # of a process that died
            shutil.rmtree(left, ignore_errors=True)
        for half in path.rglob(".*.[0-9]*.partial"):
            half.unlink(missing_ok=True)
        yield
    finally:
        if lock is not None:
            if is_ours:
                (path / LOCK).unlink(missing_ok=True)  # still locked: who has it open meanwhile sees that
            lock.close()
        with suppress(OSError):  # up to the first that has something in it
            for folder in made:
                folder.rmdir()


@contextmanager
def filled(path: Path, last: str = "") -> Iterator[Path]:
    """A folder to fill, whose files take their places in a held one on success; before that, nothing changes.

    Args:
        path: the held folder.
        last: name of the file that says that the others are there: it goes first and comes last.

    Raises PlatformError for a full disk, or what else the system refuses.
    """
    with writing(path):
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path))
    try:
        yield partial
        with writing(path):
            if last:
                (path / last).unlink(missing_ok=True)
            files = [file for file in partial.rglob("*") if file.is_file()]
            for file in sorted(files, key=lambda file: (file.name == last, file)):
                place = path / file.relative_to(partial)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
    except PlatformError as error:
        is_new = {each.name for each in path.iterdir()} <= {LOCK, partial.name}
        kept = "" if is_new else "; what was there before is kept"
        raise PlatformError(str(error).replace(str(partial), str(path)) + kept) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _locked(path: Path) -> FileIO:
    """The lock's file, locked."""
    while True:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            try:
                lock = (path / LOCK).open("a+b", buffering=0)
            except FileNotFoundError:  # another process has just removed the folder
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with lock:
                    lock.seek(0)
                    other = lock.read().decode(errors="replace").strip() or "?"
                told = f"--out {path}: process {other} is writing into it; expected another folder"
                raise InputError(told) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), (path / LOCK).stat()):
                return lock
        lock.close()


def _check_ours(path: Path, ours: tuple[str, ...]) -> None:
    there = sorted(each.name for each in path.iterdir() if each.name != LOCK)
    if there and not any(True for pattern in ours for _ in path.glob(pattern)):
        raise InputError(f"--out {path}: expected a new folder, or one of this command; it has '{there[0]}'")
