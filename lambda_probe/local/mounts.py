"""An instance's own view of the file system: another /tmp, its code read-only; by a mount namespace (Linux).

Source: mount_namespaces(7), user_namespaces(7), mount(2).
"""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

TMP = Path("/tmp")
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
_KEPT_FLAGS = (
    0x2 | 0x4 | 0x8 | 0x400 | 0x800
)  # nosuid, nodev, noexec, noatime, nodiratime: the same numbers in statvfs
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def outside_tmp() -> str | None:
    """Where the endpoint's own files go: not into /tmp where that can be helped, so that a function's is empty."""
    default, other = os.environ.get("TMPDIR"), "/var/tmp"
    return other if not default and os.access(other, os.W_OK | os.X_OK) else None


@dataclass(frozen=True)
class View:
    """What an instance sees.

    Attributes:
        tmp: the folder that is its /tmp. task: the folder that it can read only, at the same place.
    """

    tmp: Path
    task: Path

    def prepare(self) -> None:
        """Make room for what stays of the machine's /tmp: code and interpreter, if they are there."""
        for path in self._kept():
            (self.tmp / path.relative_to(TMP)).mkdir(parents=True, exist_ok=True)

    def enter(self) -> None:
        """See it from now on: for a new process with one thread. Raises OSError where that is not allowed."""
        _leave_the_shared_mounts()
        kept = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in self._kept()}
        _mount(self.tmp, TMP, _BIND | _RECURSIVE)
        for path, there in kept.items():
            _mount(Path(f"/proc/self/fd/{there}"), path, _BIND | _RECURSIVE)
        _mount(self.task, self.task, _BIND | _RECURSIVE)
        flags = os.statvfs(self.task).f_flag & _KEPT_FLAGS
        _mount(self.task, self.task, _REMOUNT | _BIND | _READ_ONLY | flags)
        os.chdir(self.task)  # it stood in the folder as it was

    def _kept(self) -> list[Path]:
        needed = [self.task, *map(Path, (sys.prefix, sys.base_prefix, *packages()))]
        found = {path.resolve() for path in needed if path.resolve().is_relative_to(TMP)}
        return sorted(path for path in found if not found & set(path.parents))


def packages() -> list[str]:
    """Where this interpreter's packages are: the managed runtime of a function."""
    return list(dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))))


def _leave_the_shared_mounts() -> None:
    """A mount namespace, in a user namespace where this user may not have one otherwise."""
    user, group = os.geteuid(), os.getegid()
    try:
        _call("unshare", _NEW_MOUNTS)
    except PermissionError:
        _call("unshare", _NEW_USER | _NEW_MOUNTS)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _mount(None, Path("/"), _RECURSIVE | _PRIVATE)


def _mount(source: Path | None, target: Path, flags: int) -> None:
    _call("mount", None if source is None else os.fsencode(source), os.fsencode(target), None, flags, None)


def _call(name: str, *arguments: bytes | int | None) -> None:
    if _LIBC is None:
        raise PermissionError(f"{name}: not on {sys.platform}")
    if getattr(_LIBC, name)(*(ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments)):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
