"""Commands that read platform profiles: profile show, diff, check."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FOLDER, json_option, print_json
from experiments.commands.platform import since_option, until_option


@click.group()
def profile() -> None:
    """Read a platform profile, compare two, hold one against measurements.

    \b
    Example: ./smoe profile show aws-us-east-1-2026
             ./smoe profile diff aws-us-east-1-2026 mine.yaml
             ./smoe profile check mine.yaml --public measurements/ --since 2026-04
    """


@profile.command()
@click.argument("name", default="aws-us-east-1-2026")
@json_option
def show(name: str, as_json: bool) -> None:
    """A profile as a page (Markdown): every constant, its source, and what it rests on.

    \b
    Example: ./smoe profile show aws-us-east-1-2026
    """
    from experiments.profile_page import page
    from simulator.profile import load_profile

    shown = load_profile(name)
    if as_json:
        print_json(shown.model_dump(mode="json", by_alias=True, exclude_none=True))
    else:
        click.echo(page(shown), nl=False)


@profile.command()
@click.argument("before")
@click.argument("after")
@json_option
def diff(before: str, after: str, as_json: bool) -> None:
    """Two profiles side by side: the constants and settings that differ.

    \b
    Example: ./smoe profile diff aws-us-east-1-2026 mine.yaml
    """
    from dataclasses import asdict

    from experiments.profile_page import difference
    from experiments.profile_reading import changes
    from simulator.profile import load_profile

    old, new = load_profile(before), load_profile(after)
    found = changes(old, new)
    if as_json:
        print_json({"before": old.name, "after": new.name, "changes": [asdict(change) for change in found]})
    else:
        click.echo(difference(old.name, new.name, found), nl=False)


@profile.command()
@click.argument("name", default="aws-us-east-1-2026")
@click.option("--public", "folder", required=True, type=FOLDER, help="Folder with public measurements of AWS.")
@since_option
@until_option
@json_option
def check(name: str, folder: Path, since: str | None, until: str | None, as_json: bool) -> None:
    """How well a profile describes measurements: each quantity predicted and measured, with a verdict.

    \b
    Example: ./smoe profile check march.yaml --public measurements/ --since 2026-04
    """
    from calibration.tables import Period
    from experiments.profile_page import judgement
    from experiments.profile_reading import check_profile, fitted_to
    from simulator.profile import load_profile

    held = load_profile(name)
    period = Period(since, until)
    rows, known = check_profile(held, folder, period), fitted_to(held, folder, period)
    if as_json:
        print_json({"profile": held.name, "fitted_to": known, "quantities": [row.as_data for row in rows]})
    else:
        click.echo(judgement(held.name, rows, known), nl=False)
