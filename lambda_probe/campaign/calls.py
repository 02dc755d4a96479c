"""Calls of a campaign: made within its budget, kept as they come, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lambda_probe.campaign.backend import Backend, ProbeFunction
from lambda_probe.campaign.costs import row_usd
from lambda_probe.campaign.folder import CampaignFolder, Line
from lambda_probe.campaign.measurements import Measured, row_of
from lambda_probe.campaign.samples import checked
from lambda_probe.campaign.steps import Step
from lambda_probe.campaign.works import Work
from moe.errors import PlatformError

UNANSWERED = ("throttled", "failed")
MOST_UNANSWERED = 3  # calls in a row, each with its attempts: then the platform is not there


class BudgetReached(Exception):
    """So much was billed."""


class Calls:
    """Makes calls, and keeps what came of them.

    Attributes:
        spent_usd: by what was billed, in earlier sessions as well.
        good: samples of each step, of earlier sessions as well.
        started: names of functions that have been called.

    Args:
        folder: where calls are kept, and what is there already. began_s: when the campaign began.
        budget_usd: after which nothing is called.
    """

    def __init__(self, backend: Backend, folder: CampaignFolder, began_s: float, budget_usd: float | None) -> None:
        self._backend, self._folder, self._began_s, self._budget_usd = backend, folder, began_s, budget_usd
        self.spent_usd = sum(row_usd(row, backend.prices) for row in folder.rows)
        self.good: Counter[str] = Counter()
        for line in folder.lines:
            self.good[line.step] += line.good
        self.started: set[str] = set()
        self._unanswered = 0

    def call(self, step: Step, function: ProbeFunction, work: Work, probe: str = "") -> list[Measured]:
        """Call a function once; every attempt."""
        self._check_budget()
        attempts = self._backend.call(function.name, work)
        self.started.add(function.name)
        return [
            Measured(step.run, probe or step.probe, function, work, checked(each, function)) for each in attempts
        ]

    def at_once(self, step: Step) -> list[Measured]:
        """A burst of the step's work; one attempt each."""
        self._check_budget()
        made = self._backend.call_at_once([step.function.name] * step.at_once, step.work)
        self.started.add(step.function.name)
        attempts = [checked(each, step.function) for tried in made for each in tried]
        return [
            Measured(step.run, step.probe, step.function, step.work, each, at_once=step.at_once)
            for each in attempts
        ]

    def _check_budget(self) -> None:
        if self._budget_usd is not None and self.spent_usd >= self._budget_usd:
            raise BudgetReached

    def keep(self, step: Step, calls: Sequence[Sequence[Measured]], good: bool = False) -> None:
        """Keep calls (each with its attempts) as one line. Raises PlatformError when nobody answers any more."""
        backend = self._backend
        rows = [
            row_of(each, backend.facts, backend.prices, self._began_s) for attempts in calls for each in attempts
        ]
        self._folder.append(Line(step.key, rows, good))
        self.spent_usd += sum(row_usd(row, backend.prices) for row in rows)
        self.good[step.key] += good
        outcomes = [attempts[-1] for attempts in calls]
        if all(each.attempt.status in UNANSWERED and each.attempt.report is None for each in outcomes):
            self._unanswered += 1
        else:
            self._unanswered = 0
        if self._unanswered == MOST_UNANSWERED:
            last = outcomes[-1].attempt
            raise PlatformError(
                f"{MOST_UNANSWERED} calls in a row were not carried out ({last.status}: {last.error}): check the "
                "connection, credentials and concurrency; the same command resumes where it stopped"
            )
