"""Runs a campaign on a backend: resumable, bounded, within a budget, cleaned up whatever happens."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from lambda_probe.backend import Backend, ProbeFunction
from lambda_probe.calls import Attempt
from lambda_probe.campaign_costs import row_usd
from lambda_probe.campaign_file import Campaign, default_runtime
from lambda_probe.campaign_folder import CampaignFolder, Line, last_moment_s, open_folder
from lambda_probe.measurements import Measured, row_of
from lambda_probe.probes import ATTEMPTS_PER_SAMPLE, Plan, Step, plan_of, scaled
from lambda_probe.works import ExpertPass, Multiply, Nothing, Send, Work
from moe.errors import InputError, PlatformError

UNANSWERED = ("throttled", "failed")
TOO_LARGE = ("payload-too-large", "response-too-large")
MOST_UNANSWERED = 3  # calls in a row, each with its attempts: then the platform is not there
MOST_BAD = 5  # calls in a row that are no samples: then a step is given up
MOST_REFUSED = 3  # functions, before the first that could be deployed
SIZINGS, LEAST_SHARE, MOST_GROWTH = 8, 0.8, 4.0

Watch: TypeAlias = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a campaign.

    Attributes:
        complete: every step has ended. stopped: why it has not; empty if complete.
        spent_usd: by billed durations, of all sessions. left_out: of the plan. short: steps without all samples.
        rows: of the measurement table.
    """

    complete: bool
    stopped: str
    spent_usd: float
    left_out: tuple[str, ...]
    short: tuple[str, ...]
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
            plan = plan_of(campaign, facts.name, backend.account(), runtime or default_runtime(facts.name))
            began_s = _begin(opened, backend, provenance or {})
            session = _Session(backend, opened, began_s, budget_usd, watch)
            try:
                stopped = session.run(plan)
            except BaseException:
                with deaf(), suppress(PlatformError):
                    opened.write_table(complete=False)
                raise
            opened.write_table(complete=not stopped)
            short = (*session.short(), *session.refused.values())
            return Outcome(not stopped, stopped, session.spent_usd, plan.left_out, short, opened.rows)
    finally:
        with deaf():
            backend.close()


