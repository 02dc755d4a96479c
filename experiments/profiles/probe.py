"""Campaigns from the command line: which backend, what it would cost, what it found."""

from __future__ import annotations

import hashlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from experiments.tools import console
from experiments.tools.provenance import git_commit
from lambda_probe.account.cleanup import Leftovers, cleanup, leftovers
from lambda_probe.account.clients import aws_clients
from lambda_probe.campaign.aws_backend import open_aws
from lambda_probe.campaign.backend import Account, Backend, BackendPrices
from lambda_probe.campaign.costs import Estimate, estimate
from lambda_probe.campaign.file import BackendName, Campaign, default_runtime
from lambda_probe.campaign.folder import read_provenance
from lambda_probe.campaign.run import Outcome
from lambda_probe.campaign.steps import Plan, plan_of
from lambda_probe.campaign.summary import Summary, summaries
from moe.errors import PlatformError
from simulator.profiles.schema import PlatformProfile, load_profile

if TYPE_CHECKING:
    from lambda_probe.local import LocalEndpoint

USUAL_CONCURRENCY = 1000  # of an AWS account, where nobody was asked
LONG_IDLE_S = 600.0  # from which on a dry run says that a campaign mostly waits
MOST_LINES = 60  # of a table on the terminal
AWS_BUDGET_USD = 5.0
SESSION_STRIDE = 1_000_003  # seeds of one campaign's sessions are so far apart


@dataclass(frozen=True)
class Platform:
    """What is to be probed.

    Attributes:
        backend: local, aws or simulated. profile: name or file; simulated, and the prices of aws. seed: simulated.
        region, role, numpy_wheel: of aws, as in `lambda_probe.campaign.aws_backend.open_aws`.
    """

    backend: BackendName
    profile: str
    seed: int = 0
    region: str | None = None
    role: str | None = None
    numpy_wheel: Path | None = None

    def loaded(self) -> PlatformProfile:
        """The profile. Raises InputError."""
        return load_profile(self.profile)

    def runtime(self) -> str:
        """Of packages that name none; of a profile, its main package's."""
        if self.backend != "simulated":
            return default_runtime(self.backend)
        start = self.loaded().start
        return start.packages[start.package].runtime

    def prices(self) -> BackendPrices:
        """What the platform charges."""
        return BackendPrices() if self.backend == "local" else prices_of(self.loaded())

    def identity(self) -> dict[str, Any]:
        """What must be the same when a campaign goes on."""
        if self.backend != "simulated":
            return {}
        digest = hashlib.sha256(self.loaded().model_dump_json().encode()).hexdigest()[:12]
        return {"profile": f"{self.profile} ({digest})", "seed": self.seed}


def prices_of(profile: PlatformProfile) -> BackendPrices:
    """A profile's prices, as a campaign counts them."""
    prices = profile.prices
    return BackendPrices(prices.gb_s.median, prices.invocation.median, prices.s3_get.median, prices.s3_put.median)


def planned(campaign: Campaign, platform: Platform) -> tuple[Plan, Estimate]:
    """What a campaign would do, without asking the platform; of AWS, with an account's usual limits."""
    account = Account(USUAL_CONCURRENCY)
    if platform.backend == "local":
        account = Account(campaign.local.account_concurrency)
    elif platform.backend == "simulated":
        profile = platform.loaded()
        account = Account(int(profile.concurrency.account.median), packages=tuple(profile.start.packages))
    plan = plan_of(campaign, platform.backend, account, platform.runtime())
    return plan, estimate(plan.steps, platform.prices())


def campaign_id(campaign: Campaign, folder: Path) -> str:
    """In every name and tag on the platform: that of the folder, or a new one."""
    known = read_provenance(folder).get("campaign_id")
    return str(known) if known else f"{campaign.name}-{uuid.uuid4().hex[:8]}"


@contextmanager
def opened(platform: Platform, campaign: Campaign, folder: Path, identity: str) -> Iterator[Backend]:
    """The backend, for `with`; nothing of it is left afterwards.

    The random numbers of a simulated one go on in each session of the folder. `aws` has been agreed to.
    """
    sessions = len(read_provenance(folder).get("sessions", []))
    if platform.backend == "aws":
        backend = open_aws(
            identity, platform.prices(), platform.role, True, platform.region, numpy_wheel=platform.numpy_wheel
        )
        if sessions:
            remove_earlier(identity, platform.region)
        yield backend
    elif platform.backend == "simulated":
        from calibration.check.simulated_backend import SimulatedBackend

        yield SimulatedBackend(platform.loaded(), platform.seed + SESSION_STRIDE * sessions)
    else:
        with local_endpoint(campaign) as endpoint:
            yield local_backend(endpoint, identity)


def remove_earlier(identity: str, region: str | None) -> None:
    """Remove what an earlier session of this campaign left on AWS, if it was killed."""
    clients = aws_clients(region)
    mine = tuple(each for each in leftovers(clients).tagged if each.campaign == identity)
    for reason in cleanup(clients, Leftovers(mine)):
        raise PlatformError(f"left by the killed session and not removed: {reason}")


@contextmanager
def local_endpoint(campaign: Campaign) -> Iterator[LocalEndpoint]:
    """The embedded endpoint as a campaign wants it."""
    from lambda_probe.local import LocalEndpoint, LocalSettings

    with LocalEndpoint(LocalSettings(**campaign.local.model_dump())) as endpoint:
        yield endpoint


