"""The command probe: measure a platform with a campaign, or remove what one left."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import EXIT_STOPPED, FILE, json_option, print_json, seed_option

if TYPE_CHECKING:
    from experiments.profiles.probe import Platform
    from lambda_probe.campaign.file import Campaign

OUT = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option(
    "--backend", type=click.Choice(["local", "aws", "simulated"]), required=True, help="What to measure."
)
@click.option(
    "--campaign", default="quick", show_default=True, metavar="NAME|FILE", help="quick, standard, or a YAML file."
)
@click.option(
    "--out", type=OUT, help="Folder; the same command resumes. Default: results/runs/probe-CAMPAIGN-BACKEND."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and cost, and do nothing.")
@click.option(
    "--budget-usd", type=click.FloatRange(min=0), metavar="X", help="Stop once so much was billed. aws: 5."
)
@click.option("--yes", is_flag=True, help="aws: you agree to what --dry-run says.")
@click.option("--cleanup", is_flag=True, help="Remove what campaigns left on the platform, and measure nothing.")
@click.option(
    "--profile",
    default="aws-us-east-1-2026",
    show_default=True,
    metavar="NAME|FILE",
    help="simulated: the platform; aws: its prices.",
)
@click.option("--role", metavar="ARN", help="aws: the role that functions run as.")
@click.option("--region", help="aws: instead of the configured one.")
@click.option("--numpy-wheel", type=FILE, help="aws: numpy for the zip of packages that import it.")
@seed_option
@json_option
def probe(
    backend: str,
    campaign: str,
    out: Path | None,
    dry_run: bool,
    budget_usd: float | None,
    yes: bool,
    cleanup: bool,
    profile: str,
    role: str | None,
    region: str | None,
    numpy_wheel: Path | None,
    seed: int,
    as_json: bool,
) -> int:
    """Measure a platform: cold starts, calls, compute, S3, payloads, keep-alive, concurrency, the bill.

    Writes one measurement table, which `smoe calibrate` turns into a platform profile. Killed, it goes on where it
    was when it is started again. docs/calibration.md says what is measured and how.

    \b
    Example: ./smoe probe --backend local --campaign quick --out measured/
             ./smoe probe --backend aws --campaign standard --dry-run
             ./smoe probe --backend aws --cleanup
    """
    from experiments.profiles.probe import Platform
    from lambda_probe.campaign.file import load_campaign

    platform = Platform(backend, profile, seed, region, role, numpy_wheel)  # type: ignore[arg-type]
    if cleanup:
        return _cleanup(platform, dry_run, yes, as_json)
    wanted = load_campaign(campaign)
    if dry_run:
        _dry_run(wanted, platform, as_json)
        return 0
    folder = out or Path.cwd() / "results" / "runs" / f"probe-{wanted.name}-{backend}"
    return _measure(wanted, platform, folder, budget_usd, yes, as_json)


def _dry_run(campaign: Campaign, platform: Platform, as_json: bool) -> None:
    from experiments.profiles.probe import plan_json, planned, show_plan

    plan, found = planned(campaign, platform)
    if as_json:
        print_json(plan_json(plan, found, campaign, platform))
    else:
        show_plan(plan, found, campaign, platform)


def _measure(
    campaign: Campaign, platform: Platform, folder: Path, budget_usd: float | None, yes: bool, as_json: bool
) -> int:
    from experiments.profiles import probe as probing
    from experiments.tools.console import agree, progress
    from lambda_probe.account.interrupts import stoppable
    from lambda_probe.campaign.run import run_campaign

    identity = probing.campaign_id(campaign, folder)
    if platform.backend == "aws":
        budget_usd = probing.AWS_BUDGET_USD if budget_usd is None else budget_usd
        agree(identity, platform.region, probing.planned(campaign, platform)[1], budget_usd, yes)
    with (
        stoppable(),
        probing.opened(platform, campaign, folder, identity) as backend,
        progress("probing", "%") as update,
    ):
        outcome = run_campaign(
            campaign,
            backend,
            folder,
            platform.runtime(),
            budget_usd,
            {"campaign_id": identity, **platform.identity()},
            probing.provenance(),
            probing.Rate(update),
        )
    if as_json:
        print_json(probing.result_json(outcome, folder, campaign, platform))
    else:
        probing.show(outcome, folder)
    if outcome.stopped:
        click.echo(f"smoe: stopped: {outcome.stopped}; a larger --budget-usd resumes from there", err=True)
    return EXIT_STOPPED if outcome.stopped else 0


def _cleanup(platform: Platform, dry_run: bool, yes: bool, as_json: bool) -> int:
    from lambda_probe.account.cleanup import Leftovers, cleanup, leftovers
    from lambda_probe.account.clients import aws_clients
    from moe.errors import InputError

    found, failed = Leftovers(()), list[str]()
    if platform.backend == "aws":  # the others end with their process
        clients = aws_clients(platform.region)
        found = leftovers(clients)
        for each in found.tagged:
            click.echo(f"{each.kind} {each.name} of campaign {each.campaign}", err=True)
        if found.tagged and not dry_run:
            agreed = yes or (sys.stdin.isatty() and click.confirm("Remove them?", err=True))
            if not agreed:
                raise InputError(
                    "AWS: nothing was removed: expected your consent: --yes, or an answer on a terminal"
                )
            failed = cleanup(clients, found)
    names: list[Any] = [vars(each) for each in found.tagged]
    if as_json:
        print_json({"found": names, "not_ours": list(found.untagged), "removed": not dry_run, "failed": failed})
    elif not names:
        click.echo(f"nothing of any campaign is on {platform.backend}")
    else:
        click.echo(f"{len(names)} found, {0 if dry_run else len(names) - len(failed)} removed")
    for name in found.untagged:
        click.echo(f"smoe: bucket {name} has the prefix, but not the tag: not touched", err=True)
    for reason in failed:
        click.echo(f"smoe: not removed: {reason}", err=True)
    return 1 if failed else 0
