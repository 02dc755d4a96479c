"""Whose a folder is: if these fail, two commands mix their files in one, or a user's own files are overwritten."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moe.errors import InputError, PlatformError
from moe.files import write_whole
from moe.held import LOCK, filled, held
from tests.moe.test_files import _at_most


def test_a_folder_is_one_commands_at_a_time_and_the_other_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with held(folder), pytest.raises(InputError, match=f"process {os.getpid()} is writing into it"), held(folder):
        raise AssertionError("two commands write into one folder")
    with held(folder):
        (folder / "result").touch()
    assert [each.name for each in folder.iterdir()] == ["result"], "the lock was left behind"


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path / "results" / "runs" / "name"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    for name in ("thesis.tex", LOCK):
        (tmp_path / name).write_text("of the user")
    with pytest.raises(InputError, match=r"one of this command; it has 'thesis\.tex'"), held(tmp_path, "map.json"):
        raise AssertionError("files of a user may be overwritten")
    assert {each.read_text() for each in tmp_path.iterdir()} == {"of the user"}
    (tmp_path / "map.json").touch()
    with held(tmp_path, "map.json"):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "of the user"


def test_who_was_killed_holds_nothing_and_its_folder_is_still_ours(tmp_path: Path) -> None:
    """Killed before its first file: the same command goes on there, rid of what was half done."""
    script = (
        "import os, sys, pathlib\nfrom moe.held import filled, held\npath = pathlib.Path(sys.argv[1])\n"
        "with held(path), filled(path) as partial:\n    (partial / 'half').touch()\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], cwd=Path.cwd(), check=False)
    assert done.returncode == -9
    assert len(list((tmp_path / "out").iterdir())) == 2, "a lock and a partial folder"
    with held(tmp_path / "out", "map.json"):
        assert [each.name for each in (tmp_path / "out").iterdir()] == [LOCK]


def test_files_come_together_or_stay_as_they_were(tmp_path: Path) -> None:
    """A disk that fills up costs the new result, not the old one."""
    (tmp_path / "a").write_text("old")

    def fill() -> None:
        with _at_most(10), filled(tmp_path) as partial:
            write_whole(partial / "a", "new")
            write_whole(partial / "b", "x" * 100)

    with pytest.raises(
        PlatformError, match=rf"^{tmp_path}/b: cannot be written: File too large; what was there .* kept$"
    ):
        fill()
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"a": "old"}
    with filled(tmp_path, last="z") as partial:
        write_whole(partial / "in" / "b", "new")
        write_whole(partial / "z", "done")
    assert (tmp_path / "in" / "b").read_text() == "new"


def test_what_a_killed_process_had_half_written_is_gone_when_the_folder_is_next_held(tmp_path: Path) -> None:
    """Else a folder fills with pieces of files, one a kill."""
    folder = tmp_path / "run"
    with held(folder):
        (folder / "inside").mkdir()
        (folder / "inside" / "cell.json").write_text("whole")
    for half in (folder / ".history.parquet.123.partial", folder / "inside" / ".cell.json.45.partial"):
        half.write_text("ha")
    with held(folder, "inside"):
        pass
    assert [file.name for file in folder.rglob("*")] == ["inside", "cell.json"]
