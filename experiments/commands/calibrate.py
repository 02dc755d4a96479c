"""Commands about platforms: calibrate."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, FOLDER, json_option, print_json, seed_option
from moe.errors import InputError

since_option = click.option("--since", help="Measurements from then on only: a year, month or day (2026-04).")
until_option = click.option("--until", help="Measurements until then only, itself included.")


@click.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=FOLDER)
@click.option("--public", type=FOLDER, help="Folder with public measurements of AWS (names: docs/calibration.md).")
@click.option("--base", default="aws-us-east-1-2026", show_default=True, help="Profile whose other values stay.")
@click.option("--out", required=True, type=FILE)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a page and a picture per quantity there.",
)
@since_option
@until_option
@seed_option
@json_option
def calibrate(
    folders: tuple[Path, ...],
    public: Path | None,
    base: str,
    out: Path,
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
    """
    from calibration.calibrated import renamed
    from calibration.campaigns import calibrate_campaigns
    from calibration.published.files import calibrate_public
    from calibration.tables import Period
    from experiments.profiles.reading import write_profile
    from experiments.profiles.report import summary, write_report
    from simulator.profiles.schema import load_profile

    if not folders and public is None:
        raise InputError("calibrate: expected folders of campaigns (smoe probe), or --public DIR")
    if public is None and (since or until):
        raise InputError("--since and --until: expected together with --public")
    made, told = None, []
    if public is not None:
        made, told = (
            calibrate_public(public, load_profile(base), seed, Period(since, until)),
            ["public measurements"],
        )
    if folders:
        under = made.profile if made else load_profile(base)
        mine = calibrate_campaigns(folders, under, seed)
        made, told = mine.upon(made) if made else mine, [*told, "campaigns of smoe probe"]
    assert made is not None
    about = (
        f"{base} with what {' and '.join(told)} tell; each constant says what it rests on, or that it was kept."
    )
    made = renamed(made, out.stem, about)
    write_profile(made.profile, out)
    if report is not None:
        write_report(made, base, report, " and ".join(told))
    if as_json:
        print_json(made.profile.model_dump(mode="json", by_alias=True, exclude_none=True))
        return
    for line in summary(made, base):
        click.echo(line)
    click.echo(f"{out}" + (f", {report / 'report.md'}" if report else ""))
