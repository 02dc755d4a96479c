"""Progress without a terminal: a run in the background that says nothing for an hour looks like one that hangs."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from experiments.tools import console


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to a log that is no terminal."""
    text = io.StringIO()
    monkeypatch.setattr(console, "log", Console(file=text, highlight=False, markup=False))
    return text


def test_a_line_now_and_then_says_what_how_far_and_until_when(
    said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line in a quarter of a minute: no more, and none of what is done sooner."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("mapping [x]", "cells") as update:
        for second in range(40):
            now[0] = float(second)
            update(100 * second, 10_000, 2.5)
    assert said.getvalue().splitlines() == [
        "mapping [x]: 1,500/10,000 cells, 2.5 cells/s, ETA 0:56:40",
        "mapping [x]: 3,000/10,000 cells, 2.5 cells/s, ETA 0:46:40",
    ]


def test_a_rate_that_is_not_known_is_no_error(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was computed yet, only read: the line says so and the run goes on."""
    monkeypatch.setattr(console, "LINE_S", 0.0)
    with console.progress("mapping", "cells") as update:
        update(3, 4, 0.0)
        update(3, 4, 12345.6)
        update(4, 4, 1.0)
    assert said.getvalue().splitlines() == [
        "mapping: 3/4 cells, 0 cells/s, ETA unknown",
        "mapping: 3/4 cells, 12,346 cells/s, ETA 0:00:00",
    ]


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
