"""Commands about platforms: calibrate."""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from experiments.commands.options import FILE, json_option, print_json, seed_option


@click.command()
@click.option(
    "--public",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with public measurements of AWS (names and columns: calibration/public.py).",
)
@click.option("--base", default="aws-us-east-1-2026", show_default=True, help="Profile whose other values stay.")
@click.option("--out", required=True, type=FILE)
@seed_option
@json_option
def calibrate(folder: Path, base: str, out: Path, seed: int, as_json: bool) -> None:
    """Fit constants of a platform profile to measurements.

    \b
    Example: ./smoe calibrate --public measurements/ --out profile.yaml
    """
    from calibration.public import calibrate_public
    from simulator.profile import load_profile

    profile, fits = calibrate_public(folder, load_profile(base), seed)
    profile = profile.model_copy(update={"name": out.stem})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        yaml.safe_dump(profile.model_dump(mode="json", by_alias=True), sort_keys=False), encoding="utf-8"
    )
    if as_json:
        print_json(profile.model_dump(mode="json", by_alias=True))
        return
    for found in fits:
        between = found.median_interval_s
        interval = f"[{between[0] * 1e3:.1f}, {between[1] * 1e3:.1f}]" if between else "(one run: no interval)"
        click.echo(
            f"{'.'.join(found.quantity.path)}: median {found.constant.median * 1e3:.1f} ms "
            f"{interval}, was {found.before.median * 1e3:.1f} ({found.samples} samples, {found.runs} runs)"
        )
    click.echo(f"{out}: {len(fits)} constants fitted, the rest kept from {base}")
