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
) -> np.ndarray:
    """Batches that may come: what was predicted, plus the error of a prediction for a batch out of the profile.

    A run of consecutive tokens of the profile, a batch of them or half the profile, is left out, the predictor
    learns from the rest, and what it says of the run is compared with where the gates sent it; so for `count` runs
    that begin evenly spread over the profile. Texts that differ from the profile as a whole are not in it.

    Args:
        make: a fresh predictor, not fitted.
        profiled: the profile.
        predicted: tokens of each expert in the mean batch, shape (layers, experts).
        batch_tokens: of a batch.
        count: batches.

    Returns:
        Whole tokens of each expert, shape (count, layers, experts); each layer's sum is that of `predicted`.
    """
    size = min(batch_tokens, max(1, profiled.tokens // 2))
    found = []
    for start in np.linspace(0, profiled.tokens - size, count).astype(int):
        run = profiled.slice(start, start + size)
        outside = np.r_[0:start, start + size : profiled.tokens]
        fitted = make().fit(profiled.take(outside))
        error = run.popularity() - np.asarray(fitted.predict(run.token_id, run), float)
        batch = np.maximum(predicted + error * (batch_tokens / size), 0.0)
        batch *= predicted.sum(axis=1, keepdims=True) / batch.sum(axis=1, keepdims=True)
        found.append([whole_tokens(layer) for layer in batch])
    return np.array(found)
