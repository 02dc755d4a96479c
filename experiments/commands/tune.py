"""The command tune: Bayesian optimisation of a profile table, and its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import (
    FILE,
    WithSettings,
    json_option,
    plugins_option,
    print_json,
    read_settings,
    seed_option,
    set_option,
)

if TYPE_CHECKING:
    from moe.files import FileModel


def _models() -> Sequence[type[FileModel]]:
    from experiments.prediction.tune import TuneSettings
    from optimizer.bo import Alg2

    return TuneSettings, Alg2


@click.command(cls=WithSettings, models=_models)
@click.argument("problem_path", metavar="PROBLEM", type=FILE)
@click.option("--profiled", required=True, type=FILE, help="Routing trace, or profile table (parquet), to tune.")
@click.option("--serve", required=True, type=FILE, help="Routing trace whose batches the trials serve.")
@click.option(
    "--sampler",
    default="multi-epsilon",
    show_default=True,
    help="none, random, single-epsilon, tpe, gp-ei, multi-epsilon (the paper's), few, recount.",
)
@click.option("--trials", type=click.IntRange(min=1), default=30, show_default=True, help="Trial 0 included.")
@plugins_option
@set_option
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Default: results/runs/tune-SAMPLER."
)
@click.option("--resume", is_flag=True, help="Go on with the history in --out.")
@seed_option
@json_option
def tune(
    problem_path: Path,
    profiled: Path,
    serve: Path,
    sampler: str,
    trials: int,
    plugins: tuple[Path, ...],
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Tune the profile table so that the bill is least, and judge it on batches that no trial saw.

    \b
    Example: ./smoe tune problem.json --profiled a.parquet --serve b.parquet --sampler multi-epsilon --trials 30
             ./smoe tune problem.json --profiled a.parquet --serve b.parquet --set wall_s=60 --set pairs=500
    """
    from experiments.prediction.tune import TuneOptions, run_tune
    from moe.held import held
    from moe.plugins import look_in

    look_in(Path.cwd(), *plugins)
    chosen, alg2 = read_settings(settings)
    options = TuneOptions(problem_path, profiled, serve, sampler, trials, chosen, alg2, seed)
    folder = out or Path("results") / "runs" / f"tune-{sampler}"
    with held(folder, "history.parquet"):
        result = run_tune(options, folder, resume)
    if as_json:
        print_json(result)
    else:
        _show(result, folder)


def _show(result: dict[str, Any], folder: Path) -> None:
    """What was found, on the batches tuned on and on the unseen ones."""
    from rich.table import Table

    from experiments.tools.console import out

    limit = result["latency_limit_s"]
    limited = f"limit {limit:.4g} s" if limit else "no limit"
    table = Table(
        "batches", "table", f"bill, {result['unit']}", "score", f"latency, s ({limited})", "over", "error"
    )
    for batches in ("tuning_batches", "unseen_batches"):
        for name in ("untuned", "tuned", "oracle"):
            x = result[batches][name]
            if x["failed"]:
                table.add_row(batches.replace("_", " "), name, x["failed"], "", "", "", "")
                continue
            table.add_row(
                batches.replace("_", " "),
                name,
                f"{x['cost']:.6g}",
                f"{x['score']:.6g}",
                f"{x['latency_s']:.4g}",
                f"{x['over_limit']:.0%}",
                f"{x['prediction_error_tokens']:,.0f}",
            )
    out.print(table)
    used, taus = result["used"], result["theorem_2_tau"]
    corrected = "never" if taus["corrected"] is None else f"{taus['corrected']:.1f}"
    gap = result["unseen_batches"]["gap_closed"]
    click.echo(
        f"{result['sampler']}, {result['objective']}: {used['trials']} trials, {used['served_tokens']:,} tokens "
        f"served; stopped: {result['stopped']}; best: trial {result['best_trial']}; of the gap to the oracle "
        + ("there is none to close" if gap is None else f"{gap:.0%} closed on unseen batches")
    )
    click.echo(_verdict(result["tuning"]))
    click.echo(f"Theorem 2's tau: {taus['as_printed']:.1f} as printed, corrected: {corrected}")
    if result["cheaper_than_oracle"]:
        click.echo("Cheaper than the oracle: look at its latency before you believe it.")
    click.echo(f"{folder}/: history.parquet, table.parquet, plan.json, convergence.png, result.json")


def _verdict(tuning: dict[str, Any]) -> str:
    """What tuning saved on unseen batches, of what there was to save."""
    if tuning["room"] is None:
        return f"On unseen batches: {tuning['verdict']}: a batch failed."
    interval = ""
    if tuning["saved_low"] is not None:
        interval = f" ({tuning['saved_low']:.2%} to {tuning['saved_high']:.2%})"
    return (
        f"On unseen batches: {tuning['verdict']}: {tuning['saved']:.2%}{interval} of the untuned score saved; "
        f"the plan for the real counts saves {tuning['room']:.2%}."
    )
