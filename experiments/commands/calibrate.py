"""Commands about platforms: calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.options import FILE, FOLDER, json_option, print_json, seed_option
from moe.errors import InputError

if TYPE_CHECKING:
    from calibration.calibrated import Calibration

NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
since_option = click.option("--since", help="Measurements from then on only: a year, month or day (2026-04).")
until_option = click.option("--until", help="Measurements until then only, itself included.")


@click.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=FOLDER)
@click.option("--public", type=NEW_FOLDER, help="Folder with public measurements of AWS (docs/calibration.md).")
@click.option(
    "--fetch", is_flag=True, help="First get their sources into that folder, by git; alone, nothing else."
)
@click.option("--base", default="aws-us-east-1-2026", show_default=True, help="Profile whose other values stay.")
@click.option("--out", type=FILE, help="The profile; needed but for --fetch alone.")
@click.option("--report", type=NEW_FOLDER, help="Write a page and a picture per quantity there.")
@since_option
@until_option
@seed_option
@json_option
def calibrate(
    folders: tuple[Path, ...],
    public: Path | None,
    fetch: bool,
    base: str,
    out: Path | None,
    report: Path | None,
    since: str | None,
    until: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Fit constants of a platform profile to measurements: campaigns of smoe probe, or public ones.

    With both, the campaigns' constants stand upon what the public ones tell.

    \b
    Example: ./smoe calibrate campaign/ --out profile.yaml --report profile-report/
             ./smoe calibrate --public measurements/ --until 2026-03 --out march.yaml
             ./smoe calibrate --public measurements/ --fetch
    """
    from calibration.calibrated import renamed
    from calibration.published.sources import fetch as fetched
    from experiments.profiles.reading import write_profile
    from experiments.profiles.report import summary, write_report

    if public is None and (fetch or since or until):
        raise InputError("--fetch, --since and --until: expected together with --public DIR")
    if fetch and public is not None:
        for line in fetched(public):
            click.echo(line, err=as_json)
        if out is None:
            return
    if out is None:
        raise InputError("--out: expected the profile's file")
    made, told = _made(folders, public, base, (since, until), seed)
    about = f"{base} with what {told} tell; each constant says what it rests on, or that it was kept."
    made = renamed(made, out.stem, about)
    write_profile(made.profile, out)
    if report is not None:
        write_report(made, base, report, told)
    if as_json:
        print_json(made.profile.model_dump(mode="json", by_alias=True, exclude_none=True))
        return
    for line in summary(made, base):
        click.echo(line)
    click.echo(f"{out}" + (f", {report / 'report.md'}" if report else ""))


def _made(
    folders: tuple[Path, ...], public: Path | None, base: str, period: tuple[str | None, str | None], seed: int
) -> tuple[Calibration, str]:
    """The calibration, and in words what it rests on. Raises InputError."""
    from calibration.campaigns import calibrate_campaigns
    from calibration.published.files import calibrate_public
    from calibration.tables import Period
    from simulator.profiles.schema import load_profile

    if public is None:
        if not folders:
            raise InputError("calibrate: expected folders of campaigns (smoe probe), or --public DIR")
        return calibrate_campaigns(folders, load_profile(base), seed), "campaigns of smoe probe"
    first = calibrate_public(public, load_profile(base), seed, Period(*period))
    if not folders:
        return first, "public measurements"
    mine = calibrate_campaigns(folders, first.profile, seed)
    return mine.upon(first), "public measurements and campaigns of smoe probe"
