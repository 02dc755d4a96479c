"""The interface of all samplers: what to try next, given what was tried."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe.trace import Batches
from optimizer.bo.alg2 import Alg2
from optimizer.bo.judge import Judged
from optimizer.bo.planner import Planner
from optimizer.bo.space import KeyRange, Pairs, Tuning


@dataclass(frozen=True)
class Known:
    """What a sampler may know: the table and its predictor, the keys, and the batches that trials serve (their
    routing only once they were served)."""

    planner: Planner
    keys: KeyRange
    batches: Batches


@dataclass(frozen=True)
class Proposal:
    """What to try.

    Attributes:
        tuning: it.
        epsilon: of each pair, shape (Q,), where there is one.
        drawn: how many pairs are new in this trial.
        limited: token IDs in the limited range L.
        loads: predicted tokens of each expert of each layer, shape (loads,), where the sampler looked.
    """

    tuning: Tuning
    epsilon: np.ndarray | None = None
    drawn: int = 0
    limited: int = 0
    loads: np.ndarray | None = None


@dataclass(frozen=True)
class Trial:
    """What was tried, and what it came to."""

    proposal: Proposal
    judged: Judged


class Sampler(ABC):
    """A sampler. `ask` is called before each trial with all trials so far; it must depend on nothing else but the
    seed, so that a run can go on from its history.

    Trial 0 is the same for all: the table as it was profiled.
    """

    def __init__(self, known: Known, settings: Alg2, seed: int) -> None:
        self.known, self.settings, self.seed = known, settings, seed

    def ask(self, history: Sequence[Trial]) -> Proposal | None:
        """The next trial; None when there is nothing left to try."""
        if not history:
            return Proposal(Tuning(Pairs.empty(self.settings.pairs)))
        return self.propose(history, np.random.default_rng([self.seed, len(history)]))

    @abstractmethod
    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal | None:
        """The trial after these; there is one at least."""


def finite_scores(history: Sequence[Trial]) -> np.ndarray:
    """Scores of the trials; where a batch failed, the worst of the others (a model cannot learn infinity)."""
    scores = np.array([trial.judged.score for trial in history])
    known = scores[np.isfinite(scores)]
    return np.where(np.isfinite(scores), scores, known.max() if len(known) else 0.0)


def best_trial(history: Sequence[Trial]) -> int:
    """The first trial of least score."""
    return int(np.argmin([trial.judged.score for trial in history]))
