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

    Five-fold cross-validation: the predictor learns from four fifths of the profile and predicts the rest, which
    gives five errors of all experts. A batch to come errs as a sixth one would: normally, with their mean and
    covariance, wider by 1 + 1/5 since the mean is known from five. How the texts to come differ from all of the
    profile is not in it.

    Args:
        make: a fresh predictor, not fitted.
        profiled: the profile.
        predicted: tokens of each expert in the mean batch, shape (layers, experts).
        batch_tokens: of a batch.
        count: batches. seed: of the draws.

    Returns:
        Whole tokens of each expert, shape (count, layers, experts); each layer's sum is that of `predicted`.

    Raises InputError for a profile of fewer than five tokens.
    """
    if profiled.tokens < FOLDS:
        raise InputError(f"profiled_tokens: expected at least {FOLDS}, got {profiled.tokens}")
    every, errors = np.arange(profiled.tokens), []
    for fold in np.array_split(every, FOLDS):
        left_out = profiled.take(fold)
        fitted = make().fit(profiled.take(np.setdiff1d(every, fold)))
        error = left_out.popularity() - np.asarray(fitted.predict(left_out.token_id, left_out), float)
        errors.append(error * (batch_tokens / left_out.tokens))
    mean = np.mean(errors, axis=0)
    drawn = np.random.default_rng(seed).normal(size=(count, FOLDS)) * np.sqrt((1 + 1 / FOLDS) / (FOLDS - 1))
    batches = np.maximum(predicted + mean + np.tensordot(drawn, errors - mean, axes=1), 0.0)
    batches *= predicted.sum(axis=1, keepdims=True) / batches.sum(axis=2, keepdims=True)
    return np.array([[whole_tokens(layer) for layer in batch] for batch in batches])
