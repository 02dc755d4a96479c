"""The command bench: how fast things are, beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, json_option, print_json


@click.command()
@click.argument("what", type=click.Choice(["simulator", "validation"]))
@click.option("--out", type=FILE, help="Write the validation page there.")
@click.option("--requests", default=200_000, show_default=True, help="Of the request workload.")
@json_option
def bench(what: str, out: Path | None, requests: int, as_json: bool) -> None:
    """Measure speed, ratios side by side in one run; or write how the simulator was validated.

    \b
    Example: ./smoe bench simulator
             ./smoe bench validation --out docs/validation.md
    """
    if what == "validation":
        from experiments.validation import page

        text = page()
        if out is None:
            click.echo(text)
        else:
            out.write_text(text, encoding="utf-8")
        return
    from dataclasses import asdict

    from experiments.bench import Workload, batch_times, scaling, simulator_speed, slope_us

    requests_rows = simulator_speed(Workload(requests=requests))
    batches, sizes = batch_times(), scaling()
    if as_json:
        print_json(
            {
                "requests": [asdict(row) for row in requests_rows],
                "batches": [asdict(batch) for batch in batches],
                "scaling": [asdict(batch) for batch in sizes],
                "slope_us": slope_us(sizes),
            }
        )
        return
    click.echo(f"{requests:,} Poisson requests, exponential service, cold starts (SimFaaS: pip install simfaas)")
    for row in requests_rows:
        click.echo(f"  {row.name:<22} {row.per_s:>10,.0f} {row.unit}/s   {row.of_first:6.2f} x the first")
    click.echo("One batch of a Bert MoE, 12 layers x 4 experts x 2 replicas, 10,240 tokens")
    for batch in batches:
        each = (
            f"{batch.seconds / batch.minibatches * 1e6:7.1f} microseconds a minibatch" if batch.minibatches else ""
        )
        click.echo(f"  {batch.name:<22} {batch.seconds * 1e3:10.1f} ms  {each}")
    click.echo("One batch, storage, by layers x experts")
    for batch in sizes:
        each = f"{batch.seconds / batch.invocations * 1e6:7.1f} microseconds each"
        click.echo(f"  {batch.name:<10} {batch.invocations:>7,} invocations {batch.seconds:8.3f} s  {each}")
    click.echo(f"  slope: {slope_us(sizes):.1f} microseconds an invocation")
