"""Progress without a terminal: a run in the background that says nothing for an hour looks like one that hangs."""

import time
from pathlib import Path

import pytest
from rich.table import Table

from experiments.cli import cli
from experiments.tools import console, heartbeat
from moe.errors import InputError


class Said:
    """All that was written to stderr, which is no terminal here."""

    def __init__(self, capture: pytest.CaptureFixture[str]):
        self._capture, self._text = capture, ""

    def getvalue(self) -> str:
        """Until now."""
        self._text += self._capture.readouterr().err
        return self._text


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command in a pipe writes to stderr."""
    return Said(capsys)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines every hundredth of a second."""
    monkeypatch.setattr(heartbeat, "LINE_S", 0.01)


def wait_for(said: Said, text: str) -> None:
    """Until something was written; a minute is enough on any machine."""
    until = time.monotonic() + 60
    while text not in said.getvalue():
        assert time.monotonic() < until, f"{text!r} was not written: {said.getvalue()!r}"
        time.sleep(0.005)


@pytest.mark.usefixtures("often")
def test_a_line_now_and_then_says_what_how_far_and_until_when(said: Said) -> None:
    """Also while one cell takes minutes: a command in a pipe that is silent looks like one that hangs."""
    with console.progress("mapping [x]", "cells") as update:
        wait_for(said, "mapping [x]: 0:00:0")
        update(1500, 10_000, 2.5)
        wait_for(said, "mapping [x]: 1,500/10,000 cells, 2.5 cells/s, ETA 0:56:40\n")
        update(3000, 10_000, 0.0)
        wait_for(said, "mapping [x]: 3,000/10,000 cells, 0 cells/s, ETA unknown\n")
    written = said.getvalue()
    time.sleep(0.1)
    assert said.getvalue() == written


def test_of_what_takes_less_no_line_is_written(said: Said) -> None:
    with console.progress("mapping", "cells") as update, console.doing("measuring"):
        update(3, 4, 1.0)
    assert said.getvalue() == ""


@pytest.mark.usefixtures("often")
def test_of_nested_waits_the_innermost_is_told(said: Said) -> None:
    """A step that records text says how many tokens it has, not twice that it is running."""
    with console.step(1, 5, "Routing text"):
        with console.progress("recording", "tokens") as update:
            update(3, 4, 1.0)
            wait_for(said, "recording: 3/4 tokens")
        wait_for(said, "[1/5] Routing text: 0:00:0")


@pytest.mark.usefixtures("often")
def test_a_wait_says_what_it_is_at_by_now(said: Said) -> None:
    with console.doing("validation") as now:
        wait_for(said, "validation: 0:00:0")
        now("serving plan 2")
        wait_for(said, "serving plan 2: 0:00:0")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("map map", "experiments.cost.decision_map.make_map"),
        ("figures --quick", "experiments.paper.job.run_figures"),
        ("presets", "experiments.studies.presets.study_presets"),
        ("sensitivity", "experiments.studies.sensitivity.study"),
        ("validate --quick", "experiments.live.run.run_validation"),
        ("bench simulator", "experiments.benches.simulator.simulator_speed"),
        ("bench optimizer", "experiments.benches.optimizer.optimizer_speed"),
        ("bench validation", "experiments.validation.page.validate"),
        ("bench calibration", "experiments.benches.calibration.study"),
    ],
)
def test_a_command_in_a_pipe_is_not_silent(
    command: str, heavy: str, said: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Six minutes without a word: the user stops what was almost done."""
    monkeypatch.chdir(tmp_path)
    before: list[str] = []

    def takes_long(*_: object, **__: object) -> None:
        before.append(said.getvalue())
        until = time.monotonic() + 60
        while said.getvalue() == before[0]:
            assert time.monotonic() < until, "nothing was written"
            time.sleep(0.005)
        raise InputError("was told")

    monkeypatch.setattr(heavy, takes_long)
    with pytest.raises(InputError, match="was told"):
        cli.main(command.split(), prog_name="smoe", standalone_mode=False)
    assert "so far" in said.getvalue().removeprefix(before[0])


@pytest.mark.parametrize("name", ["run[exp]", "b[/]", "[/x]", "[bold]x", ":smile:", "a\\[b"])
def test_names_are_shown_as_they_are(name: str) -> None:
    """A folder `run[exp]` was shown as `run`, and a function `b[/]` ended a finished run with a traceback."""
    table = Table(name, title=name)
    table.add_row(name)
    with console.log.capture() as steps, console.step(1, 2, name) as report:
        report(name)
    with console.out.capture() as shown:
        console.out.print(f"Look at {name}/", soft_wrap=True)
        console.out.print(table)
    assert steps.get().startswith(f"[1/2] {name}: {name} (")
    assert shown.get().startswith(f"Look at {name}/\n")
    assert shown.get().count(name) == 4
