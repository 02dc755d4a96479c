"""Commands about platforms: calibrate."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, FOLDER, json_option, print_json, seed_option

since_option = click.option("--since", help="Measurements from then on only: a year, month or day (2026-04).")
until_option = click.option("--until", help="Measurements until then only, itself included.")


@click.command()
@click.option(
    "--public",
    "folder",
    required=True,
    type=FOLDER,
    help="Folder with public measurements of AWS (names: docs/calibration.md).",
)
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
    folder: Path,
    base: str,
    out: Path,
    report: Path | None,
    since: str | None,
    until: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Fit constants of a platform profile to measurements.

    \b
    Example: ./smoe calibrate --public measurements/ --out profile.yaml --report profile-report/
             ./smoe calibrate --public measurements/ --until 2026-03 --out march.yaml
    """
    from dataclasses import replace

    from calibration.public import calibrate_public
    from calibration.tables import Period
    from experiments.calibration_report import summary, write_report
    from experiments.profile_reading import write_profile
    from simulator.profile import load_profile

    made = calibrate_public(folder, load_profile(base), seed, Period(since, until))
    about = f"{base} with what public measurements tell; each constant says what it rests on, or that it was kept."
    made = replace(made, profile=made.profile.model_copy(update={"name": out.stem, "about": about}))
    write_profile(made.profile, out)
    if report is not None:
        write_report(made, base, report)
    if as_json:
        print_json(made.profile.model_dump(mode="json", by_alias=True, exclude_none=True))
        return
    for line in summary(made, base):
        click.echo(line)
    click.echo(f"{out}" + (f", {report / 'report.md'}" if report else ""))
