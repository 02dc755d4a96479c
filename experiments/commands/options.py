"""What commands share: options, exit codes, JSON on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

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


def print_json(data: Any) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(data, indent=1, allow_nan=False))
