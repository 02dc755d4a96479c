"""The command traffic: open-loop serving, from a scenario file to latency, SLO and cost."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import (
    EXIT_STOPPED,
    ConfigFile,
    json_option,
    plugins_option,
    print_json,
    run_and_show,
    sweep_options,
)


@click.command()
@click.argument("scenario_path", metavar="SCENARIO.yaml|NAME", type=ConfigFile())
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: results/runs/NAME.")
@click.option("--set", "settings", multiple=True, metavar="A.B=C", help="Change a key of the file.")
@click.option("--seed", type=click.IntRange(min=0), help="Short for --set seed=N.")
@click.option("--fresh", is_flag=True, help="Of a sweep: recompute what is already there.")
@plugins_option
@sweep_options
@json_option
def traffic(
    scenario_path: Path,
    out: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    fresh: bool,
    plugins: tuple[Path, ...],
    workers: int | None,
    executor: str,
    ray_address: str | None,
    as_json: bool,
) -> int:
    """Serve requests that arrive whether or not earlier ones are answered.

    What serves them is a function, an application of functions that invoke each other, or an MoE model.

    \b
    Example: ./smoe traffic experiments/configs/traffic/function.yaml --set arrivals.poisson.rate_per_s=50
    """
    from experiments.run.folder import RunFolder
    from experiments.sweep.kinds import SCENARIOS
    from experiments.sweep.points import load_sweep
    from experiments.traffic.report import show
    from experiments.traffic.run import run_scenario
    from moe.plugins import look_in
    from simulator.traffic.scenario import load_scenario

    look_in(scenario_path.parent, *plugins)
    if seed is not None:
        settings = (*settings, f"seed={seed}")
    sweep = load_sweep(scenario_path, settings, SCENARIOS)
    if sweep is not None:
        return run_and_show(sweep, out, fresh, workers, executor, ray_address, as_json)
    scenario = load_scenario(scenario_path, settings)
    with RunFolder.held(scenario, out) as folder, folder.filled() as partial:
        result = run_scenario(scenario, partial)
    if as_json:
        print_json(result)
    else:
        show(result, folder)
    stopped = [reason for reason in result["stopped"] if reason]
    if stopped:
        click.echo(f"smoe: {scenario_path}: stopped: {stopped[0]}; the results until then are kept", err=True)
    return EXIT_STOPPED if stopped else 0
