"""A file that a command writes is whole, or as it was: a full disk or a killed process costs no earlier result."""

import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moe.cache import new_folder
from moe.errors import PlatformError
from moe.files import write_whole


@contextmanager
def _at_most(size: int) -> Iterator[None]:
    """A disk that is full after so many bytes of a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    "content",
    ["ü\n", "ü\n".encode(), lambda path: path.write_text("ü\n", encoding="utf-8")],
    ids=["text", "bytes", "function"],
)
def test_text_bytes_and_what_a_function_writes_arrive(tmp_path: Path, content: object) -> None:
    """The file holds what was given; its folder is made, and nothing else is left in it."""
    path = tmp_path / "new" / "folder" / "a.txt"
    write_whole(path, content)  # type: ignore[arg-type]
    assert path.read_bytes() == "ü\n".encode()
    assert list(path.parent.iterdir()) == [path], "a temporary file is left beside the result"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, "others cannot read the result"


@pytest.mark.parametrize("content", ["x" * 100, lambda path: path.write_text("x" * 100)], ids=["text", "function"])
def test_a_full_disk_costs_nothing_that_was_there(tmp_path: Path, content: object) -> None:
    """One line says which file, why, and that the earlier one stands; it does, and no half of the new one."""
    path = tmp_path / "result.json"
    write_whole(path, "earlier")
    with _at_most(10), pytest.raises(PlatformError) as told:
        write_whole(path, content)  # type: ignore[arg-type]
    assert str(told.value) == f"{path}: cannot be written: File too large; what was there before is kept"
    assert path.read_text() == "earlier", "a failed write took the earlier result"
    assert list(tmp_path.iterdir()) == [path], "a half-written file is left"


def test_a_path_that_cannot_be_is_told_in_one_line(tmp_path: Path) -> None:
    """A folder's name that is a file's, and a file's that is a folder's, are said with their reasons."""
    write_whole(tmp_path / "a", "")
    with pytest.raises(PlatformError, match=r"a/b: cannot be written: (Not a directory|File exists)$"):
        write_whole(tmp_path / "a" / "b", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PlatformError, match=r"folder: cannot be written: Is a directory; what was there before"):
        write_whole(tmp_path / "folder", "")


def test_an_error_that_is_not_the_disks_is_passed_on(tmp_path: Path) -> None:
    """A writer that cannot say what it has is no full disk; its error stays what it was, and no file is left."""

    def write(path: Path) -> None:
        path.write_text("half")
        raise ValueError("no such number")

    with pytest.raises(ValueError, match="no such number"):
        write_whole(tmp_path / "a", write)
    assert not list(tmp_path.iterdir()), "a half-written file is left"


def test_a_killed_process_leaves_the_earlier_file(tmp_path: Path) -> None:
    """Killed in the middle of writing: the earlier result can still be read."""
    path = tmp_path / "a"
    write_whole(path, "earlier")
    script = (
        "import os, signal, sys\nfrom moe.files import write_whole\n"
        "def write(path):\n    path.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(sys.argv[1], write)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode < 0
    assert path.read_text() == "earlier", "a killed write took the earlier result"


def test_a_link_stays_a_link_and_a_stream_is_written_to(tmp_path: Path) -> None:
    """A result behind a link is replaced where it is; --out to a pipe or device does not replace the device."""
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "a")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "a").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    write_whole(tmp_path / "pipe", "told")
    reader.join(timeout=60)
    assert heard == ["told"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode), "the pipe was replaced by a file"


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    """A folder whose files do not fit on the disk is not there, and the line says so."""

    def fill() -> None:
        with new_folder(tmp_path / "folder") as partial, _at_most(10):
            (partial / "a").write_text("x" * 100)

    with pytest.raises(PlatformError, match=r"folder: cannot be written: File too large$"):
        fill()
    assert not list(tmp_path.iterdir()), "half a folder is left"
