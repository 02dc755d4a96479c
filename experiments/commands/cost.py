"""The command cost: where a model should run, and what the monthly bill is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import EXIT_BAD_INPUT, json_option, print_json, seed_option
from moe.errors import InputError

if TYPE_CHECKING:
    from experiments.cost.answer import Answer


@click.command()
@click.argument("model", metavar="MODEL|FILE")
@click.option("--requests-per-month", metavar="N|N..M", help="1e6, or 1e4..1e9; default: the trace's own.")
@click.option("--tokens-in", type=click.FloatRange(min=1), help="Of each request.")
@click.option("--tokens-out", type=click.FloatRange(min=0), help="Of each request, of a decoder.")
@click.option(
    "--traffic", metavar="FILE|SHAPE", help="A trace of requests, or a packaged shape; default: Poisson."
)
@click.option("--columns", metavar="time=A,in=B,out=C,unit=s", help="Of a trace in a format of its own.")
@click.option(
    "--peak-to-mean",
    type=click.FloatRange(min=1, max=1.9),
    default=1.0,
    show_default=True,
    help="Of the arrivals of a day: busiest hour over mean.",
)
@click.option("--slo", metavar="SLO", help="Default: ttft=2s,tpot=0.1s@p95 of a decoder, else 1s@p95.")
@click.option("--weights", type=click.Choice(["fp32", "bf16", "int8", "int4"]), help="Default: the model's own.")
@click.option(
    "--pay",
    type=click.Choice(["on-demand", "savings-1y", "savings-3y"]),
    default="on-demand",
    show_default=True,
    help="On demand, or by a Compute Savings Plan.",
)
@click.option("--only", metavar="NAME,NAME,...", help="Contenders: names, files, instances such as ec2-c8g.large.")
@click.option("--region-prices", metavar="FILE", help="Prices of another region, by item (YAML).")
@click.option(
    "--draws",
    type=click.IntRange(min=0),
    default=0,
    help="Draws of uncertain constants: how sure the cheapest is.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for table, JSON, picture, plans."
)
@seed_option
@json_option
def cost(model: str, as_json: bool, out: Path | None, **asked: Any) -> int | None:
    """Say where a model should run, and what the monthly bill is.

    \b
    Example: ./smoe cost qwen3-30b-a3b --requests-per-month 1e6 --tokens-in 512 --tokens-out 128
             ./smoe cost bert-moe --requests-per-month 1e4..1e9 --tokens-in 128 --slo 1s@p99
             ./smoe cost mixtral-8x7b --traffic azure-conversation-2023 --slo ttft=2s,tpot=0.1s@p95
    """
    from experiments.cost.answer import answer, asking
    from experiments.run.cost_schema import CostAsked, sized
    from moe.files import validated

    asked["only"] = asked["only"].split(",") if asked["only"] else ()
    asked["columns"] = None if asked["columns"] is None else dict(_pair(x) for x in asked["columns"].split(","))
    seed, spec = asked.pop("seed"), sized(model, asked["weights"])
    found = answer(asking(validated(CostAsked, asked, "cost"), spec, seed))
    if out is not None:
        _write(found, out, seed)
    if as_json:
        print_json(found.data)
    else:
        click.echo(found.text)
        if out is not None and found.nobody is None:
            click.echo(f"{out}: cost.png, cost.csv, cost.parquet, cost.json, curve.csv, plans/")
    if found.nobody is not None:
        click.echo(f"smoe: {found.nobody}", err=True)
        return EXIT_BAD_INPUT
    return None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--columns: expected time=A,in=B,out=C,unit=s, got '{text}'")
    return name, value


def _write(found: Answer, out: Path, seed: int) -> None:
    """Everything that `--out` has."""
    import json

    from experiments.cost.files import write_tables
    from experiments.cost.picture import drawn
    from experiments.tools.provenance import write_provenance
    from moe.files import write_whole
    from moe.held import filled, held

    day, region = found.data["price_list_date"], found.data["region"]
    with held(out, "cost.json"), filled(out) as partial:
        write_whole(partial / "cost.json", json.dumps(found.data, indent=1, allow_nan=False) + "\n")
        write_tables(found.compared, found.data, partial)
        drawn(found.compared, partial / "cost")
        write_provenance(partial, seed=seed, price_list_date=day, region=region)
