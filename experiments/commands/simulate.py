"""The command simulate: a plan played on a platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import (
    FILE,
    WithSettings,
    json_option,
    print_json,
    read_settings,
    seed_option,
    set_option,
)

if TYPE_CHECKING:
    from moe.files import FileModel
    from simulator.serving.simulate import SimulatedRun


def _models() -> Sequence[type[FileModel]]:
    from experiments.plan.options import PlaySettings
    from simulator.serving.layer import Serving

    return (Serving, PlaySettings)


@click.command(cls=WithSettings, models=_models)
@click.argument("problem_path", metavar="PROBLEM", type=FILE)
@click.argument("plan_path", metavar="PLAN", type=FILE)
@click.option("--profile", help="Platform profile; default: the ideal platform, on which the closed form holds.")
@click.option(
    "--start",
    type=click.Choice(["eager", "just-in-time"]),
    default="eager",
    show_default=True,
    help="Experts: with their layer, or just in time for their first input.",
)
@click.option(
    "--runs", type=click.IntRange(min=1), default=1, show_default=True, help="Batches, one after another."
)
@click.option("--trace", "trace_path", type=FILE, help="Write a Perfetto/Chrome trace there.")
@set_option
@seed_option
@json_option
def simulate(
    problem_path: Path,
    plan_path: Path,
    profile: str | None,
    start: Any,
    runs: int,
    trace_path: Path | None,
    settings: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Play a deployment plan on a platform, with the problem's tokens.

    \b
    Example: ./smoe simulate problem.json plan.json --profile aws-us-east-1-2026 --trace trace.json
             ./smoe simulate problem.json plan.json --profile mine.yaml --set draws=20
    """
    from experiments.plan.draws import show, simulate_draws
    from moe.files import write_whole
    from simulator.plan import read_problem
    from simulator.profiles.schema import load_profile
    from simulator.serving.simulate import Decode
    from simulator.serving.simulate import simulate as play
    from simulator.serving.timeline import write_chrome_trace
    from simulator.staged_plan import read_any_plan

    serving, chosen = read_settings(settings, start=start)
    given = read_problem(problem_path)
    platform = load_profile(profile) if profile else None
    playing = partial(
        play,
        plan=read_any_plan(plan_path, given),
        serving=serving,
        runs=runs,
        warm=not chosen.cold,
        decode=Decode(chosen.decode_steps, chosen.sequences) if chosen.decode_steps else None,
        seed=seed,
    )
    run = playing(given, profile=platform)
    over = None
    if chosen.draws:
        over = simulate_draws(given, platform, chosen.draws, lambda each, drawn: playing(each, profile=drawn))
    if trace_path is not None:
        write_chrome_trace(run.records, trace_path)
    if chosen.records is not None:
        write_whole(chosen.records, run.to_pandas().to_parquet)
    answer = _answer(run, chosen.decode_steps * chosen.sequences)
    day = {} if platform is None else {"price_list_date": platform.prices.price_list_date.isoformat()}
    if as_json:
        print_json(answer | day | ({} if over is None else {"over_draws": over.as_json()}))
    else:
        _show_run(answer, **day)
        if over is not None:
            show(over)


def _answer(run: SimulatedRun, generated: int) -> dict[str, Any]:
    """The three bills with their parts, latency, what the plan breaks; and what so many generated tokens take."""
    answer: dict[str, Any] = {
        "billed_gb_s": run.bill.billed_gb_s,
        "billed_cost_usd": run.bill.billed_cost_usd,
        "full_cost_usd": run.bill.full_cost_usd,
        "total_cost_usd": run.bill.total_cost_usd,
        "latency_s": run.mean_latency_s,
        "violations": [list(violation) for violation in run.violations],
        "parts": {name: usd for name, usd in asdict(run.bill).items() if name.endswith("_usd")},
    }
    if generated:
        answer |= {
            "time_to_first_token_s": run.mean_latency_s,
            "time_per_token_s": float(run.decode_s.mean()),
            "usd_per_million_output_tokens": run.decode_usd / generated * 1e6,
        }
    return answer


def _show_run(answer: dict[str, Any], price_list_date: str | None = None) -> None:
    parts = answer.pop("parts")
    for name, value in answer.items():
        click.echo(f"{name:<16} {value if name == 'violations' else format(value, '.6g')}")
    click.echo("total_cost_usd by parts:")
    for name, usd in parts.items():
        inside = "  (in the line above)" if name == "waiting_usd" else ""
        click.echo(f"  {name:<20} {usd:.6g}{inside}")
    if price_list_date is not None:
        click.echo(f"Prices of {price_list_date}.")
