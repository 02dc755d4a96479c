"""Runs a campaign on a backend: resumable, bounded, within a budget, cleaned up whatever happens."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lambda_probe.account.interrupts import deaf
from lambda_probe.campaign.backend import Backend
from lambda_probe.campaign.file import Campaign, default_runtime
from lambda_probe.campaign.folder import CampaignFolder, last_moment_s, open_folder
from lambda_probe.campaign.samples import troubles
from lambda_probe.campaign.session import Session, Watch
from lambda_probe.campaign.steps import plan_of
from moe.errors import PlatformError


@dataclass(frozen=True)
class Outcome:
    """What became of a campaign.

    Attributes:
        complete: every step has ended. stopped: why it has not; empty if complete.
        spent_usd: by billed durations, of all sessions. left_out: of the plan. short: steps without all samples.
        troubles: what failed, and how often. rows: of the measurement table.
    """

    complete: bool
    stopped: str
    spent_usd: float
    left_out: tuple[str, ...]
    short: tuple[str, ...]
    troubles: tuple[str, ...]
    rows: list[dict[str, Any]]


def run_campaign(
    campaign: Campaign,
    backend: Backend,
    folder: Path,
    runtime: str | None = None,
    budget_usd: float | None = None,
    identity: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    watch: Watch = lambda done_s, total_s, doing: None,
) -> Outcome:
    """Measure what the folder does not have yet; the table is written however it ends.

    Args:
        folder: new, or of the same campaign. runtime: of packages that name none.
        budget_usd: nothing is called once so much was billed. identity: what else must be the same when a campaign
            goes on. provenance: of this session (commit, command).
        watch: told (expected seconds of what is done, of all, what is being measured).

    Everything that the backend has made is removed. Raises InputError, PlatformError where the platform does not
    answer or the disk is full; the same call then goes on where it stopped.
    """
    facts = backend.facts
    same = {"backend": facts.name, "region": facts.region, **(identity or {})}
    try:
        with open_folder(folder, campaign, same) as opened:
            account = backend.account()
            plan = plan_of(campaign, facts.name, account, runtime or default_runtime(facts.name))
            limits: dict[str, float] = {
                "concurrency": account.concurrency,
                "most_memory_mb": account.most_memory_mb,
            }
            if facts.name == "local":
                limits["mb_per_core"] = campaign.local.mb_per_core
            began_s = _begin(opened, backend, limits, provenance or {})
            session = Session(backend, opened, began_s, budget_usd, watch)
            try:
                stopped = session.run(plan)
            except BaseException:
                with deaf(), suppress(PlatformError):
                    opened.write_table(complete=False)
                raise
            opened.write_table(complete=not stopped)
            short = (*session.short(), *session.refused.values())
            rows = opened.rows
            wrong = tuple(troubles(rows))
            return Outcome(not stopped, stopped, session.spent_usd, plan.left_out, short, wrong, rows)
    finally:
        with deaf():
            backend.close()


def _begin(
    folder: CampaignFolder, backend: Backend, limits: Mapping[str, float], provenance: Mapping[str, Any]
) -> float:
    """Note that a session begins. When the campaign began, s by the backend's clock.

    A simulated clock starts anew in each session: then as if this one followed the last.
    """
    now_s = backend.now_s()
    began_s = min(folder.provenance.get("began_s", now_s), now_s - last_moment_s(folder.lines))
    session = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows_before": len(folder.rows),
        **provenance,
    }
    folder.note(
        began_s=folder.provenance.get("began_s", began_s),
        versions=dict(backend.facts.versions),
        account=dict(limits),
        sessions=[*folder.provenance.get("sessions", []), session],
    )
    return began_s
