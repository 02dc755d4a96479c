"""The command line. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import click

from experiments import commands
from experiments.commands.options import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_PLATFORM
from experiments.tools.heartbeat import so_far, told
from moe.errors import InputError, PlatformError, nearest

GROUPS = {
    "Experiments": ("run", "report", "compare"),
    "Traffic and cost": ("cost", "traffic", "map", "presets"),
    "Planning": ("problem", "plan", "simulate", "samples", "robust", "tune"),
    "Models and routing": ("record", "import", "corpora", "predict"),
    "Platforms": ("profile", "probe", "calibrate", "validate", "local-lambda"),
    "The paper": ("figures", "sensitivity"),
    "Maintenance": ("test", "doctor", "bench", "schema", "clean"),
}
"""The commands as --help shows them; one that is in no group stands under Maintenance."""

OF_THEIR_OWN = ("test", "local-lambda")
"""Commands that write of their own what they are at, or that serve until they are stopped."""


class Commands(click.Group):
    """A group that shows its commands by what they are for, and knows the nearest name of an unknown one."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with its first sentence, group by group."""
        grouped = {name for names in GROUPS.values() for name in names}
        others = [name for name in self.list_commands(ctx) if name not in grouped]
        for title, names in GROUPS.items():
            shown = [*names, *(others if title == "Maintenance" else [])]
            rows = [(name, self.commands[name].get_short_help_str(150)) for name in shown if name in self.commands]
            with formatter.section(title):
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f"no command '{name}'{nearest(name, self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="serverless-moe", prog_name="smoe")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """What does it cost, and how fast is it, to serve a Mixture-of-Experts model on AWS Lambda?

    \b
    Start with:  ./smoe run experiments/configs/quickstart.yaml
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
    elif ctx.invoked_subcommand not in OF_THEIR_OWN:  # while the command has nothing better to say
        ctx.with_resource(told(so_far(f"smoe {ctx.invoked_subcommand}")))


for each in pkgutil.iter_modules(commands.__path__):
    module = importlib.import_module(f"{commands.__name__}.{each.name}")
    found = [command for command in vars(module).values() if isinstance(command, click.Command)]
    inside = [inner for group in found if isinstance(group, click.Group) for inner in group.commands.values()]
    for command in found:
        if command not in inside:
            cli.add_command(command)


def main() -> None:
    """Run the command line: exit 0 done, 2 bad input (one line), 1 anything else."""
    os.environ["PYTHONSAFEPATH"] = "1"  # of processes that it starts: the current folder shadows nothing there
    try:
        code = cli.main(prog_name="smoe", standalone_mode=False) or 0
        sys.stdout.flush()
        sys.exit(code)
    except InputError as error:
        _fail(str(error))
    except click.ClickException as error:
        _fail(error.format_message())
    except PlatformError as error:
        _fail(str(error), EXIT_PLATFORM)
    except BrokenPipeError:  # who reads has seen enough
        _drop_stdout()
        sys.exit(EXIT_PLATFORM)
    except OSError as error:  # a full disk, too many open files, a file that went away, ...
        _drop_stdout()
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; what was finished is kept", EXIT_PLATFORM)
    except (KeyboardInterrupt, click.Abort):
        click.echo("smoe: interrupted; what was finished is kept", err=True)
        sys.exit(EXIT_INTERRUPTED)


def _drop_stdout() -> None:
    """What stdout has not taken is dropped where it takes no more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int = EXIT_BAD_INPUT) -> None:
    line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in " ".join(message.split()))
    click.echo(f"smoe: {line}", err=True)
    sys.exit(code)
