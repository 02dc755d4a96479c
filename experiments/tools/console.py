"""What a person sees while a command runs: steps and progress on stderr, results on stdout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

out = Console(width=100, highlight=False)
log = Console(stderr=True, highlight=False)


@contextmanager
def step(number: int, of: int, doing: str) -> Iterator[Callable[[str], None]]:
    """One numbered step: a spinner while it runs, then what it came to and how long it took."""
    began = time.perf_counter()
    outcome = [""]

    def report(text: str) -> None:
        outcome[0] = text

    with log.status(f"[{number}/{of}] {doing} ..."):
        yield report
    log.print(
        f"[{number}/{of}] {doing}: {outcome[0]} [dim]({time.perf_counter() - began:.1f} s)[/dim]", soft_wrap=True
    )


@contextmanager
def progress(doing: str, unit: str) -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar with rate and ETA; the callable takes (done, total, done per second)."""
    columns = (
        TextColumn("      {task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=log, transient=True, disable=not log.is_terminal) as bar:
        task = bar.add_task(doing, total=None, rate="", visible=False)

        def update(done: int, total: int, rate: float) -> None:
            bar.update(task, completed=done, total=total, rate=f"{rate:,.0f} {unit}/s", visible=True)

        yield update
