"""A user's own AWS account as a backend: only with consent, and after saying what it does and costs."""

from __future__ import annotations

import re
from pathlib import Path

from lambda_probe.account.cleanup import PREFIX, TAG
from lambda_probe.account.clients import aws_clients
from lambda_probe.campaign.backend import BackendPrices
from lambda_probe.campaign.boto_backend import BotoBackend, facts_of
from lambda_probe.campaign.costs import Estimate
from moe.errors import InputError

POLL_S = 0.5
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")


def consent_text(campaign: str, region: str, found: Estimate, budget_usd: float) -> str:
    """What a campaign does to an account, for its owner to agree to.

    Args:
        found: what it comes to. budget_usd: where it stops.
    """
    most_usd, name = min(found.most_usd, budget_usd + found.most_call_usd), PREFIX + campaign
    return "\n".join(
        [
            f"In your AWS account, region {region}, this",
            f"- creates at most {found.functions} functions {name}-*, and one bucket {name}, all "
            f"tagged {TAG}={campaign}",
            f"- is expected to call them {found.invocations:,} times, {found.gb_s:,.1f} GB-s in all, and to cost "
            f"${found.usd:.4f}",
            f"- would call them at most {found.most_invocations:,} times, {found.most_gb_s:,.1f} GB-s in all, if "
            "every call ran into its timeout",
            f"- costs at most ${most_usd:.4f}: it stops at ${budget_usd:.4f}, counted from billed durations; what "
            "is then under way comes on top",
            "- removes all of it in the end, whatever happens; what a killed run leaves, "
            "`./smoe probe --cleanup --backend aws` removes",
        ]
    )


def open_aws(
    campaign: str,
    prices: BackendPrices,
    role: str | None,
    consented: bool,
    region: str | None = None,
    profile: str | None = None,
    numpy_wheel: Path | None = None,
) -> BotoBackend:
    """The account's backend; nothing is sent yet.

    Args:
        campaign: its id. role: ARN that functions run as; the user makes it (docs/aws.md).
        consented: whether the user agreed to `consent_text`. profile: of the AWS configuration.
        numpy_wheel: for packages that import numpy.

    Raises InputError without consent, role, region or credentials.
    """
    if not consented:
        raise InputError("AWS: nothing was done: expected your consent: --yes (what it would do: --dry-run)")
    role = checked_role(role)
    clients = aws_clients(region, profile)
    return BotoBackend(
        clients, facts_of("aws", clients.region), prices, campaign, role, numpy_wheel, poll_s=POLL_S
    )


def checked_role(role: str | None) -> str:
    """The ARN of the role that functions run as. Raises InputError where it is none."""
    if role is None:
        raise InputError("AWS: no role for functions to run as: expected its ARN as role (docs/aws.md says how)")
    if not _ROLE.fullmatch(role):
        raise InputError(f"role {role}: expected an ARN such as arn:aws:iam::123456789012:role/smoe-probe")
    return role
