"""Commands that read platform profiles: profile show, diff, check."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.calibrate import since_option, until_option
from experiments.commands.options import FOLDER, json_option, print_json, seed_option
from moe.errors import InputError


@click.group()
def profile() -> None:
    """Read a platform profile, compare two, hold one against measurements.

    \b
    Example: ./smoe profile show aws-us-east-1-2026
             ./smoe profile diff aws-us-east-1-2026 mine.yaml
             ./smoe profile check mine.yaml campaign/
    """


@profile.command()
@click.argument("name", default="aws-us-east-1-2026")
@json_option
def show(name: str, as_json: bool) -> None:
    """A profile or a contender as a page (Markdown): every constant, its source, and what it rests on.

    \b
    Example: ./smoe profile show aws-us-east-1-2026
             ./smoe profile show gpu-g6.xlarge
    """
    from experiments.profiles.page import page
    from simulator.profiles.contenders import load_any

    shown = load_any(name)
    if as_json:
        print_json(shown.model_dump(mode="json", by_alias=True, exclude_none=True))
    else:
        click.echo(page(shown), nl=False)


@profile.command()
@click.argument("before")
@click.argument("after")
@json_option
def diff(before: str, after: str, as_json: bool) -> None:
    """Two profiles, or two contenders, side by side: the constants and settings that differ.

    \b
    Example: ./smoe profile diff aws-us-east-1-2026 mine.yaml
    """
    from dataclasses import asdict

    from experiments.profiles.page import difference
    from experiments.profiles.reading import changes
    from simulator.profiles.contenders import load_any

    old, new = load_any(before), load_any(after)
    if type(old) is not type(new):
        raise InputError(f"profile diff: expected two platforms or two contenders, got {old.name} and {new.name}")
    found = changes(old, new)
    if as_json:
        print_json({"before": old.name, "after": new.name, "changes": [asdict(change) for change in found]})
    else:
        click.echo(difference(old.name, new.name, found), nl=False)


@profile.command()
@click.argument("name", default="aws-us-east-1-2026")
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=FOLDER)
@click.option("--public", "public", type=FOLDER, help="Folder with public measurements of AWS.")
@since_option
@until_option
@seed_option
@json_option
def check(
    name: str,
    folders: tuple[Path, ...],
    public: Path | None,
    since: str | None,
    until: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """How well a profile describes measurements: each quantity predicted and measured, with a verdict.

    Of campaigns (smoe probe), the same calls are made on the simulated platform.

    \b
    Example: ./smoe profile check mine.yaml campaign/
             ./smoe profile check march.yaml --public measurements/ --since 2026-04
    """
    from calibration.tables import Period
    from experiments.profiles.page import judgement
    from experiments.profiles.reading import check_campaigns, check_profile, fitted_to
    from simulator.profiles.schema import load_profile

    if not folders and public is None:
        raise InputError("profile check: expected folders of campaigns (smoe probe), or --public DIR")
    if public is None and (since or until):
        raise InputError("--since and --until: expected together with --public")
    held = load_profile(name)
    rows, skipped, known = check_campaigns(held, folders, seed) if folders else ([], (), [])
    if public is not None:
        period = Period(since, until)
        rows, known = [*rows, *check_profile(held, public, period)], [*known, *fitted_to(held, public, period)]
    if as_json:
        data = {"profile": held.name, "fitted_to": known, "skipped_packages": list(skipped)}
        print_json(data | {"quantities": [row.as_data for row in rows]})
    else:
        click.echo(judgement(held.name, rows, known, skipped), nl=False)
