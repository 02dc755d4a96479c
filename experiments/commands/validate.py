"""The command validate: live validation."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, json_option, print_json, seed_option

BACKENDS = ("local", "aws")
DEFAULT_OUT = Path("results/runs/live-validation")


@click.command()
@click.option("--backend", default="local", show_default=True, help="local: the embedded endpoint; or aws.")
@click.option(
    "--profile",
    "profile_name",
    help="Profile of that platform (name or file). Without it the platform is measured first, on other plans.",
)
@click.option("--plan", "plan_path", type=FILE, help="One plan for the exported model, instead of the usual ones.")
@click.option("--quick", is_flag=True, help="Four plans, one load, two batches each.")
@click.option("--repeats", type=click.IntRange(min=1), help="Batches of each plan and load; default 3.")
@click.option(
    "--mb-per-core", type=float, help="local: memory that buys one core; default --profile's, else 4096."
)
@click.option("--role", help="aws: ARN of the role that functions run as.")
@click.option("--budget-usd", type=float, default=1.0, show_default=True, help="aws: stop once more was billed.")
@click.option("--yes", is_flag=True, help="aws: create functions and a bucket, and pay for them.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_OUT, show_default=True)
@seed_option
@json_option
def validate(
    backend: str,
    profile_name: str | None,
    plan_path: Path | None,
    quick: bool,
    repeats: int | None,
    mb_per_core: float | None,
    role: str | None,
    budget_usd: float,
    yes: bool,
    out: Path,
    seed: int,
    as_json: bool,
) -> None:
    """Serve real batches of a small MoE model by several plans, and hold the simulation against the bills.

    Everything that is created is removed. docs/live-validation.md says what is compared, and how.

    \b
    Example: ./smoe validate --backend local --quick
             ./smoe validate --backend local --out live/
    """
    import math
    from dataclasses import replace

    from experiments.console import log
    from experiments.console import out as shown
    from experiments.live.page import page, summary, write_validation
    from experiments.live.run import run_validation
    from experiments.live.settings import settings_for
    from moe.errors import InputError, nearest
    from simulator.profile import load_profile

    profile = load_profile(profile_name) if profile_name else load_profile()
    settings = settings_for(profile if profile_name else None, backend, mb_per_core)
    settings = settings.made_quick() if quick else settings
    settings = replace(settings, repeats=repeats) if repeats else settings
    if backend not in BACKENDS:
        raise InputError(f"--backend: no backend '{backend}'{nearest(backend, BACKENDS)}")
    if backend == "aws" and not yes:
        raise InputError(
            "--backend aws: creates functions and a bucket in your account; say --yes to pay for them"
        )
    with log.status("live validation ...") as status:
        found = run_validation(
            settings,
            backend,
            profile,
            measure=profile_name is None,
            plan_path=plan_path,
            role=role,
            seed=seed,
            budget_usd=budget_usd if backend == "aws" else math.inf,
            say=lambda text: status.update(f"live validation: {text} ..."),
        )
    write_validation(found, out)
    if as_json:
        print_json(summary(found))
    else:
        shown.print(page(found).split("![")[0], markup=False)
    log.print(f"written to {out}", soft_wrap=True)
