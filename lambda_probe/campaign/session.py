"""One process's work on a campaign: its steps, one after another, each until it has its samples or is given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from lambda_probe.campaign.steps import ATTEMPTS_PER_SAMPLE, Plan, Step, scaled, together
from lambda_probe.campaign.works import ExpertPass, Multiply, Nothing, Work
from moe.errors import InputError

MOST_BAD = 5  # calls in a row that are no samples: then a step is given up
MOST_REFUSED = 3  # functions, before the first that could be deployed
SIZINGS, LEAST_SHARE, MOST_GROWTH = 8, 0.8, 4.0

Watch: TypeAlias = Callable[[float, float, str], None]


@dataclass
class _Tries:
    """Calls for the samples that a step is `missing`."""

    missing: int
    calls: int = 0
    bad: int = 0
    why: str = ""

    def note(self, why: str) -> None:
        """One more call, and why it was no sample, empty if it was one."""
        self.calls, self.bad, self.why = self.calls + 1, self.bad + 1 if why else 0, why

    @property
    def in_vain(self) -> bool:
        """Whether it is enough."""
        return self.calls == ATTEMPTS_PER_SAMPLE * self.missing or self.bad == MOST_BAD


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
        groups = [(steps, gap_s + sum(step.expected_s for step in steps)) for steps, gap_s in together(plan.steps)]
        self._total_s = sum(seconds for _, seconds in groups)
        try:
            for steps, seconds in groups:
                self._watch(self._done_s, self._total_s, _doing(steps[0]))
                self._play([step for step in steps if step.key not in ended], seconds)
                self._done_s += seconds
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

    def _play(self, steps: list[Step], seconds: float) -> None:
        """Steps that have not ended; more than one only where their gaps pass together."""
        steps = [step for step in steps if self._deploy(step, beside=steps)]
        if not steps or (steps[0].manner in ("warm", "sized", "limit") and not self._start(steps[0])):
            return
        step = steps[0]
        if step.manner == "limit":
            self._limit(step)
        elif step.manner == "idle":
            self._until(steps, self._idle, seconds)
        elif step.manner == "sized":
            work = self._sized(step)
            if work is not None:
                self._until(steps, lambda _: [self._warm(step, work)], seconds)
        else:
            tried = {
                "cold": lambda: self._cold(step),
                "warm": lambda: self._warm(step, step.work),
                "burst": lambda: self._burst(step),
            }
            self._until(steps, lambda _: [tried[step.manner]()], seconds)

    def _until(self, steps: list[Step], sample: Callable[[list[Step]], list[str]], seconds: float) -> None:
        """Until the steps have their samples; in a session at most so many calls for each one that is missing.

        Args:
            sample: tries once for each of some steps; returns why it was none, empty if it was one.
            seconds: that all are expected to take.
        """
        tries = {step.key: _Tries(step.samples - self._calls.good[step.key]) for step in steps}
        while steps := [step for step in steps if self._goes_on(step, tries[step.key])]:
            for step, why in zip(steps, sample(steps), strict=True):
                tries[step.key].note(why)
            share = self._calls.good[steps[0].key] / steps[0].samples
            self._watch(self._done_s + share * seconds, self._total_s, _doing(steps[0]))

    def _goes_on(self, step: Step, tries: _Tries) -> bool:
        """Whether it has to be tried again; where not, the step ends."""
        good = self._calls.good[step.key]
        if good >= step.samples:
            self._end(step, "")
        elif tries.in_vain:
            self._end(
                step, f"{good} of {step.samples} samples after {tries.calls} calls in vain; the last: {tries.why}"
            )
        else:
            return True
        return False

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

    def _idle(self, steps: list[Step]) -> list[str]:
        """A burst for each step, its gap, its burst again: all gaps pass together.

        The longest begins first, so that no burst is in the way of another whose gap is over.
        """
        waiting = []
        for step in sorted(steps, key=lambda each: each.idle_s, reverse=True):
            before = self._calls.at_once(step)
            self._calls.keep(step, [[each] for each in before])
            waiting.append((self._backend.now_s() + step.idle_s, step, before))
        whys = {}
        for until_s, step, before in sorted(waiting, key=lambda each: each[0]):
            self._backend.rest(until_s - self._backend.now_s())
            after = [replace(each, idle_s=step.idle_s) for each in self._calls.at_once(step)]
            why = whys[step.key] = next(filter(None, map(failure_of, (*before, *after))), "")
            self._calls.keep(step, [[each] for each in after], good=not why)
        return [whys[step.key] for step in steps]

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

    def _deploy(self, step: Step, beside: Sequence[Step]) -> bool:
        """The step's functions, and no others than those beside. False where the platform refuses one."""
        for name in set(self._deployed) - {each.name for other in (step, *beside) for each in other.functions}:
            self._backend.delete(name)
            del self._deployed[name]
            self._calls.started.discard(name)
        for function in step.functions:
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
        for function in step.functions:
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
