"""The command cost: where a model should run, and what the monthly bill is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import EXIT_BAD_INPUT, FILE, json_option, print_json, seed_option
from moe.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.cost.compare import Compared
    from experiments.cost.sure import Surety


@click.command()
@click.argument("model", metavar="MODEL|FILE")
@click.option(
    "--requests-per-month", "requests", metavar="N|N..M", help="1e6, or 1e4..1e9; default: the trace's own."
)
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
@click.option("--region-prices", type=FILE, metavar="FILE", help="Prices of another region, by item (YAML).")
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
    from experiments.cost.files import as_data
    from experiments.cost.report import page, promised, why_not_table

    compared, surety, region, day = _answer(model, asked)
    data = as_data(compared, region, day, surety)
    if out is not None:
        _write(compared, data, out, asked["seed"])
    nobody = all(not offer.serves for _, offers in compared.points for offer in offers)
    if as_json:
        print_json(data)
    elif nobody:
        click.echo(why_not_table(compared.points[0][1]))
    else:
        click.echo(page(compared, surety))
        click.echo(f"Prices of {day}, {region}.")
        if out is not None:
            click.echo(f"{out}: cost.png, cost.csv, cost.parquet, cost.json, curve.csv, plans/")
    if nobody:
        usual = "; that is the usual one: --slo says another" if compared.question.assumed else ""
        click.echo(f"smoe: no contender keeps the promise, {promised(compared.question)}{usual}", err=True)
        return EXIT_BAD_INPUT
    return None


def _answer(model: str, asked: dict[str, Any]) -> tuple[Compared, Surety | None, str, str]:
    """The comparison, how sure it is, its region, and the day of its prices. Raises InputError."""
    from experiments.cost.asked import contenders_of, numbers_of, read_prices, traffic_of
    from experiments.cost.compare import compare
    from experiments.cost.files import REGION
    from experiments.cost.question import Question
    from experiments.cost.sure import how_sure
    from moe.spec import load_spec
    from simulator.profiles.schema import DEFAULT_PROFILE, load_profile, price_list_date
    from simulator.servers.promise import read_promise, usual_promise

    spec = load_spec(model, **({"weights": asked["weights"]} if asked["weights"] else {}))
    promise = usual_promise(spec.generates) if asked["slo"] is None else read_promise(asked["slo"])
    if not spec.generates and (promise.ttft_s or promise.tpot_s):
        raise InputError(f"--slo: {spec.name} writes no tokens: expected latency, not ttft or tpot")
    said = None if asked["columns"] is None else dict(_pair(each) for each in asked["columns"].split(","))
    traffic = traffic_of(
        asked["traffic"], spec, asked["tokens_in"], asked["tokens_out"], said, asked["peak_to_mean"]
    )
    contenders = contenders_of(asked["only"].split(",") if asked["only"] else ())
    region, day, prices = REGION, price_list_date("aws-us-east-1-2026"), {}
    if asked["region_prices"] is not None:
        read = read_prices(asked["region_prices"], contenders)
        region, day, prices = read.region, read.price_list_date, read.prices
    if asked["requests"] is None and traffic.per_month == 1.0:
        raise InputError("cost: expected --requests-per-month")
    numbers = [traffic.per_month] if asked["requests"] is None else numbers_of(asked["requests"])
    loaded = {DEFAULT_PROFILE: load_profile()}
    question = Question(
        spec, traffic, promise, asked["pay"], prices, loaded, asked["seed"], assumed=asked["slo"] is None
    )
    found = _with_progress("comparing", "steps", lambda update: compare(question, contenders, numbers, update))
    surety = None
    if asked["draws"] and found.points[0][1][0].serves:
        there, offers = question.at(numbers[0]), found.points[0][1]
        surety = _with_progress(
            "drawing", "draws", lambda update: how_sure(there, contenders, offers, asked["draws"], update)
        )
    return found, surety, region, day


def _with_progress(doing: str, unit: str, do: Callable[[Callable[[int, int], None]], Any]) -> Any:
    """Do something that tells how far it is."""
    import time

    from experiments.tools.console import progress

    began = time.perf_counter()
    with progress(doing, unit) as update:
        return do(lambda done, total: update(done, total, done / (time.perf_counter() - began)))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--columns: expected time=A,in=B,out=C,unit=s, got '{text}'")
    return name, value


def _write(compared: Compared, data: dict[str, Any], out: Path, seed: int) -> None:
    """Everything that `--out` has."""
    from experiments.cost.files import write
    from experiments.cost.picture import drawn
    from experiments.tools.provenance import write_provenance
    from moe.held import filled, held

    with held(out, "cost.json"), filled(out) as partial:
        write(compared, data, partial)
        drawn(compared, partial / "cost")
        write_provenance(partial, seed=seed, price_list_date=data["price_list_date"], region=data["region"])
