"""Alg. 2's search with an epsilon for each pair, and its plainer rivals `none`, `random`, `single-epsilon`."""

from collections.abc import Sequence

import numpy as np

from optimizer.bo.sampler import Proposal, Sampler, Trial, best_trial, finite_scores
from optimizer.bo.space import Pairs, Tuning


class NoTuning(Sampler):
    """`none`: the profiled table, and no more."""

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> None:
        return None


class RandomPairs(Sampler):
    """`random`: in each trial Q new pairs, from all possible keys."""

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        slots = self.settings.pairs
        keys, counts = self.known.keys.draw(rng, slots)
        pairs = Pairs.empty(slots).with_drawn(np.arange(slots), keys, counts, trial=len(history))
        return Proposal(Tuning(pairs), drawn=slots)


class SingleEpsilon(Sampler):
    """`single-epsilon`: every pair is drawn anew with the same probability epsilon_0 / (1 + rho tau), else it
    keeps its best known value."""

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        tau = len(history)
        return self._redrawn(history, rng, self.settings.epsilon(tau), np.zeros(0, np.int64))

    def _redrawn(
        self, history: Sequence[Trial], rng: np.random.Generator, epsilon: np.ndarray, limited: np.ndarray
    ) -> Proposal:
        """Keep the incumbent's pairs, but draw some anew: the first mu Q of them from `limited`, if it has any."""
        best = history[incumbent(history)].proposal.tuning.pairs
        slots = np.flatnonzero(rng.random(len(best)) < epsilon)
        from_limited = int((slots < self.settings.limited).sum()) if len(limited) else 0
        draw = self.known.keys.draw
        parts = [draw(rng, from_limited, limited)] if from_limited else []
        parts.append(draw(rng, len(slots) - from_limited))
        keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        pairs = best.with_drawn(slots, keys, counts, trial=len(history))
        return Proposal(Tuning(pairs), epsilon, len(slots), len(np.unique(limited)))


class MultiEpsilon(SingleEpsilon):
    """`multi-epsilon`, Alg. 2: after an error the first mu Q pairs keep exploring, in the limited range L: the
    token IDs of all batches with an error."""

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        tau = len(history)
        epsilon = self.settings.epsilon(tau, history[-1].judged.rho)
        return self._redrawn(history, rng, epsilon, self.limited_range(history))

    def limited_range(self, history: Sequence[Trial]) -> np.ndarray:
        """L: the tokens of the batches with errors; each ID once where pairs are not drawn by frequency."""
        wrong = sorted({batch for trial in history for batch in trial.judged.wrong_batches})
        ids = np.concatenate([np.zeros(0, np.int64), *(self.known.batches.token_ids[batch] for batch in wrong)])
        return ids if self.settings.by_frequency else np.unique(ids)


def incumbent(history: Sequence[Trial]) -> int:
    """The trial whose pairs are kept: of least posterior mean in a Gaussian process of the scores.

    Two points are as far apart as the number of slots that hold different pairs; a pair that no trial has had yet
    is as good as any other to it, which is why it is drawn by epsilon and not by the surrogate.
    """
    scores = finite_scores(history)
    if len(history) < 3 or np.ptp(scores) <= 0:
        return best_trial(history)
    from optimizer.bo.surrogate import posterior_mean

    slots = np.stack([trial.proposal.tuning.pairs.drawn for trial in history]).astype(float)
    return int(np.argmin(posterior_mean(slots, scores)))
