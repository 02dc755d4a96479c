"""What a person sees while a command runs: steps and progress on stderr, results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from experiments.tools.heartbeat import HowFar, so_far, told
from moe.errors import InputError

if TYPE_CHECKING:
    from lambda_probe.campaign.costs import Estimate

out = Console(width=100, highlight=False, markup=False, emoji=False)
log = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""A name or path is shown as it is: nothing in brackets is a style, and nothing between colons a picture."""


@contextmanager
def doing(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner while something runs, or a line now and then. The callable says what it is at by now."""
    line = [so_far(what)]
    with log.status(Text(f"{what} ...")) as status, told(lambda: line[0]()):

        def now(text: str) -> None:
            line[0] = so_far(text)
            status.update(Text(f"{text} ..."))

        yield now


@contextmanager
def step(number: int, of: int, doing: str) -> Iterator[Callable[[str], None]]:
    """One numbered step: a spinner while it runs, then what it came to and how long it took."""
    began = time.perf_counter()
    outcome = [""]

    def report(text: str) -> None:
        outcome[0] = text

    name = f"[{number}/{of}] {doing}"
    with log.status(Text(f"{name} ...")), told(so_far(name)):
        yield report
    took = faint(f"({time.perf_counter() - began:.1f} s)")
    log.print(f"{name}: {outcome[0]}", took, soft_wrap=True)


def faint(text: str) -> Text:
    """A remark at the end of a line."""
    return Text(text, style="dim")


@contextmanager
def progress(doing: str, unit: str) -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar with rate and ETA, or a line now and then where stderr is no terminal.

    The callable takes (done, total, done per second).
    """
    if not log.is_terminal:
        how_far = HowFar(doing, unit)
        with told(how_far):
            yield how_far.update
        return
    columns = (
        TextColumn("      {task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit, markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=log, transient=True) as bar:
        task = bar.add_task(doing, total=None, rate="", visible=False)

        def update(done: int, total: int, rate: float) -> None:
            bar.update(task, completed=done, total=total, rate=f"{rate:,.0f} {unit}/s", visible=True)

        yield update


def agree(campaign: str, region: str | None, found: Estimate, budget_usd: float, yes: bool) -> None:
    """Show what a campaign would do to a user's AWS account, and ask; nothing is sent.

    Args:
        campaign: its id. region: None: the configured one. found, budget_usd: as in `consent_text`.
        yes: agreed to already.

    Raises InputError where it may not be done.
    """
    from lambda_probe.account.clients import configured_region
    from lambda_probe.campaign.aws_backend import consent_text

    click.echo(consent_text(campaign, configured_region(region), found, budget_usd), err=True)
    if not yes and not (sys.stdin.isatty() and click.confirm("Go on?", err=True)):
        raise InputError("AWS: nothing was done: expected your consent: --yes, or an answer on a terminal")
