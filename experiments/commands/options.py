"""What commands share: options, settings (`--set`), exit codes, JSON on stdout."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

from moe.errors import InputError, nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from experiments.sweep.points import SweepFile
    from moe.files import FileModel

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_INTERRUPTED = EXIT_PLATFORM = EXIT_NO_PLAN = EXIT_STOPPED = EXIT_POINTS_FAILED = EXIT_MISSED = 1
EXIT_BAD_INPUT = 2
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, exists=True, path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else.")
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class ConfigFile(click.ParamType):
    """A file, or the name of a packaged one: `quickstart`."""

    name = "file"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Its path. Raises InputError for a name that no packaged file has."""
        path = Path(value)
        if path.suffix or os.path.exists(path) or len(path.parts) != 1:
            return path
        packaged = {file.stem: file for file in CONFIGS.rglob("*.yaml") if file.parent.name != "paper"}
        if value not in packaged:
            raise InputError(f"{value}: no such file, and no packaged one of that name{nearest(value, packaged)}")
        return packaged[value]


plugins_option = click.option(
    "--plugins",
    multiple=True,
    metavar="FOLDER|FILE.py",
    type=click.Path(exists=True, path_type=Path),
    help="Where code of your own is that is named as module:name.",
)

set_option = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="One of the settings below."
)


class WithSettings(click.Command):
    """A command with `--set`, whose help lists the settings with their defaults.

    Args:
        models: gives the models whose fields are the settings, those aside that have an option of their own; it is
            called only when they are needed.
    """

    def __init__(self, *arguments: Any, models: Callable[[], Sequence[type[FileModel]]], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.models = models

    def settings(self) -> dict[str, FieldInfo]:
        """Every setting, in the order of the models."""
        fields = {key: field for model in self.models() for key, field in model.model_fields.items()}
        return {key: field for key, field in fields.items() if key not in self.options()}

    def options(self) -> list[str | None]:
        """Names of its options."""
        return [parameter.name for parameter in self.params]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The settings, after the options."""
        with formatter.section("Settings (--set KEY=VALUE, the value as in YAML)"):
            formatter.write_dl([(key, _help_of(field)) for key, field in self.settings().items()])


def _help_of(field: FieldInfo) -> str:
    names = ", ".join(map(str, get_args(field.annotation))) if get_origin(field.annotation) is Literal else ""
    default = "none" if field.default is None else str(field.default)
    default = default.lower() if isinstance(field.default, bool) else default
    return f"{field.description}{f' ({names})' if names else ''}  [default: {default}]"


def read_settings(given: Sequence[str], **options: Any) -> list[Any]:
    """An instance of each model of the command that runs, with what `--set KEY=VALUE` says of its fields.

    Args:
        given: the settings.
        options: values of fields that have an option of their own, or another default.

    Raises InputError: an unknown key (nearest named), a value that its field does not take.
    """
    from moe.files import apply_setting, validated

    command = click.get_current_context().command
    assert isinstance(command, WithSettings)
    data: dict[str, Any] = {}
    for setting in given:
        apply_setting(data, setting)
    known = command.settings()
    for key in data:
        if key in command.options():
            raise InputError(f"--set {key}: expected --{key.replace('_', '-')} instead")
        if key not in known:
            raise InputError(f"--set {key}: unknown key{nearest(key, known)}")
    data = options | data
    return [
        validated(model, {key: value for key, value in data.items() if key in model.model_fields}, "--set")
        for model in command.models()
    ]


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