@contextmanager
def deaf() -> Iterator[None]:
    """Ctrl-C and SIGTERM do nothing meanwhile: something is being removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _begin(folder: CampaignFolder, backend: Backend, provenance: Mapping[str, Any]) -> float:
    """Note that a session begins. When the campaign began, s by the backend's clock.

    A simulated clock starts anew in each session: then as if this one followed the last.
    """
    now_s = backend.now_s()
    began_s = min(folder.provenance.get("began_s", now_s), now_s - last_moment_s(folder.lines))
    account = backend.account()
    session = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows_before": len(folder.rows),
        **provenance,
    }
    folder.note(
        began_s=folder.provenance.get("began_s", began_s),
        versions=dict(backend.facts.versions),
        account={"concurrency": account.concurrency, "most_memory_mb": account.most_memory_mb},
        sessions=[*folder.provenance.get("sessions", []), session],
    )
    return began_s


class _BudgetReached(Exception):
    """So much was billed."""


class _Session:
    """One process's work on a campaign."""

    def __init__(
        self, backend: Backend, folder: CampaignFolder, began_s: float, budget_usd: float | None, watch: Watch
    ) -> None:
        self._backend, self._folder, self._began_s = backend, folder, began_s
        self._budget_usd, self._watch = budget_usd, watch
        self.spent_usd = sum(row_usd(row, backend.prices) for row in folder.rows)
        self.refused: dict[str, str] = {}  # functions
        self._deployed: dict[str, ProbeFunction] = {}
        self._started: set[str] = set()  # deployed functions that have been called
        self._ever_deployed, self._unanswered = False, 0
        self._done_s, self._total_s = 0.0, 0.0
        self._amounts = {
            line.step.partition("/")[2]: line.amount for line in folder.lines if line.amount is not None
        }
        self._good: dict[str, int] = {}
        for line in folder.lines:
            self._good[line.step] = self._good.get(line.step, 0) + line.good

    def run(self, plan: Plan) -> str:
        """All steps that have not ended; returns why it stopped before the last one, empty if it did not."""
        ended = {line.step for line in self._folder.lines if line.end is not None}
        self._total_s = sum(step.expected_s for step in plan.steps)
        try:
            for step in plan.steps:
                self._watch(self._done_s, self._total_s, _doing(step))
                if step.key not in ended:
                    self._play(step)
                self._done_s += step.expected_s
        except _BudgetReached:
            return f"the budget of {self._budget_usd:g} USD is used up ({self.spent_usd:.4f} USD were billed)"
        return ""

    def short(self) -> list[str]:
        """Steps that ended without all their samples, and why."""
        return [f"{line.step}: {line.end}" for line in self._folder.lines if line.end]

    # -- a step -------------------------------------------------------------------------------------------

    def _play(self, step: Step) -> None:
        if not self._deploy(step):
            return
        if step.manner in ("warm", "sized", "limit") and not self._start(step):
            return
        if step.manner == "cold":
            self._until(step, lambda: self._cold(step))
        elif step.manner == "sized":
            work = self._sized(step)
            if work is not None:
                self._until(step, lambda: self._warm(step, work))
        elif step.manner == "warm":
            self._until(step, lambda: self._warm(step, step.work))
        elif step.manner == "limit":
            self._limit(step)
        elif step.manner == "idle":
            self._until(step, lambda: self._idle(step))
        else:
            self._until(step, lambda: self._burst(step))

    def _until(self, step: Step, sample: Callable[[], str]) -> None:
        """Until the step has its samples; in a session at most so many calls for each one that is missing.

        Args:
            sample: tries once; returns why it was none, empty if it was one.
        """
        calls, bad, why = 0, 0, ""
        most = ATTEMPTS_PER_SAMPLE * (step.samples - self._good.get(step.key, 0))
        while self._good.get(step.key, 0) < step.samples:
            if calls == most or bad == MOST_BAD:
                good = self._good.get(step.key, 0)
                self._end(step, f"{good} of {step.samples} samples after {calls} calls in vain; the last: {why}")
                return
            why = sample()
            calls, bad = calls + 1, bad + 1 if why else 0
            share = self._good.get(step.key, 0) / step.samples
            self._watch(self._done_s + share * step.expected_s, self._total_s, _doing(step))
        self._end(step, "")

    def _end(self, step: Step, why: str) -> None:
        self._folder.append(Line(step.key, end=why))

    def _cold(self, step: Step) -> str:
        name = step.function.name
        if name in self._started:
            self._backend.forget(name)
        measured = self._call(step, step.function, Nothing())
        why = _failure(measured)
        if not why and not _is_cold(measured):
            why = "an instance was there already"
        self._keep(step, [measured], good=not why)
        return why

    def _warm(self, step: Step, work: Work) -> str:
        measured = self._call(step, step.function, work)
        why = _failure(measured)
        if not why and _is_cold(measured):
            why = "it was a cold start"
        self._keep(step, [measured], good=not why)
        return why

    def _idle(self, step: Step) -> str:
        """A burst, the gap, the burst again: one sample, kept together."""
        before = self._at_once(step)
        self._backend.rest(step.idle_s)
        after = [replace(each, idle_s=step.idle_s) for each in self._at_once(step)]
        why = next(filter(None, map(_failure_of_one, (*before, *after))), "")
        self._keep(step, [[each] for each in (*before, *after)], good=not why)
        return why

    def _burst(self, step: Step) -> str:
        if step.function.name in self._started:
            self._backend.rest(step.rest_s)
        made = self._at_once(step)
        why = "" if any(each.attempt.status == "ok" for each in made) else _failure_of_one(made[-1])
        self._keep(step, [[each] for each in made], good=not why)
        return why

    def _limit(self, step: Step) -> None:
        """Halve between the largest size that fits and the smallest that does not; earlier calls are known."""
        tried = dict(_tried(line) for line in self._folder.lines if line.step == step.key and line.good)
        bad = 0
        while (size := next_size(step, tried)) is not None:
            work = _of_size(step.work, size)
            measured = self._call(step, step.function, work)
            last = measured[-1].attempt
            fits = last.status == "ok"
            known = fits or _too_large(last.status, last.error)
            self._keep(step, [measured], good=known)
            if known:
                tried[size], bad = fits, 0
            elif (bad := bad + 1) == MOST_BAD:
                self._end(step, f"no answer for {size} bytes; the last: {_failure(measured)}")
                return
        self._end(step, "")

    # -- functions ----------------------------------------------------------------------------------------

    def _deploy(self, step: Step) -> bool:
        """The step's functions, and no others. False where the platform refuses one."""
        wanted = [each for each in (step.target, step.function) if each is not None]
        for name in set(self._deployed) - {each.name for each in wanted}:
            self._backend.delete(name)
            del self._deployed[name]
            self._started.discard(name)
        for function in wanted:
            if function.name in self.refused:
                return False
            if function.name in self._deployed:
                continue
            try:
                self._backend.create(function)
            except InputError as error:
                self.refused[function.name] = str(error)
                if not self._ever_deployed and len(self.refused) == MOST_REFUSED:
                    raise
                return False
            self._deployed[function.name], self._ever_deployed = function, True
        return True

    def _start(self, step: Step) -> bool:
        """First calls of the step's functions; each is a cold start and kept as one."""
        for function in filter(None, (step.target, step.function)):
            for _ in range(ATTEMPTS_PER_SAMPLE):
                if function.name in self._started:
                    break
                measured = self._call(step, function, Nothing(), probe="cold")
                why = _failure(measured)
                self._keep(step, [measured])
                if why:
                    self._started.discard(function.name)
            else:
                self._end(step, f"its function did not start; the last: {why}")
                return False
        return True

    def _sized(self, step: Step) -> Work | None:
        """The step's work, long enough; None if the step had to be given up.

        Grown in small steps: short work rides inside one CPU period and looks faster than it is.
        """
        amount = self._amounts.get(step.sizing_key)
        if amount is not None:
            return scaled(step.work, amount)
        repeats = step.work.repeats if isinstance(step.work, Multiply | ExpertPass) else 1
        wanted_s, amount = step.call_s / repeats, 1.0
        for _ in range(SIZINGS):
            work = _once(scaled(step.work, amount))
            measured = self._call(step, step.function, work, probe="sizing")
            self._keep(step, [measured])
            if why := _failure(measured):
                self._end(step, f"how long its work takes could not be measured: {why}")
                return None
            took_s = measured[-1].answer.seconds[0] * (work.passes if isinstance(work, ExpertPass) else 1)
            least = isinstance(work, ExpertPass) and work.passes == 1 and took_s > wanted_s
            if LEAST_SHARE * wanted_s <= took_s <= 2 * wanted_s or least:
                break
            amount *= min(MOST_GROWTH, max(1 / MOST_GROWTH, 1.05 * wanted_s / max(took_s, 1e-9)))
        self._folder.append(Line(step.key, amount=amount))
        self._amounts[step.sizing_key] = amount
        return scaled(step.work, amount)

    # -- calls --------------------------------------------------------------------------------------------

    def _call(self, step: Step, function: ProbeFunction, work: Work, probe: str = "") -> list[Measured]:
        """Call a function once; every attempt."""
        self._check_budget()
        attempts = self._backend.call(function.name, work)
        self._started.add(function.name)
        measured = [
            Measured(step.run, probe or step.probe, function, work, checked(each, function)) for each in attempts
        ]
        return measured

    def _at_once(self, step: Step) -> list[Measured]:
        """A burst of the step's work; one attempt each."""
        self._check_budget()
        made = self._backend.call_at_once([step.function.name] * step.at_once, step.work)
        self._started.add(step.function.name)
        attempts = [checked(each, step.function) for tried in made for each in tried]
        return [
            Measured(step.run, step.probe, step.function, step.work, each, at_once=step.at_once)
            for each in attempts
        ]

    def _check_budget(self) -> None:
        if self._budget_usd is not None and self.spent_usd >= self._budget_usd:
            raise _BudgetReached

    def _keep(self, step: Step, calls: Sequence[Sequence[Measured]], good: bool = False) -> None:
        """Keep calls (each with its attempts) as one line. Raises PlatformError when nobody answers any more."""
        backend = self._backend
        rows = [
            row_of(each, backend.facts, backend.prices, self._began_s) for attempts in calls for each in attempts
        ]
        line = Line(step.key, rows, good)
        self._folder.append(line)
        self.spent_usd += sum(row_usd(row, backend.prices) for row in rows)
        self._good[step.key] = self._good.get(step.key, 0) + good
        outcomes = [attempts[-1] for attempts in calls]
        if all(each.attempt.status in UNANSWERED and each.attempt.report is None for each in outcomes):
            self._unanswered += 1
        else:
            self._unanswered = 0
        if self._unanswered == MOST_UNANSWERED:
            last = outcomes[-1].attempt
            raise PlatformError(
                f"{MOST_UNANSWERED} calls in a row were not carried out ({last.status}: {last.error}): check the "
                "connection, credentials and concurrency; the same command goes on where it stopped"
            )


