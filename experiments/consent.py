"""Nothing is done to a user's AWS account before they have read what, and agreed."""

from __future__ import annotations

import sys

import click

from lambda_probe.account.clients import configured_region
from lambda_probe.campaign.aws_backend import consent_text
from lambda_probe.campaign.costs import Estimate
from moe.errors import InputError


def agree(campaign: str, region: str | None, found: Estimate, budget_usd: float, yes: bool) -> None:
    """Show what a campaign would do, and ask; nothing is sent. Raises InputError where it may not be done.

    Args:
        campaign: its id. region: None: the configured one. found, budget_usd: as in `consent_text`.
        yes: agreed to already.
    """
    click.echo(consent_text(campaign, configured_region(region), found, budget_usd), err=True)
    if not yes and not (sys.stdin.isatty() and click.confirm("Go on?", err=True)):
        raise InputError("AWS: nothing was done: expected your consent: --yes, or an answer on a terminal")