def local_backend(endpoint: LocalEndpoint, identity: str) -> Backend:
    """The embedded endpoint as a backend; it is free."""
    from lambda_probe.campaign.boto_backend import BotoBackend, facts_of

    facts = facts_of("local", endpoint.settings.region)
    return BotoBackend(endpoint.clients(), facts, BackendPrices(), identity)


def provenance() -> dict[str, Any]:
    """Of this session: code and command."""
    return {"git_commit": git_commit(), "command": sys.argv[1:]}


class Rate:
    """Progress in percent of the expected time, as `run_campaign` tells it.

    Args:
        update: of `console.progress`.
    """

    def __init__(self, update: Callable[[int, int, float], None]) -> None:
        self._update, self._began = update, time.perf_counter()
        self._first: float | None = None

    def __call__(self, done_s: float, total_s: float, doing: str) -> None:
        percent = 100 * done_s / max(total_s, 1e-9)
        if self._first is None:
            self._first = percent
        rate = (percent - self._first) / max(time.perf_counter() - self._began, 1e-9)
        self._update(round(percent), 100, rate)


def plan_json(plan: Plan, found: Estimate, campaign: Campaign, platform: Platform) -> dict[str, Any]:
    """A dry run as one object."""
    return {
        "campaign": campaign.name,
        "backend": platform.backend,
        "runs": campaign.runs,
        **vars(found),
        "left_out": list(plan.left_out),
    }


def show_plan(plan: Plan, found: Estimate, campaign: Campaign, platform: Platform) -> None:
    """What would be done, by probe."""
    table = Table(title=f"campaign {campaign.name} on {platform.backend}, {campaign.runs} runs")
    for name in ("probe", "functions", "calls", "GB-s", "USD", "minutes"):
        table.add_column(name, justify="left" if name == "probe" else "right")
    for probe in dict.fromkeys(step.probe for step in plan.steps):
        part = estimate([step for step in plan.steps if step.probe == probe], platform.prices())
        table.add_row(probe, *_estimate_texts(part))
    table.add_section()
    table.add_row("all", *_estimate_texts(found))
    console.out.print(table)
    if found.idle_s >= LONG_IDLE_S:
        console.out.print(
            f"Of {found.wall_s / 60:,.0f} minutes, instances wait {found.idle_s / 60:,.0f} to see how long they "
            "are kept: nothing is billed meanwhile, and the command resumes where it was stopped."
        )
    if found.usd:
        console.out.print(
            f"Expected. At most {found.most_gb_s:,.0f} GB-s and ${found.most_usd:,.2f}: if every call ran into "
            "its timeout, and each sample took all the attempts that it may have. --budget-usd stops earlier."
        )
    show_left_out(plan.left_out)


def _estimate_texts(found: Estimate) -> list[str]:
    usd = f"{found.usd:.4f}" if found.usd else "free"
    return [
        f"{found.functions:,}",
        f"{found.invocations:,}",
        f"{found.gb_s:,.1f}",
        usd,
        f"{found.wall_s / 60:.1f}",
    ]


def show_left_out(reasons: tuple[str, ...]) -> None:
    """What is not measured, and why."""
    for reason in reasons:
        console.log.print(f"left out: {reason}", soft_wrap=True)


def result_json(outcome: Outcome, folder: Path, campaign: Campaign, platform: Platform) -> dict[str, Any]:
    """A campaign's end as one object."""
    return {
        "campaign": campaign.name,
        "backend": platform.backend,
        "folder": str(folder),
        "complete": outcome.complete,
        "stopped": outcome.stopped,
        "spent_usd": outcome.spent_usd,
        "rows": len(outcome.rows),
        "left_out": list(outcome.left_out),
        "short": list(outcome.short),
        "troubles": list(outcome.troubles),
        "probes": [line.as_json() for line in summaries(outcome.rows)],
    }


def _ends(lines: list[Summary]) -> list[Summary]:
    """Of lines that differ by memory size only, those of the smallest and the largest."""
    groups: dict[tuple[str, str], list[Summary]] = {}
    for line in lines:
        groups.setdefault((line.probe, line.what), []).append(line)
    return [line for group in groups.values() for line in (group if len(group) < 3 else (group[0], group[-1]))]


def show(outcome: Outcome, folder: Path) -> None:
    """What was measured, by probe, and what was not."""
    table = Table(title=f"{len(outcome.rows):,} rows in {folder}")
    for name in ("probe", "what", "MB", "samples", "median", "p99", "unit", "failures"):
        table.add_column(name, justify="left" if name in ("probe", "what", "unit") else "right")
    last, lines = "", summaries(outcome.rows)
    if len(lines) > MOST_LINES:
        lines = _ends(lines)
        table.caption = "Of each, the smallest and the largest memory size; all: --json."
    for line in (each.as_json() for each in lines):
        if last and last != line["probe"]:
            table.add_section()
        numbers = ["-" if line[key] is None else f"{line[key]:,.4g}" for key in ("median", "p99")]
        shown = line["probe"] if line["probe"] != last else ""
        counts = [str(line["memory_mb"]), str(line["samples"])]
        table.add_row(shown, line["what"], *counts, *numbers, line["unit"], str(line["failures"] or ""))
        last = line["probe"]
    console.out.print(table)
    if outcome.spent_usd:
        console.out.print(f"Billed durations and requests come to ${outcome.spent_usd:.4f}.")
    show_left_out(outcome.left_out)
    for reason in outcome.short:
        console.log.print(f"short of samples: {reason}", soft_wrap=True)
    for reason in outcome.troubles:
        console.log.print(f"failed: {reason}", soft_wrap=True)
