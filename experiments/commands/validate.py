"""The command validate: live validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from experiments.commands.options import (
    EXIT_MISSED,
    WithSettings,
    json_option,
    print_json,
    read_settings,
    seed_option,
    set_option,
)

if TYPE_CHECKING:
    from experiments.live.platform import LivePlatform
    from experiments.live.run import Prepared
    from lambda_probe.campaign.costs import Estimate
    from moe.files import FileModel

DEFAULT_OUT = Path("results/runs/live-validation")


def _models() -> Sequence[type[FileModel]]:
    from experiments.live.settings import ValidateSettings

    return (ValidateSettings,)


@click.command(cls=WithSettings, models=_models)
@click.option(
    "--backend",
    type=click.Choice(["local", "aws"]),
    default="local",
    show_default=True,
    help="local: the embedded endpoint; or aws.",
)
@click.option(
    "--profile",
    "profile_name",
    help="Profile of that platform (name or file). Without it the platform is measured first, on other plans.",
)
@click.option("--quick", is_flag=True, help="Seven plans, one load, two batches each.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and cost, and do nothing.")
@click.option("--yes", is_flag=True, help="aws: you agree to what --dry-run says.")
@set_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_OUT, show_default=True)
@seed_option
@json_option
def validate(
    backend: Literal["local", "aws"],
    profile_name: str | None,
    quick: bool,
    dry_run: bool,
    yes: bool,
    settings: tuple[str, ...],
    out: Path,
    seed: int,
    as_json: bool,
) -> int:
    """Serve real batches of a small MoE model by several plans, and hold the simulation against the bills.

    Everything that is created is removed. docs/aws.md says what is compared, and how. Exit 1 where a
    goal is missed.

    \b
    Example: ./smoe validate --backend local --quick
             ./smoe validate --backend aws --profile mine.yaml --dry-run
    """
    from experiments.live.files import UNFINISHED
    from experiments.live.platform import LivePlatform
    from experiments.live.run import prepare
    from experiments.live.settings import settings_for
    from experiments.tools.console import agree, doing
    from moe.held import held
    from simulator.profiles.schema import load_profile

    (chosen,) = read_settings(settings)
    profile = load_profile(profile_name) if profile_name else load_profile()
    live = settings_for(profile if profile_name else None, backend, chosen.mb_per_core)
    live = live.made_quick() if quick else live
    live = replace(live, repeats=chosen.repeats) if chosen.repeats else live
    platform = LivePlatform(backend, chosen.role, chosen.region, chosen.numpy_wheel)
    if not dry_run:
        platform.check()
    with doing("live validation: exporting the model"):
        prepared = prepare(live, backend, profile, chosen.plan, seed)
    if dry_run:
        _dry_run(prepared.estimate(), backend, as_json)
        return 0
    if backend == "aws":
        agree(platform.campaign, chosen.region, prepared.estimate(), chosen.budget_usd, yes)
    with held(out, "validation.json", UNFINISHED):
        return _validate(prepared, platform, profile_name is None, seed, chosen.budget_usd, out, as_json)


def _dry_run(found: Estimate, backend: str, as_json: bool) -> None:
    from experiments.tools.console import out as shown

    if as_json:
        print_json({"backend": backend, **vars(found)})
        return
    shown.print(
        f"{found.functions} functions and one bucket; about {found.invocations:,} calls, {found.gb_s:,.1f} GB-s, "
        f"{found.wall_s / 60:.0f} minutes of serving by the profile's constants."
    )
    if backend == "aws":
        shown.print(
            f"Expected ${found.usd:.4f}. At most {found.most_invocations:,} calls, {found.most_gb_s:,.0f} GB-s "
            f"and ${found.most_usd:,.2f}: if every call ran into its timeout. budget_usd stops earlier."
        )


def _validate(
    prepared: Prepared,
    platform: LivePlatform,
    measure: bool,
    seed: int,
    budget_usd: float,
    out: Path,
    as_json: bool,
) -> int:
    from experiments.live.files import write_kept, write_validation
    from experiments.live.page import page
    from experiments.live.run import run_validation
    from experiments.live.session import Session
    from experiments.tools.console import doing, log
    from experiments.tools.console import out as shown
    from lambda_probe.account.interrupts import stoppable

    kept: list[Path] = []

    def keep(session: Session) -> None:
        kept[:] = [write_kept(session, out)]

    try:
        with stoppable(), doing("live validation") as now:
            found = run_validation(
                prepared,
                platform,
                measure=measure,
                seed=seed,
                budget_usd=budget_usd if platform.backend == "aws" else math.inf,
                say=lambda text: now(f"live validation: {text}"),
                keep=keep,
            )
    except BaseException:
        for file in kept:
            log.print(f"the calls of the batches so far: {file}", soft_wrap=True)
        raise
    write_validation(found, out)
    if as_json:
        print_json(found.summary())
    else:
        shown.print(page(found).split("![")[0], markup=False)
    log.print(f"written to {out}", soft_wrap=True)
    missed = found.missed()
    log.print(
        f"not passed: {'; '.join(missed)}" if missed else "passed: outputs, cost and latency", soft_wrap=True
    )
    return EXIT_MISSED if missed else 0
