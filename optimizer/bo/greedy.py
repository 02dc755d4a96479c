"""Alg. 2's search with an epsilon for each pair, and its plainer rivals `none`, `random`, `single-epsilon`."""

from collections.abc import Sequence
from functools import cached_property

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
    keeps its best known value. Several such proposals are drawn, and a Gaussian process picks the one served."""

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        tau = len(history)
        return self._redrawn(history, rng, self.settings.epsilon(tau), np.zeros(0, np.int64))

    def _redrawn(
        self, history: Sequence[Trial], rng: np.random.Generator, epsilon: np.ndarray, limited: np.ndarray
    ) -> Proposal:
        """The most promising of several proposals, each of which keeps the best trial's pairs but draws some anew:
        the first mu Q of them from `limited`, if it has any."""
        best = history[best_trial(history)].proposal.tuning.pairs
        drawn = []
        for _ in range(self.settings.proposals):
            slots = np.flatnonzero(rng.random(len(best)) < epsilon)
            from_limited = int((slots < self.settings.limited).sum()) if len(limited) else 0
            parts = [self.known.keys.draw(rng, from_limited, limited)] if from_limited else []
            parts.append(self.known.keys.draw(rng, len(slots) - from_limited))
            keys, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
            tuning = Tuning(best.with_drawn(slots, keys, counts, trial=len(history)))
            drawn.append(Proposal(tuning, epsilon, len(slots), len(np.unique(limited)), self._loads(tuning)))
        return drawn[self._most_promising(history, drawn)]

    def _most_promising(self, history: Sequence[Trial], drawn: Sequence[Proposal]) -> int:
        """Which proposal promises the largest improvement; the first while all scores are alike.

        The surrogate of Alg. 2 is over the predicted loads, not over the pairs: through the loads alone pairs act,
        and to a surrogate over pairs one that no trial has had is as far from every other as any.
        """
        scores = finite_scores(history)
        if len(drawn) == 1 or np.ptp(scores) <= 0:
            return 0
        from optimizer.bo.surrogate import expected_improvement

        every = [x.proposal for x in history] + list(drawn)
        loads = np.stack([self._untuned if x.loads is None else x.loads for x in every])
        loads /= loads.std(axis=0).mean() or 1.0
        tried, new = np.split(loads, [len(history)])
        return int(np.argmax(expected_improvement(tried, scores, new)))

    def _loads(self, tuning: Tuning) -> np.ndarray:
        """Predicted tokens of each expert of each layer, shape (loads,)."""
        return self.known.planner.popularity(self.known.batches, tuning).ravel()

    @cached_property
    def _untuned(self) -> np.ndarray:
        return self._loads(Tuning(Pairs.empty(self.settings.pairs)))


class MultiEpsilon(SingleEpsilon):
    """`multi-epsilon`, Alg. 2: after an error the first mu Q pairs keep exploring, in the limited range L: the
    token IDs of the batches in which the trial before saw one."""

    def propose(self, history: Sequence[Trial], rng: np.random.Generator) -> Proposal:
        last = history[-1].judged
        return self._redrawn(
            history, rng, self.settings.epsilon(len(history), last.rho), self.limited_range(last.wrong_batches)
        )

    def limited_range(self, wrong: Sequence[int]) -> np.ndarray:
        """L, emptied at each trial (Alg. 2, line 32): the tokens of the batches with errors; each ID once where
        pairs are not drawn by frequency."""
        ids = np.concatenate([np.zeros(0, np.int64), *(self.known.batches.token_ids[batch] for batch in wrong)])
        return ids if self.settings.by_frequency else np.unique(ids)
