"""What commands share: options, exit codes, JSON on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from moe.errors import InputError

if TYPE_CHECKING:
    from experiments.sweep.points import SweepFile

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_POINTS_FAILED = 1
EXIT_BAD_INPUT = 2
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else.")
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)

draws_option = click.option(
    "--draws",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Again on so many draws of a calibrated profile (--profile): how sure the result is.",
)


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """The numbers of an option such as `--layers 0,0,1,1`. Raises InputError."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: expected whole numbers separated by commas, such as 0,0,1,1") from None


def print_json(data: Any) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(data, indent=1, allow_nan=False))


def sweep_options(command: Command) -> Command:
    """How a sweep is computed."""
    for option in (
        click.option(
            "--ray-address", metavar="HOST:PORT", help="Of a Ray cluster; default: $RAY_ADDRESS, else here."
        ),
        click.option(
            "--executor",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Of a sweep: processes of this machine, or a Ray cluster.",
        ),
        click.option(
            "--workers", type=click.IntRange(min=1), help="Of a sweep: points at once; default: all cores."
        ),
    ):
        command = option(command)
    return command


def run_and_show(
    sweep: SweepFile,
    out: Path | None,
    fresh: bool,
    workers: int | None,
    executor: str,
    ray_address: str | None,
    as_json: bool,
) -> int:
    """Compute a sweep, print what it came to, and return the exit code. Raises InputError."""
    from experiments.sweep.run import How, run_sweep, show

    swept, folder = run_sweep(sweep, out, How(workers, executor, ray_address, fresh))
    if as_json:
        print_json(swept.result)
    else:
        show(swept, folder)
    failed = swept.result["failed"]
    if failed:
        click.echo(f"smoe: {failed:,} of {len(swept.result['points']):,} points failed", err=True)
    return EXIT_POINTS_FAILED if failed else 0
