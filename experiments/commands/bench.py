"""The command bench: how fast things are, beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import json_option, print_json


@click.command()
@click.argument("what", type=click.Choice(["simulator", "validation", "bo"]))
@click.option("--out", type=click.Path(path_type=Path), help="The validation page; the folder of the bo study.")
@click.option("--requests", default=100_000, show_default=True, help="Of the request workload.")
@click.option("--seeds", type=click.IntRange(min=2), default=10, show_default=True, help="Of the bo study.")
@click.option("--trials", type=click.IntRange(min=2), default=30, show_default=True, help="Of each of its runs.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Its processes.")
@json_option
def bench(
    what: str, out: Path | None, requests: int, seeds: int, trials: int, workers: int, as_json: bool
) -> None:
    """Measure speed, ratios side by side in one run; write how the simulator was validated; or study whether
    Bayesian optimisation of the profile table helps (it goes on where it was stopped).

    \b
    Example: ./smoe bench simulator
             ./smoe bench validation --out docs/validation.md
             ./smoe bench bo --out results/bo
    """
    if what == "validation":
        from experiments.validation import page

        text = page()
        if out is None:
            click.echo(text)
        else:
            out.write_text(text, encoding="utf-8")
        return
    if what == "bo":
        _bo(out or Path("results") / "runs" / "bo", seeds, trials, workers, as_json)
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


def _bo(out: Path, seeds: int, trials: int, workers: int, as_json: bool) -> None:
    """The study of Bayesian optimisation: tables, then figure."""
    import json

    from experiments.bo_study import run_study
    from experiments.console import progress

    with progress("tuning", "units") as update:
        found = run_study(out, seeds, trials, workers, lambda done, of: update(done, of, 0.0))
    from experiments.figures.bo_study import draw_study

    draw_study(out, out / "gap")
    if as_json:
        print_json({"summary": json.loads(found.to_json(orient="records"))})
        return
    columns = ["counting", "objective", "drift", "sampler", "change", "gap_closed", "low", "high", "over_tuned"]
    click.echo(found[columns].to_string(index=False, float_format="{:.2f}".format))
    click.echo(f"{out}/: runs.csv, summary.csv, gap.png, provenance.json")
