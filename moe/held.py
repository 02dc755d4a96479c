"""A folder that a command writes into: this process's alone, and none with somebody else's files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from moe.errors import InputError
from moe.files import writing

LOCK = ".lock"


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
    lock = None
    try:
        lock = _locked(path)
        lock.seek(0)
        was_ours = lock.read().strip().isdigit()
        if not was_ours:
            _check_ours(path, ours)
        _note(lock, f"{os.getpid()}\n")
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                (path / LOCK).unlink()  # still locked: who has it open meanwhile sees that it is gone
            lock.close()
        with suppress(OSError):  # up to the first that has something in it
            for folder in made:
                folder.rmdir()


def _locked(path: Path) -> TextIO:
    """The lock's file, locked."""
    while True:
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            try:
                lock = (path / LOCK).open("a+", encoding="utf-8")
            except FileNotFoundError:  # another process has just removed the folder
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with lock:
                    lock.seek(0)
                    other = lock.read().strip() or "?"
                told = f"--out {path}: process {other} is writing into it; expected another folder"
                raise InputError(told) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), (path / LOCK).stat()):
                return lock
        lock.close()


def _note(lock: TextIO, text: str) -> None:
    lock.truncate(0)
    lock.write(text)
    lock.flush()


def _check_ours(path: Path, ours: tuple[str, ...]) -> None:
    there = sorted(each.name for each in path.iterdir() if each.name != LOCK)
    if there and not any(True for pattern in ours for _ in path.glob(pattern)):
        raise InputError(f"--out {path}: expected a new folder, or one of this command; it has '{there[0]}'")
