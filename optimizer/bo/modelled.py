"""Samplers of libraries, `tpe` and `gp-ei`, over the counts of Q keys; and better uses of the same trials, `few`
and `recount`, over a few numbers."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from optimizer.bo.alg2 import Alg2
from optimizer.bo.sampler import Known, Proposal, Sampler, Trial, finite_scores
from optimizer.bo.space import Pairs, Tuning

FIRST_RANDOM = 5
"""Trials drawn at random before a model is asked."""


class FixedKeys(Sampler):
    """A sampler of the counts of Q keys that are drawn once: libraries need a space that stays as it is. The
    variables are counts in 0..largest, on a log scale; 0 leaves the key as it is."""

    def __init__(self, known: Known, settings: Alg2, seed: int) -> None:
        super().__init__(known, settings, seed)
        self.keys, _ = known.keys.draw(np.random.default_rng([seed, 0]), settings.pairs)

    def with_counts(self, points: np.ndarray, trial: int) -> Proposal:
        """The proposal at a point of the unit cube, shape (Q,)."""
        largest = np.log(self.known.keys.largest_count + 1)
        count = np.floor(np.exp(points * largest) - 1 + 1e-9).astype(np.int64)
        drawn = np.full(len(count), trial)
        return Proposal(Tuning(Pairs(self.keys, count, drawn)), drawn=len(count))


class Tpe(FixedKeys):
    """`tpe`: Optuna's tree-structured Parzen estimator."""

    def __init__(self, known: Known, settings: Alg2, seed: int) -> None:
        super().__init__(known, settings, seed)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study()
        self._study.enqueue_trial({f"{q}": 0.0 for q in range(settings.pairs)})  # trial 0: no count is changed
        self._asked: list[Any] = []
        self._told = 0

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        import optuna

        scores = finite_scores(history).tolist()
        if not self._asked:
            self._ask()
        for trial, score in zip(self._asked[self._told :], scores[self._told :], strict=True):
            self._study.tell(trial, score)
        self._told = len(scores)
        seed = int(rng.integers(2**31))
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_RANDOM + 1)
        return self.with_counts(self._ask(), len(history))

    def _ask(self) -> np.ndarray:
        trial = self._study.ask()
        self._asked.append(trial)
        return np.array([trial.suggest_float(f"{q}", 0, 1) for q in range(self.settings.pairs)])


class GpEi(FixedKeys):
    """`gp-ei`: expected improvement in a Gaussian process of scikit-optimize, as its gp_minimize does."""

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        if len(history) <= FIRST_RANDOM:
            return self.with_counts(rng.random(self.settings.pairs), len(history))
        from optimizer.bo.surrogate import next_point

        largest = np.log(self.known.keys.largest_count + 1)
        counts = np.stack([trial.proposal.tuning.pairs.count for trial in history])
        return self.with_counts(next_point(np.log1p(counts) / largest, finite_scores(history), rng), len(history))


class FewNumbers(Sampler):
    """`few`: expected improvement over three numbers instead of Q pairs: the share of the layer's frequencies in
    the popularity, its sharpness, and a safety margin on the latency limit. The table stays as it is."""

    dimensions = 3

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        if len(history) <= FIRST_RANDOM:
            return Proposal(self.tuning(rng.random(self.dimensions)))
        from optimizer.bo.surrogate import next_point

        points = np.stack([self.point(trial.proposal.tuning) for trial in history])
        return Proposal(self.tuning(next_point(points, finite_scores(history), rng)))

    def tuning(self, point: np.ndarray) -> Tuning:
        """The tuning at a point of the unit cube."""
        blend, sharpness, margin = point.tolist()
        return Tuning(self._no_pairs(), blend, 0.25 * 8**sharpness, 0.25 * margin)

    def point(self, tuning: Tuning) -> np.ndarray:
        """The point of a tuning."""
        return np.array([tuning.blend, np.log(tuning.sharpness / 0.25) / np.log(8), tuning.margin / 0.25])

    def _no_pairs(self) -> Pairs:
        return Pairs.empty(self.settings.pairs)


class Recount(FewNumbers):
    """`recount`: what the batches of the first trial showed, instead of what they cost: each expert's predicted
    popularity is multiplied by (observed / predicted)^strength. Trial 1 has strength 1 and no margin; the others
    look for a better strength and margin by expected improvement."""

    dimensions = 2

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        if len(history) == 1:
            return Proposal(self.tuning(np.array([1.0, 0.0])))
        return super().propose(history, rng)

    def tuning(self, point: np.ndarray) -> Tuning:
        strength, margin = point.tolist()
        return Tuning(self._no_pairs(), margin=0.25 * margin, factor=self._observed**strength)

    def point(self, tuning: Tuning) -> np.ndarray:
        observed = np.log(self._observed)
        at = 0.0 if tuning.factor is None else float(np.log(tuning.factor).ravel() @ observed.ravel())
        return np.array([at / max(float((observed**2).sum()), 1e-300), tuning.margin / 0.25])

    @cached_property
    def _observed(self) -> np.ndarray:
        """Observed over predicted popularity of the tuning batches; one token is added to each."""
        known = self.known
        return (known.batches.mean + 1) / (known.planner.popularity(known.batches, Tuning(self._no_pairs())) + 1)
