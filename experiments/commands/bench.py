"""The command bench: how fast things are, beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, json_option, print_json


@click.command()
@click.argument("what", type=click.Choice(["simulator", "validation"]))
@click.option("--out", type=FILE, help="Write the validation page there, and its picture beside it.")
@click.option(
    "--public",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with public measurements of AWS, for the validation page.",
)
@click.option("--requests", default=100_000, show_default=True, help="Of the request workload.")
@json_option
def bench(what: str, out: Path | None, public: Path | None, requests: int, as_json: bool) -> None:
    """Measure speed, ratios side by side in one run; or write how the simulator was validated.

    \b
    Example: ./smoe bench simulator
             ./smoe bench validation --public DIR --out docs/validation.md
    """
    if what == "validation":
        _validation(out, public, as_json)
        return
    from dataclasses import asdict

    from experiments.bench import Workload, batch_speed, scaling, simulator_speed

    requests_rows = simulator_speed(Workload(requests=requests))
    batch_rows = batch_speed()
    sizes = scaling()
    if as_json:
        print_json(
            {
                "requests": [asdict(row) for row in requests_rows],
                "batches": [asdict(row) for row in batch_rows],
                "scaling": [{"invocations": count, "seconds": seconds} for count, seconds in sizes],
            }
        )
        return
    click.echo("Poisson requests, exponential service, cold starts (SimFaaS: pip install simfaas)")
    for row in (*requests_rows, *batch_rows):
        if row is batch_rows[0]:
            click.echo("One batch of a Bert MoE, 12 layers x 4 experts x 2 replicas, 10,240 tokens")
        click.echo(f"  {row.name:<22} {row.per_s:>10,.0f} {row.unit}/s   {row.of_first:6.2f} x the first")
    click.echo("One batch, storage, by size")
    for count, seconds in sizes:
        click.echo(f"  {count:>7,} invocations {seconds:8.3f} s   {seconds / count * 1e6:6.1f} microseconds each")


def _validation(out: Path | None, public: Path | None, as_json: bool) -> None:
    from experiments.figures.fan_in import draw_fan_in
    from experiments.validation.page import as_data, markdown, validate

    found = validate(public, say=lambda what: click.echo(what, err=True))
    if out is not None:
        picture = out.with_name(f"{out.stem}-fan-in.svg")
        draw_fan_in(found.fan_in, picture)
        out.write_text(markdown(found, picture.name), encoding="utf-8")
    if as_json:
        print_json(as_data(found))
    elif out is None:
        click.echo(markdown(found))
