"""Samples of the popularity: the bootstrap of a predictor, and batches that it has not seen.

With `bootstrap`, what is uncertain is what the profile happened to hold: its sequences are drawn anew with
replacement, the predictor is fitted on them, and predicts. Sequences, not tokens, are drawn: the tokens of one
text are alike. A predictor that is wrong in the same way on every profile is wrong in every sample; the spread is
too small by that.
"""

from collections.abc import Callable

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace, resampled
from optimizer.popularity import Predictor
from simulator.serving.replicas import whole_tokens

FOLDS = 5


def bootstrap(
    make: Callable[[], Predictor],
    profiled: RoutingTrace,
    served: RoutingTrace,
    count: int,
    seed: int = 0,
    resample_served: bool = False,
) -> np.ndarray:
    """Popularity that the predictor predicts after profiling other draws of the same text.

    Args:
        make: a fresh predictor, not fitted.
        profiled: what it learns from.
        served: the tokens to be served.
        count: samples.
        seed: of the draws.
        resample_served: draw the served sequences as well, scaled to as many tokens: for the batches to come
            rather than for this one.

    Returns:
        Tokens of each expert, shape (count, layers, experts).
    """
    if count < 1:
        raise InputError(f"count: expected at least 1 sample, got {count}")
    found = []
    for rng in np.random.default_rng(seed).spawn(count):
        predictor = make().fit(resampled(profiled, rng))
        batch = resampled(served, rng) if resample_served else served
        predicted = predictor.predict(batch.token_id, batch)
        found.append(np.asarray(predicted, float) * (served.tokens / batch.tokens))
    return np.array(found)


def held_out_batches(
    make: Callable[[], Predictor],
    profiled: RoutingTrace,
    predicted: np.ndarray,
    batch_tokens: int,
    count: int,
    seed: int = 0,
) -> np.ndarray:
    """Batches that may come: what was predicted, plus the error of a prediction for a batch out of the profile.

    Five-fold cross-validation: the predictor learns from four fifths of the profile and predicts the mean batch of
    the rest, whose sequences make batches (drawn with replacement). How all of the profile differs from the texts
    to come is not in it.

    Args:
        make: a fresh predictor, not fitted.
        profiled: the profile.
        predicted: tokens of each expert in the mean batch, shape (layers, experts).
        batch_tokens: of a batch.
        count: batches. seed: of the draws.

    Returns:
        Whole tokens of each expert, shape (count, layers, experts); each layer's sum is that of `predicted`.
    """
    rng, errors = np.random.default_rng(seed), []
    folds = np.array_split(np.arange(profiled.tokens), min(FOLDS, profiled.tokens))
    for fold, batches in zip(folds, np.array_split(np.arange(count), len(folds)), strict=True):
        left_out = profiled.take(fold)
        fitted = make().fit(profiled.take(np.setdiff1d(np.arange(profiled.tokens), fold)))
        mean = np.asarray(fitted.predict(left_out.token_id, left_out), float) / left_out.tokens
        sequences = [left_out.take(left_out.sequence == k) for k in np.unique(left_out.sequence)]
        counts = np.array([each.popularity() for each in sequences])
        drawn = max(1, round(batch_tokens * len(sequences) / left_out.tokens))
        for _ in batches:
            real = counts[rng.integers(len(sequences), size=drawn)].sum(axis=0)
            errors.append(batch_tokens * (real * profiled.top_k / real.sum(axis=1, keepdims=True) - mean))
    batches = np.maximum(predicted + np.array(errors), 0.0)
    batches *= predicted.sum(axis=1, keepdims=True) / batches.sum(axis=2, keepdims=True)
    return np.array([[whole_tokens(layer) for layer in batch] for batch in batches])
