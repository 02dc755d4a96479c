"""Cells of a study: half an hour of computing is not lost to a kill or an error, nor another by other workers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.tools.kept import Store
from moe.files import FileModel

ROOT = Path(__file__).resolve().parents[3]


class Number(FileModel):
    """A cell: a number; each computing of it is noted in the folder's log."""

    number: int
    folder: str


def third(cell: Number) -> dict[str, Any]:
    """A float that no decimal number is, for a number."""
    with (Path(cell.folder) / "log").open("a") as log:
        log.write(f"{cell.number}\n")
    return {"third": cell.number / 3}


def fails_at_odd(cell: Number) -> dict[str, Any]:
    """As `third`, but for odd numbers."""
    if cell.number % 2:
        raise ValueError(f"number {cell.number}")
    return third(cell)


def killed_at_two(cell: Number) -> dict[str, Any]:
    """As `third`, but the process is killed at 2, once."""
    mark = Path(cell.folder) / "killed"
    if cell.number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return third(cell)


def cells(folder: Path, count: int = 4) -> list[Number]:
    return [Number(number=number, folder=str(folder)) for number in range(count)]


def computed(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "log").read_text().split()]


WANTED = [{"third": number / 3} for number in range(4)]


@pytest.mark.parametrize("workers", [1, 2])
def test_values_and_files_do_not_depend_on_the_workers(tmp_path: Path, workers: int) -> None:
    """The same bytes under the same names, whoever computed them; and what was read is what was computed."""
    alone, other = Store(tmp_path / "alone"), Store(tmp_path / "other", workers=workers)
    assert alone.values("x", third, cells(tmp_path)) == WANTED
    assert other.values("x", third, cells(tmp_path)) == WANTED
    mine, theirs = ({file.name: file.read_bytes() for file in x.folder.iterdir()} for x in (alone, other))
    assert mine == theirs
    assert Store(tmp_path / "other").values("x", third, cells(tmp_path)) == WANTED
    assert len(computed(tmp_path)) == 8, "what was kept was computed again"
    Store(tmp_path / "other", fresh=True).values("x", third, cells(tmp_path))
    assert len(computed(tmp_path)) == 12, "--fresh did not compute anew"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_stops_no_other_cell_and_the_first_cells_is_raised(tmp_path: Path, workers: int) -> None:
    """One bad cell costs itself: the others are computed and kept. Which error is told depends on no race."""
    with pytest.raises(ValueError, match="number 1"):
        Store(tmp_path / "cells", workers=workers).values("x", fails_at_odd, cells(tmp_path))
    assert sorted(computed(tmp_path)) == [0, 2]
    with pytest.raises(ValueError, match="number 1"):
        Store(tmp_path / "cells").values("x", fails_at_odd, cells(tmp_path))
    assert sorted(computed(tmp_path)) == [0, 2], "a cell that was kept was computed again"


def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    """What was computed before the kill is read, the rest is computed, and no half of a file is in the way."""
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
        "from pathlib import Path\nfrom test_kept import Store, cells, killed_at_two\n"
        f"folder = Path({str(tmp_path)!r})\nStore(folder / 'cells').values('x', killed_at_two, cells(folder))\n"
    )
    first, second = (subprocess.run([sys.executable, "-c", script], check=False).returncode for _ in range(2))
    assert (first, second) == (-signal.SIGKILL, 0)
    assert computed(tmp_path) == [0, 1, 2, 3], "the study did not go on from what it had"


@pytest.mark.parametrize("fault", ["short", "bit", "other cell"])
def test_what_cannot_be_read_is_computed_again(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was cut short, a digit that a disk changed, another cell's value: none is a result."""
    Store(tmp_path / "cells").values("x", third, cells(tmp_path, 2))
    files = {json.loads(file.read_text())["value"]["third"]: file for file in (tmp_path / "cells").iterdir()}
    text = files[0.0].read_text()
    damaged = {"short": text[:5], "bit": text.replace("0.0", "0.4"), "other cell": files[1 / 3].read_text()}
    files[0.0].write_text(damaged[fault])
    assert Store(tmp_path / "cells").values("x", third, cells(tmp_path, 2)) == WANTED[:2]
    assert computed(tmp_path) == [0, 1, 0]
    (told,) = caplog.messages
    assert told == f"smoe: {files[0.0]}: damaged, or made for something else; made anew"
    assert files[0.0].read_text() == text


def test_progress_counts_what_is_there(tmp_path: Path) -> None:
    """A study that goes on shows how far it is, and the rate of what it computes, not of what it reads."""
    Store(tmp_path / "cells").values("x", third, cells(tmp_path, 3))
    told: list[tuple[int, int, float]] = []
    Store(tmp_path / "cells").values("x", third, cells(tmp_path), lambda *update: told.append(update))
    assert [(done, total) for done, total, _ in told] == [(3, 4), (4, 4)]
    assert told[0][2] == 0


def test_studies_with_equal_cells_share_no_file(tmp_path: Path) -> None:
    """Figures whose rows come from one module, as those of Fig. 4 and 11: the second would get the first's."""
    store = Store(tmp_path / "cells")
    for study in ("fig04", "fig11"):
        store.values(study, third, cells(tmp_path, 1))
    assert computed(tmp_path) == [0, 0]
