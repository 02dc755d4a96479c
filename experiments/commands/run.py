"""The command run: an experiment file, from text to a bill; or a sweep of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import (
    EXIT_BAD_INPUT,
    ConfigFile,
    plugins_option,
    print_json,
    run_and_show,
    sweep_options,
)

if TYPE_CHECKING:
    from experiments.run.folder import RunFolder, Runnable


@click.command()
@click.argument("config", metavar="CONFIG.yaml|NAME", type=ConfigFile())
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: results/runs/NAME.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change a key of the file.")
@click.option("--seed", type=click.IntRange(min=0), help="Short for --set seed=N.")
@click.option("--late-share", help="Short for --set target.late_share=SHARE, or null: the limit itself.")
@click.option("--fresh", is_flag=True, help="Recompute what is already there.")
@plugins_option
@sweep_options
@click.option("--json", "as_json", is_flag=True, help="result.json on stdout, nothing else there.")
def run(
    config: Path,
    out: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    late_share: str | None,
    fresh: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
    workers: int | None,
    executor: str,
    ray_address: str | None,
) -> int:
    """Run an experiment or a sweep. What is there already is shown, and only what is missing is computed.

    \b
    Example: ./smoe run quickstart --set workload.batch_tokens=1024
             ./smoe run experiments/configs/sweep.yaml --workers 2
    """
    from experiments.cost.run import load_cost
    from experiments.run.folder import RunFolder
    from experiments.run.schema import load_experiment
    from experiments.sweep.kinds import COSTS, EXPERIMENTS
    from experiments.sweep.points import load_sweep
    from moe.files import read_settings
    from moe.plugins import look_in

    look_in(config.parent, *plugins)
    if seed is not None:
        settings = (*settings, f"seed={seed}")
    if late_share is not None:
        settings = (*settings, f"target.late_share={late_share}")
    kind = COSTS if "cost" in read_settings(config, settings) else EXPERIMENTS
    sweep = load_sweep(config, settings, kind)
    if sweep is not None:
        return run_and_show(sweep, out, fresh, workers, executor, ray_address, as_json)
    experiment: Runnable = (load_cost if kind is COSTS else load_experiment)(config, settings)
    folders = [] if fresh else RunFolder.possible(experiment, out)
    there = [(each, found) for each in folders if (found := each.finished_result()) is not None]
    if there:
        folder, result = there[0]
        if not as_json:
            click.echo(
                f"Already there, from {folder.finished_at()}: {folder.shown} (--fresh recomputes)", err=True
            )
    else:
        with RunFolder.held(experiment, out) as folder, folder.filled() as partial:
            result = kind.run(experiment, partial)
    return _shown(result, folder, kind is COSTS, as_json)


def _shown(result: dict[str, Any], folder: RunFolder, is_cost: bool, as_json: bool) -> int:
    """Print the answer, and return the exit code."""
    from experiments.cost.run import nobody, show_cost
    from experiments.run.report import show

    if as_json:
        print_json(result)
    elif is_cost:
        show_cost(folder)
    else:
        show(result, folder)
    return EXIT_BAD_INPUT if is_cost and nobody(result) else 0
