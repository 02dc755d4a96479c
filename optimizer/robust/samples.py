"""Samples of the popularity: the bootstrap of a predictor.

What is uncertain is what the profile happened to hold: its sequences are drawn anew with replacement, the
predictor is fitted on them, and predicts. Sequences, not tokens, are drawn: the tokens of one text are alike. A
predictor that is wrong in the same way on every profile is wrong in every sample; the spread is too small by that.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from moe.errors import InputError
from moe.trace import RoutingTrace
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


def resampled(trace: RoutingTrace, rng: np.random.Generator) -> RoutingTrace:
    """As many sequences of the trace, drawn with replacement; each draw is a sequence of its own."""
    order = np.argsort(trace.sequence, kind="stable")
    tokens = np.unique(trace.sequence, return_counts=True)[1]
    parts = np.split(order, np.cumsum(tokens)[:-1])
    drawn = rng.integers(len(parts), size=len(parts))
    rows = np.concatenate([parts[k] for k in drawn])
    return replace(
        trace,
        sequence=np.repeat(np.arange(len(drawn), dtype=trace.sequence.dtype), tokens[drawn]),
        token_id=trace.token_id[rows],
        position_id=trace.position_id[rows],
        attention_id=trace.attention_id[rows],
        experts=trace.experts[rows],
        weights=trace.weights[rows],
    )
