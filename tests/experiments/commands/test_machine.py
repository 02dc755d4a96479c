"""When the machine does not do its part: full disks, signals, kills, two commands at once, a user's own files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import EXAMPLES
from tests.experiments.conftest import Run

ROOT = Path(__file__).resolve().parents[3]
TINY = str(EXAMPLES / "tiny.problem.json")
SCENARIO = """
name: t
arrivals: {poisson: {rate_per_s: 4}}
duration_s: 20
slo_s: 1
function: {memory_mb: 512, work: {constant_s: 0.2}}
"""
MAP = "experiments/configs/map.yaml"
INTERRUPTED = "smoe: interrupted; what was finished is kept"


AT_IMPORT = """
import os, runpy, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # as on a terminal


module, number, *arguments = sys.argv[1:]


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), int(number))


sys.meta_path.insert(0, Finder())
sys.argv[1:] = arguments
runpy.run_module("experiments", run_name="__main__")
"""


def started(
    *arguments: str, folder: Path = ROOT, stdout: int = subprocess.PIPE, at: tuple[str, int] = ("none", 0)
) -> "subprocess.Popen[str]":
    """Type `smoe` in a folder, and do not wait.

    Args:
        at: a module, and a signal that comes when it is imported.
    """
    command = [sys.executable, "-P", "-c", AT_IMPORT, at[0], str(int(at[1])), *arguments]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    return subprocess.Popen(command, cwd=folder, env=variables, text=True, stdout=stdout, stderr=subprocess.PIPE)


def said(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "ok.yaml").write_text(SCENARIO)
    return str(tmp_path / "ok.yaml")


@pytest.mark.slow
def test_four_seeds_at_once_lose_no_result(scenario: str, tmp_path: Path) -> None:
    """Each takes a name of its own; into one folder that was named, one goes and the others say so."""
    runs = [started("traffic", scenario, f"--seed={seed}", folder=tmp_path) for seed in range(4)]
    assert [said(run)[0] for run in runs] == [0] * 4
    results = sorted((tmp_path / "results" / "runs").glob("*/result.json"))
    assert len(results) == 4, "a result was overwritten by another seed's"
    runs = [started("traffic", scenario, f"--seed={seed}", "--out=o", folder=tmp_path) for seed in range(2)]
    ended = [said(run) for run in runs]
    assert sorted(code for code, _, _ in ended) == [0, 2]
    for _, _, err in (each for each in ended if each[0]):
        assert "is writing into it" in err or "holds the results of another experiment" in err


def test_a_run_that_fails_leaves_no_folder_and_the_earlier_as_it_was(
    smoe: Run, scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.traffic import run

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "latency.png")

    folder = tmp_path / "o"
    with monkeypatch.context() as patch:
        patch.setattr(run, "draw_latency", full)
        code, _, err = smoe("traffic", scenario, "--out", str(folder))
    assert (code, folder.exists()) == (1, False)
    assert err.splitlines()[-1].startswith("smoe: latency.png: No space left on device")
    assert smoe("traffic", scenario, "--out", str(folder))[0] == 0
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(run, "draw_latency", full)
        assert smoe("traffic", scenario, "--out", str(folder))[0] == 1
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize(
    "command",
    [
        ("traffic", "SCENARIO"),
        ("map", MAP),
        ("sensitivity", "--samples", "2"),
        ("presets", "olmoe-1b-7b"),
        ("figures", "--quick", "--only", "ranking"),
        ("probe", "--backend", "simulated", "--campaign", "quick"),
    ],
    ids=lambda command: command[0],
)
def test_a_folder_with_files_of_the_user_is_refused(
    smoe: Run, scenario: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    typed = [part.replace("SCENARIO", scenario) for part in command]
    code, _, err = smoe(*typed, "--out", str(out))
    assert (code, len(err.splitlines())) == (2, 1), err
    assert f"--out {out}: expected a new folder, or one of this command; it has 'thesis.tex'" in err
    assert [each.name for each in out.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("command", [("plan", TINY, "--solver", "ods"), ("schema", "plan"), ("doctor",)])
def test_a_console_that_takes_no_more_is_one_line_and_one_that_is_closed_none(command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        code, _, err = said(started(*command, stdout=full.fileno()))
    assert (code, err) == (1, "smoe: No space left on device; what was finished is kept\n")
    read, write = os.pipe()
    os.close(read)
    code, _, err = said(started(*command, stdout=write))
    os.close(write)
    assert (code, err) == (1, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["click", "experiments.commands.tune", "numpy", "scipy.stats"])
def test_a_signal_during_imports_is_one_line(number: int, module: str, tmp_path: Path) -> None:
    """Ctrl-C in the first second, of who saw a typing error: no page of traceback, no folder."""
    code, out, err = said(started("map", MAP, "--out", str(tmp_path / "map"), at=(module, number)))
    assert (code, out, err.strip()) == (1, "", INTERRUPTED)
    assert not list(tmp_path.iterdir())


def test_the_command_line_is_read_before_anything_heavy_is_imported() -> None:
    """Else a typing error, and --help, take a second."""
    script = "import sys, experiments.cli; print({'numpy', 'pydantic', 'yaml', 'optimizer'} & set(sys.modules))"
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-P", "-c", script], text=True, env=variables) == "set()\n"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_a_command_that_is_stopped_or_killed(number: int, tmp_path: Path) -> None:
    """Half an hour of two cores, of which nobody knows what they compute; and what was finished is kept."""
    quick_cells = [f"--set=draws.{key}=4" for key in ("least", "most")]
    process = started("map", MAP, "--workers", "2", *quick_cells, "--out", str(tmp_path / "map"))
    until = time.monotonic() + 300
    while not list(tmp_path.glob("map/cells/map-*")):  # workers are at work
        assert time.monotonic() < until
        time.sleep(0.1)
    children = _children(process.pid)
    assert len(children) > 1
    process.send_signal(number)
    code, _, err = said(process)
    if number != signal.SIGKILL:
        assert (code, err.splitlines()[-1:]) == (1, [INTERRUPTED])
        assert "Traceback" not in err
        assert "semlock" not in err, "semaphores are left"
    until = time.monotonic() + 60  # it takes half a second; more where the machine is busy
    while [child for child in children if Path(f"/proc/{child}").exists()]:
        assert time.monotonic() < until, "a worker computes on without its command"
        time.sleep(0.1)
    assert list(tmp_path.glob("map/cells/map-*"))


def _children(pid: int) -> list[str]:
    return [child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


def test_clean_removes_what_it_made_and_nothing_beside_it(
    smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SMOE_CACHE may point to a home folder by mistake, and results/runs may have a user's folder in it."""
    home = tmp_path / "home"
    ours = (f"traces/minilm-{'0a' * 12}.parquet", f"models/smollm2-{'b' * 16}/w", "texts/botchan.txt")
    theirs = ("thesis.tex", "models/mine.pt", "texts/letter.txt", "traces/2024.parquet", "results/runs/mine/x")
    for name in (*ours, *theirs, "results/runs/t/provenance.json"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")
    monkeypatch.setenv("SMOE_CACHE", str(home))
    monkeypatch.chdir(home)
    code, out, _ = smoe("clean", "--runs", "--yes")
    assert code == 0
    assert {str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()} == set(theirs)
    assert f"{home / 'results' / 'runs'}: kept what was not made by smoe: mine" in out
    assert "nothing to remove" in smoe("clean", "--yes")[1]
