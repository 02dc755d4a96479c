"""One process's work on a campaign: its steps, one after another, each until it has its samples or is given up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from lambda_probe.campaign.backend import Backend, ProbeFunction
from lambda_probe.campaign.calls import BudgetReached, Calls
from lambda_probe.campaign.folder import CampaignFolder, Line
from lambda_probe.campaign.samples import (
    failure,
    failure_of,
    is_cold,
    next_size,
    of_size,
    once,
    size_tried,
    too_large,
)
from lambda_probe.campaign.steps import ATTEMPTS_PER_SAMPLE, Plan, Step, scaled
from lambda_probe.campaign.works import ExpertPass, Multiply, Nothing, Work
from moe.errors import InputError

MOST_BAD = 5  # calls in a row that are no samples: then a step is given up
MOST_REFUSED = 3  # functions, before the first that could be deployed
SIZINGS, LEAST_SHARE, MOST_GROWTH = 8, 0.8, 4.0

Watch: TypeAlias = Callable[[float, float, str], None]


class Session:
    """One process's work on a campaign.

    Attributes:
        refused: functions that the platform refused, and why.

    Args:
        folder: where calls are kept, and what is there already. began_s: when the campaign began.
        budget_usd: after which nothing is called. watch: told (expected seconds of what is done, of all, what).
    """

    def __init__(
        self, backend: Backend, folder: CampaignFolder, began_s: float, budget_usd: float | None, watch: Watch
    ) -> None:
        self._backend, self._folder, self._budget_usd, self._watch = backend, folder, budget_usd, watch
        self._calls = Calls(backend, folder, began_s, budget_usd)
        self.refused: dict[str, str] = {}
        self._deployed: dict[str, ProbeFunction] = {}
        self._ever_deployed = False
        self._done_s, self._total_s = 0.0, 0.0
        self._amounts: dict[str, float] = {}
        self._last_amount: dict[str, float] = {}  # of the same work at another memory size
        for line in folder.lines:
            if line.amount is not None:
                self._note_amount(line.step, line.amount)

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
        except BudgetReached:
            return f"the budget of {self._budget_usd:g} USD is used up ({self.spent_usd:.4f} USD were billed)"
        return ""

    @property
    def spent_usd(self) -> float:
        """By what was billed, in earlier sessions as well."""
        return self._calls.spent_usd

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
        most = ATTEMPTS_PER_SAMPLE * (step.samples - self._calls.good[step.key])
        while self._calls.good[step.key] < step.samples:
            if calls == most or bad == MOST_BAD:
                good = self._calls.good[step.key]
                self._end(step, f"{good} of {step.samples} samples after {calls} calls in vain; the last: {why}")
                return
            why = sample()
            calls, bad = calls + 1, bad + 1 if why else 0
            share = self._calls.good[step.key] / step.samples
            self._watch(self._done_s + share * step.expected_s, self._total_s, _doing(step))
        self._end(step, "")

    def _end(self, step: Step, why: str) -> None:
        self._folder.append(Line(step.key, end=why))

    def _cold(self, step: Step) -> str:
        name = step.function.name
        if name in self._calls.started:
            self._backend.forget(name)
        measured = self._calls.call(step, step.function, Nothing())
        why = failure(measured)
        if not why and not is_cold(measured):
            why = "an instance was there already"
        self._calls.keep(step, [measured], good=not why)
        return why

    def _warm(self, step: Step, work: Work) -> str:
        measured = self._calls.call(step, step.function, work)
        why = failure(measured)
        if not why and is_cold(measured):
            why = "it was a cold start"
        self._calls.keep(step, [measured], good=not why)
        return why

    def _idle(self, step: Step) -> str:
        """A burst, the gap, the burst again: one sample, kept together."""
        before = self._calls.at_once(step)
        self._backend.rest(step.idle_s)
        after = [replace(each, idle_s=step.idle_s) for each in self._calls.at_once(step)]
        why = next(filter(None, map(failure_of, (*before, *after))), "")
        self._calls.keep(step, [[each] for each in (*before, *after)], good=not why)
        return why

    def _burst(self, step: Step) -> str:
        if step.function.name in self._calls.started:
            self._backend.rest(step.rest_s)
        made = self._calls.at_once(step)
        why = "" if any(each.attempt.status == "ok" for each in made) else failure_of(made[-1])
        self._calls.keep(step, [[each] for each in made], good=not why)
        return why

    def _limit(self, step: Step) -> None:
        """Halve between the largest size that fits and the smallest that does not; earlier calls are known."""
        known_sizes = dict(size_tried(line) for line in self._folder.lines if line.step == step.key and line.good)
        bad = 0
        while (size := next_size(step, known_sizes)) is not None:
            work = of_size(step.work, size)
            measured = self._calls.call(step, step.function, work)
            last = measured[-1].attempt
            fits = last.status == "ok"
            known = fits or too_large(last.status, last.error)
            self._calls.keep(step, [measured], good=known)
            if known:
                known_sizes[size], bad = fits, 0
            elif (bad := bad + 1) == MOST_BAD:
                self._end(step, f"no answer for {size} bytes; the last: {failure(measured)}")
                return
        self._end(step, "")

    # -- functions ----------------------------------------------------------------------------------------

    def _deploy(self, step: Step) -> bool:
        """The step's functions, and no others. False where the platform refuses one."""
        wanted = [each for each in (step.target, step.function) if each is not None]
        for name in set(self._deployed) - {each.name for each in wanted}:
            self._backend.delete(name)
            del self._deployed[name]
            self._calls.started.discard(name)
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
            tries = 0
            while function.name not in self._calls.started:
                measured = self._calls.call(step, function, Nothing(), probe="cold")
                self._calls.keep(step, [measured])
                if why := failure(measured):
                    self._calls.started.discard(function.name)
                    tries += 1
                    if tries == ATTEMPTS_PER_SAMPLE:
                        self._end(step, f"its function did not start; the last: {why}")
                        return False
        return True

    def _sized(self, step: Step) -> Work | None:
        """The step's work, long enough; None if the step had to be given up.

        Grown in small steps: short work rides inside one CPU period and looks faster than it is.
        """
        known = self._amounts.get(_in_any_run(step.key))
        if known is not None:
            return scaled(step.work, known)
        repeats = step.work.repeats if isinstance(step.work, Multiply | ExpertPass) else 1
        wanted_s, amount = step.call_s / repeats, self._last_amount.get(_work_of(step.key), 1.0)
        failures = 0
        for _ in range(SIZINGS):
            work = once(scaled(step.work, amount))
            measured = self._calls.call(step, step.function, work, probe="sizing")
            self._calls.keep(step, [measured])
            if why := failure(measured):
                failures += 1
                if failures == ATTEMPTS_PER_SAMPLE:
                    self._end(step, f"how long its work takes could not be measured: {why}")
                    return None
                continue
            took_s = measured[-1].answer.seconds[0] * (work.passes if isinstance(work, ExpertPass) else 1)
            least = isinstance(work, ExpertPass) and work.passes == 1 and took_s > wanted_s
            if LEAST_SHARE * wanted_s <= took_s <= 2 * wanted_s or least:
                break
            amount *= min(MOST_GROWTH, 1.05 * wanted_s / max(took_s, 1e-9))
        self._folder.append(Line(step.key, amount=amount))
        self._note_amount(step.key, amount)
        return scaled(step.work, amount)

    def _note_amount(self, key: str, amount: float) -> None:
        self._amounts[_in_any_run(key)] = self._last_amount[_work_of(key)] = amount


def _in_any_run(key: str) -> str:
    """A step's key without its run: work is made long enough once, and is then the same in each run."""
    return key.partition("/")[2]


def _work_of(key: str) -> str:
    """A step's key without run, package and memory size: the same work of the same probe."""
    _, place, index = key.split("/")
    return f"{place.partition('-')[0]}/{index}"


def _doing(step: Step) -> str:
    return f"run {step.run + 1}: {step.probe}, {step.function.memory_mb} MB"
