"""The command bench: how fast things are, beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, FOLDER, json_option, print_json


@click.command()
@click.argument("what", type=click.Choice(["simulator", "validation", "predictors"]))
@click.option("--out", type=FILE, help="Write the validation or accuracy page there.")
@click.option(
    "--accuracy", is_flag=True, help="Of predictors: how good they are, not how fast; takes a quarter of an hour."
)
@click.option("--routing", type=FOLDER, help="Of --accuracy: folder with the routing of real models.")
@click.option("--requests", default=100_000, show_default=True, help="Of the request workload.")
@json_option
def bench(what: str, out: Path | None, accuracy: bool, routing: Path | None, requests: int, as_json: bool) -> None:
    """Measure speed, ratios side by side in one run; or write how the simulator was validated.

    \b
    Example: ./smoe bench simulator
             ./smoe bench validation --out docs/validation.md
             ./smoe bench predictors
    """
    if what == "predictors":
        from experiments.bench_predictors import run

        run(accuracy, routing, out, as_json)
        return
    if what == "validation":
        from experiments.validation import page

        text = page()
        if out is None:
            click.echo(text)
        else:
            out.write_text(text, encoding="utf-8")
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