def checked(attempt: Attempt, function: ProbeFunction) -> Attempt:
    """The attempt; one that ran with another memory size than asked for has failed."""
    report = attempt.report
    if report is None or report.memory_mb == function.memory_mb:
        return attempt
    error = f"REPORT says {report.memory_mb} MB, asked for {function.memory_mb}"
    return replace(attempt, status="failed", error=error)


def next_size(step: Step, tried: Mapping[int, bool]) -> int | None:
    """The size to try next; `tried`: whether sizes fitted. None: the limit is known, or not between the two."""
    low, high = step.between
    for size in (high, low):
        if size not in tried:
            return size
    if tried[high] or not tried[low]:
        return None
    fits = max(size for size, fitted in tried.items() if fitted)
    fails = min(size for size, fitted in tried.items() if not fitted)
    return (fits + fails) // 2 if fails - fits > step.within else None


def _tried(line: Line) -> tuple[int, bool]:
    """Size, and whether it fitted, of a kept call of a limit."""
    import json

    row = line.rows[-1]
    work = json.loads(row["work"])
    return max(work["size_bytes"], work["answer_bytes"]), row["status"] == "ok"


def _of_size(work: Work, size: int) -> Work:
    assert isinstance(work, Send)
    return replace(work, answer_bytes=size) if work.answer_bytes else replace(work, size_bytes=size)


def _once(work: Work) -> Work:
    return replace(work, repeats=1) if isinstance(work, Multiply | ExpertPass) else work


def _too_large(status: str, error: str) -> bool:
    """Whether a call failed for its size; a handler may be the one to say so."""
    return status in TOO_LARGE or any(each in error for each in TOO_LARGE)


def _is_cold(measured: Sequence[Measured]) -> bool:
    """By the REPORT line, or by the function's own account: not all cold starts have an Init Duration."""
    last = measured[-1]
    return last.answer.first or (last.attempt.report is not None and last.attempt.report.init_ms is not None)


def _failure(measured: Sequence[Measured]) -> str:
    """Why a call is no sample, empty if it is one."""
    return _failure_of_one(measured[-1])


def _failure_of_one(measured: Measured) -> str:
    attempt = measured.attempt
    if attempt.status != "ok":
        return f"{attempt.status}: {attempt.error}"
    return measured.answer.stopped


def _doing(step: Step) -> str:
    return f"run {step.run + 1}: {step.probe}, {step.function.memory_mb} MB"
