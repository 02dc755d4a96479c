"""The loop of Alg. 2, for any sampler: propose, plan, serve, keep the best; within a budget; resumable."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moe.errors import InputError
from optimizer.bo.alg2 import Alg2
from optimizer.bo.history import Row, row_of
from optimizer.bo.judge import Judge
from optimizer.bo.sampler import Sampler, Trial, best_trial
from optimizer.bo.space import Tuning


@dataclass(frozen=True)
class Budget:
    """What all samplers may use alike; None: no limit of that kind."""

    trials: int = 30
    served_tokens: int | None = None
    wall_s: float | None = None

    def used_up(self, rows: Sequence[Row]) -> str | None:
        """Which part of it the trials used up, trial 0 included; None if there is some left for another."""
        if len(rows) >= self.trials:
            return f"{self.trials} trials"
        if rows and self.served_tokens is not None:
            each = rows[0].served_tokens
            if rows[-1].served_tokens + each > self.served_tokens:
                return f"{self.served_tokens} served tokens"
        if self.wall_s is not None and sum(row.wall_s for row in rows) >= self.wall_s:
            return f"{self.wall_s:g} s"
        return None


@dataclass(frozen=True)
class Tuned:
    """What a tuning run found.

    Attributes:
        tuning: the best.
        best: its trial.
        rows: the history.
        stopped: why it ended.
    """

    tuning: Tuning
    best: int
    rows: tuple[Row, ...]
    stopped: str


def converged(rows: Sequence[Row], settings: Alg2) -> bool:
    """Whether the best score changed by less than zeta over the last lambda trials."""
    if len(rows) <= settings.patience:
        return False
    now, before = rows[-1].best_score, rows[-1 - settings.patience].best_score
    return before - now < settings.zeta * abs(now)


def tune(
    judge: Judge,
    sampler: Sampler,
    name: str,
    budget: Budget,
    earlier: Sequence[Row] = (),
    after_trial: Callable[[Sequence[Row]], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuned:
    """Tune until the budget is used up, the best score has converged, or there is nothing left to try.

    Args:
        judge: of the batches to tune on.
        sampler: what to try.
        name: the sampler's, for the history.
        budget: see there.
        earlier: the history of the same run, stopped: the sampler is shown it and goes on from there.
        after_trial: called with the history after each trial.
        clock: s.

    Raises InputError for a budget of no trial.
    """
    if budget.trials < 1:
        raise InputError(f"trials: expected 1 or more, got {budget.trials}")
    rows: list[Row] = []
    trials: list[Trial] = []
    for row in earlier:
        proposal = sampler.ask(trials)
        if proposal is None:
            break
        trials.append(Trial(proposal, row.judged))
        rows.append(row)
    while True:
        stopped = budget.used_up(rows)
        if stopped is None and converged(rows, judge.settings):
            stopped = (
                f"best score changed by less than {judge.settings.zeta:g} over {judge.settings.patience} trials"
            )
        if stopped is not None:
            break
        began = clock()
        proposal = sampler.ask(trials)
        if proposal is None:
            stopped = "nothing left to try"
            break
        judged, _ = judge(proposal.tuning)
        trials.append(Trial(proposal, judged))
        rows.append(row_of(name, rows, proposal, judged, judge.batches.tokens, clock() - began))
        if after_trial is not None:
            after_trial(rows)
    best = best_trial(trials)
    return Tuned(trials[best].proposal.tuning, best, tuple(rows), stopped)
