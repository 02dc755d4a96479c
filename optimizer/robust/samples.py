"""Samples of the popularity: the bootstrap of a predictor.

What is uncertain is what the profile happened to hold: its sequences are drawn anew with replacement, the
predictor is fitted on them, and predicts. Sequences, not tokens, are drawn: the tokens of one text are alike. A
predictor that is wrong in the same way on every profile is wrong in every sample; the spread is too small by that.
"""

from collections.abc import Callable

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace, resampled
from optimizer.popularity import Predictor


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
