"""The command sensitivity: under which conditions is serverless MoE cheaper?"""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import json_option, print_json, seed_option


@click.command()
@click.option(
    "--model", default="bert-moe", show_default=True, help="A preset, or a YAML file of a model's sizes."
)
@click.option("--profile", default="aws-us-east-1-2026", show_default=True, help="Platform profile.")
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    default=256,
    show_default=True,
    help="Sobol points of a matrix; a power of 2.",
)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Processes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("results/runs/sensitivity"))
@click.option("--fresh", is_flag=True, help="Recompute what is already there.")
@seed_option
@json_option
def sensitivity(
    model: str, profile: str, samples: int, workers: int, out: Path, fresh: bool, seed: int, as_json: bool
) -> None:
    """How the headline ratios depend on what is uncertain: tornado, break-even points, Sobol indices.

    A study that was stopped resumes from the points that it has.

    \b
    Example: ./smoe sensitivity --samples 64 --out results/runs/sensitivity
    """
    from dataclasses import asdict

    from experiments.studies.sensitivity import evaluator, study
    from experiments.studies.sensitivity_page import page, write_study
    from experiments.studies.sensitivity_picture import draw_tornado
    from experiments.tools.console import progress
    from experiments.tools.kept import Store
    from experiments.tools.provenance import write_provenance
    from moe.errors import InputError
    from moe.held import filled, held
    from moe.spec import load_spec
    from simulator.profiles.schema import load_profile

    if samples & (samples - 1):
        raise InputError(f"--samples {samples}: expected a power of two, such as 64 or 256")
    spec, platform = load_spec(model), load_profile(profile)
    run = evaluator(model, profile, seed, Store(out / "cells", fresh, workers))
    with held(out, "sensitivity.json", "cells/points-*"):
        with progress("sampling", "points") as update:
            found = study(spec, platform, run, samples, seed, update)
        with filled(out) as partial:
            write_study(found, partial)
            draw_tornado(found, partial / "tornado")
            day = platform.prices.price_list_date.isoformat()
            about = {"model": model, "profile": profile, "price_list_date": day}
            write_provenance(partial, seed=seed, samples=samples, **about)
    if as_json:
        print_json(asdict(found))
    else:
        click.echo(page(found).split("## Ranges")[0].rstrip())
        click.echo(f"\n{out}: sensitivity.md, tornado.png, swings.csv, sobol.csv, sensitivity.json")
