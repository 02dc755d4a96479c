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

import pytest

from tests.faults.asked import SEED, WHOLE
from tests.faults.good_files import EXPERIMENT, ROOT, SCENARIO, SWEEP

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds workers through /proc"),
]
KILLS = 5 if WHOLE else 2
ENDED_WITHIN_S = 5.0
LOOKED_FOR_S = 30.0  # how long a process is looked for: one that is still there then is told with its age
CAMPAIGN = """
schema: probe-campaign/1
name: tiny
runs: 3
packages: {plain: {}}
probes:
  - {probe: cold, packages: [plain], memory_mb: [512, 1769], samples: 3}
  - {probe: warm, memory_mb: [512, 1769], samples: 20}
"""
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


def _tuning(folder: Path) -> None:
    from moe.files import write_json
    from moe.trace import save_trace
    from tests.optimizer.bo.bo_cases import binding_limit_s, small_problem
    from tests.optimizer.popularity.test_scored import random_trace

    write_json(folder / "problem.json", small_problem(binding_limit_s()))
    save_trace(random_trace(1, tokens=400, vocabulary=20), folder / "profiled.parquet")
    save_trace(random_trace(5, tokens=3100, vocabulary=40), folder / "serve.parquet")


FILES = ("--profiled", "profiled.parquet", "--serve", "serve.parquet")
TUNE = ("tune", "problem.json", *FILES, "--set", "pairs=40", "--trials", "6")
SMALL_MAP = ("x.points=2", "y.points=2", "draws.least=4", "draws.most=4")
COMMANDS: dict[str, Killed] = {
    "probe": Killed({"tiny.yaml": CAMPAIGN}, ("probe", "--backend", "simulated", "--campaign", "tiny.yaml")),
    "run": Killed({"experiment.yaml": EXPERIMENT}, ("run", "experiment.yaml")),
    "sweep": Killed({"sweep.yaml": SCENARIO + SWEEP}, ("traffic", "sweep.yaml", "--workers", "2")),
    "tune": Killed(_tuning, TUNE, ("history.parquet", "--resume")),
    "map": Killed({}, ("map", "map", "--workers", "2", *(f"--set={key}" for key in SMALL_MAP))),
    "figures": Killed({}, ("figures", "--quick", "--only", "2", "--workers", "2")),
}
SMALL = ("probe",)  # what runs with the rest of the tests, in seconds


@pytest.mark.parametrize("name", COMMANDS if WHOLE else SMALL)
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    asked, rng = COMMANDS[name], random.Random(zlib.crc32(f"{SEED} {name}".encode()))
    if callable(asked.files):
        asked.files(tmp_path)
    else:
        for file, text in asked.files.items():
            (tmp_path / file).write_text(text)
    began = time.monotonic()
    _whole(asked, tmp_path, "undisturbed")
    takes_s, hit = time.monotonic() - began, 0
    for _ in range(KILLS):
        killed = _killed(asked, tmp_path, rng.uniform(0.1, 0.95) * takes_s)
        hit += killed
        if not killed:  # it was done before
            shutil.rmtree(tmp_path / "killed")
    assert hit, f"{name} was never killed: it ends sooner than it did at first"
    _whole(asked, tmp_path, "killed")
    undisturbed, after = _files(tmp_path / "undisturbed"), _files(tmp_path / "killed")
    assert sorted(after) == sorted(undisturbed)
    assert [file for file in after if after[file] != undisturbed[file]] == []
    assert [file.name for file in tmp_path.rglob("*") if HALF.search(file.name)] == []


def _started(asked: Killed, folder: Path, out: str, mark: str = "") -> subprocess.Popen[str]:
    goes_on = asked.resume is not None and (folder / out / asked.resume[0]).exists()
    words = [*asked.words, "--out", out, *([asked.resume[1]] if asked.resume and goes_on else [])]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "SMOE_FAULTS_MARK": mark}
    command = [sys.executable, "-P", "-m", "experiments", *words]
    with (folder / "said").open("w") as said:
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=said, stderr=said, text=True)


def _whole(asked: Killed, folder: Path, out: str) -> None:
    """Run it to its end."""
    assert _started(asked, folder, out).wait() == 0, (folder / "said").read_text()


def _killed(asked: Killed, folder: Path, after_s: float) -> bool:
    """Kill it so long after its start; whether it was still running. No worker of it may live on."""
    mark = uuid.uuid4().hex
    running = _started(asked, folder, "killed", mark)
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
    return SECONDS.sub(b"", file.read_bytes())
