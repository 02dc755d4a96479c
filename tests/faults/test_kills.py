"""A command that is killed at any moment goes on, and ends as if nothing had been: else a night's work is lost."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.faults.asked import SEED, WHOLE
from tests.faults.good_files import CAMPAIGN, EXPERIMENT, PROBE, ROOT, SCENARIO, SWEEP, TUNE, tuning_files

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds workers through /proc"),
]
KILLS = 5 if WHOLE else 2
ENDED_WITHIN_S = 5.0
LOOKED_FOR_S = 30.0  # how long a process is looked for: one that is still there then is told with its age
OF_TIME = re.compile(r"provenance\.json|wall_times\.\w+|\.lock$|(^|/)cells/")
"""Files that say when and how long, and cells, which are kept for what is made of them."""
SECONDS = re.compile(rb'"(solve_s|wall_s|seconds|finished)": [-+.e\d]+')
HALF = re.compile(r"\.partial|\.tmp|\.point-|~$")


@dataclass(frozen=True)
class Killed:
    """A command that is killed.

    Attributes:
        files: what it reads: name -> content, or what makes the files.
        words: of its command line, but for --out.
        resume: option that makes it go on, once this file is in its folder.
    """

    files: Mapping[str, str] | Callable[[Path], None]
    words: tuple[str, ...]
    resume: tuple[str, str] | None = None


SMALL_MAP = ("x.points=2", "y.points=2", "draws.least=4", "draws.most=4")
COMMANDS: dict[str, Killed] = {
    "probe": Killed({"tiny.yaml": CAMPAIGN}, PROBE),
    "run": Killed({"experiment.yaml": EXPERIMENT}, ("run", "experiment.yaml")),
    "sweep": Killed({"sweep.yaml": SCENARIO + SWEEP}, ("traffic", "sweep.yaml", "--workers", "2")),
    "tune": Killed(tuning_files, (*TUNE, "--trials", "6"), ("history.parquet", "--resume")),
    "map": Killed({}, ("map", "map", "--workers", "2", *(f"--set={key}" for key in SMALL_MAP))),
    "figures": Killed({}, ("figures", "--quick", "--only", "2", "--workers", "2")),
}
SMALL = ("probe",)  # what runs with the rest of the tests, in seconds


@pytest.mark.parametrize("name", COMMANDS if WHOLE else SMALL)
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    asked, rng = COMMANDS[name], random.Random(zlib.crc32(f"{SEED} {name}".encode()))
    alone, killed = (_folder(asked, tmp_path / which) for which in ("alone", "killed"))
    began = time.monotonic()
    _whole(asked, alone)
    takes_s, hits = time.monotonic() - began, 0
    for _ in range(KILLS):
        hit = _killed(asked, killed, rng.uniform(0.1, 0.95) * takes_s)
        hits += hit
        if not hit:  # it was done before
            shutil.rmtree(killed / "out")
    assert hits, f"{name} was never killed: it ends sooner than it did at first"
    _whole(asked, killed)
    undisturbed, after = _files(alone / "out"), _files(killed / "out")
    assert sorted(after) == sorted(undisturbed)
    assert [file for file in after if after[file] != undisturbed[file]] == []
    assert [file.name for file in killed.rglob("*") if HALF.search(file.name)] == []


def _folder(asked: Killed, folder: Path) -> Path:
    """A folder with what the command reads."""
    folder.mkdir()
    if callable(asked.files):
        asked.files(folder)
    else:
        for file, text in asked.files.items():
            (folder / file).write_text(text)
    return folder


def _started(asked: Killed, folder: Path, mark: str = "") -> subprocess.Popen[str]:
    words = [*asked.words, "--out", "out"]
    if asked.resume is not None and (folder / "out" / asked.resume[0]).exists():
        words.append(asked.resume[1])
    variables = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "SMOE_FAULTS_MARK": mark}
    command = [sys.executable, "-P", "-m", "experiments", *words]
    with (folder / "said").open("w") as said:
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=said, stderr=said, text=True)


def _whole(asked: Killed, folder: Path) -> None:
    """Run it to its end."""
    assert _started(asked, folder).wait() == 0, (folder / "said").read_text()


def _killed(asked: Killed, folder: Path, after_s: float) -> bool:
    """Kill it so long after its start; whether it was still running. No worker of it may live on."""
    mark = uuid.uuid4().hex
    running = _started(asked, folder, mark)
    try:
        running.wait(after_s)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGKILL)
        running.wait()
    else:
        assert running.returncode == 0, (folder / "said").read_text()
        return False
    ended = time.monotonic()
    while (left := _marked(mark)) and time.monotonic() - ended < LOOKED_FOR_S:
        time.sleep(0.1)
    lived_s = time.monotonic() - ended
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert not left, f"{len(left)} workers live on {lived_s:.0f} s after the command was killed"
    if WHOLE:
        assert lived_s < ENDED_WITHIN_S, f"workers lived on for {lived_s:.1f} s"
    return True


def _marked(mark: str) -> list[int]:
    """Processes with the mark in their environment: the command's own workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"SMOE_FAULTS_MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # ended meanwhile, or another user's
            continue
    return found


def _files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, without what says when and how long."""
    names = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: _content(x) for name, x in names.items() if not OF_TIME.search(name)}


def _content(file: Path) -> bytes:
    """Of a file that says how long something took, the rest; of a campaign its calls, since it draws anew."""
    match file.name:
        case "rows.jsonl":
            return "\n".join(sorted(json.loads(line)["step"] for line in file.read_text().splitlines())).encode()
        case "measurements.parquet":
            return b""
        case "history.parquet":
            return pd.read_parquet(file).drop(columns="wall_s").to_csv().encode()
    return SECONDS.sub(b"", file.read_bytes())
