"""The command bench: how fast things are, beside each other, and how far they can be trusted."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, json_option, print_json, seed_option


@click.group()
def bench() -> None:
    """Measure speed, ratios side by side in one run; or write how the simulator was validated.

    \b
    Example: ./smoe bench simulator
             ./smoe bench validation --public measurements/ --out docs/validation.md
             ./smoe bench rivals
    """


@bench.command()
@click.option("--requests", default=200_000, show_default=True, help="Of the request workload.")
@json_option
def simulator(requests: int, as_json: bool) -> None:
    """The simulator beside SimFaaS and bare SimPy; a batch of an MoE model by method and by size.

    \b
    Example: ./smoe bench simulator --requests 100000
    """
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


@bench.command()
@click.option("--out", type=FILE, help="Write the page there, and its picture beside it.")
@click.option(
    "--public",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with public measurements of AWS.",
)
@json_option
def validation(out: Path | None, public: Path | None, as_json: bool) -> None:
    """The simulator held against equations, theory, another simulator and public measurements.

    \b
    Example: ./smoe bench validation --public measurements/ --out docs/validation.md
    """
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


@bench.command()
@click.argument("problems", nargs=-1, type=FILE)
@json_option
def rivals(problems: tuple[Path, ...], as_json: bool) -> None:
    """Every solver and rival on the same problems, by default three Bert models, under two limits each.

    \b
    Example: ./smoe bench rivals problem.json
    """
    from dataclasses import asdict

    from experiments.bench_rivals import PROBLEMS, compare_rivals, markdown

    rows = compare_rivals(problems or PROBLEMS, say=lambda what: click.echo(what, err=True))
    if as_json:
        print_json({"rivals": [asdict(row) for row in rows]})
    else:
        click.echo(markdown(rows))


@bench.command()
@click.option("--profiled", "profiled_path", required=True, type=FILE, help="Trace to learn from.")
@click.option(
    "--serve", "served_path", required=True, type=FILE, help="Trace: half to plan for, half to judge on."
)
@click.option("--model", default="bert-moe", show_default=True, help="Preset or YAML file of a model's sizes.")
@click.option("--profile", default="aws-us-east-1-2026", show_default=True, help="Platform profile.")
@seed_option
@json_option
def robust(profiled_path: Path, served_path: Path, model: str, profile: str, seed: int, as_json: bool) -> None:
    """Robust plans beside the exact plan for the prediction, on batches that no sample saw.

    \b
    Example: ./smoe bench robust --profiled a.parquet --serve b.parquet
    """
    from dataclasses import asdict

    from experiments.bench_robust import markdown, study_robust
    from moe.spec import load_spec
    from moe.trace import load_trace
    from simulator.profile import load_profile

    profiled, served = load_trace(profiled_path), load_trace(served_path)
    spec = load_spec(model, experts=served.num_experts, top_k=served.top_k)
    found = study_robust(profiled, served, spec, load_profile(profile), seed)
    if as_json:
        print_json(asdict(found))
        return
    click.echo(
        f"the samples of an expert's load vary by {found.spread:.1%} of the mean load; the prediction is "
        f"{found.prediction_error:.1%} of it off\n"
    )
    click.echo(markdown(found.rows))
