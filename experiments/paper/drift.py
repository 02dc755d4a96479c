"""Batches that drift: a share of each batch's sequences is of another text than the profiled one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.run.routing import HeldOutBatches, Routing
from moe.trace import Batches


def drifted_sets(
    home: Routing, other: Routing, drift: float, sizes: list[int], batch_tokens: int, seed: int
) -> list[HeldOutBatches]:
    """Sets of so many batches each, as `Routing.sets` has them; sequences of one set are in no other.

    Args:
        home, other: the profiled text's routing, and the other's; held-out sequences of both are served.
        drift: share of a batch's sequences that are of the other text.
    """
    per_batch = batch_tokens // home.sequence_tokens
    of_other = round(drift * per_batch)
    parts = ((home, per_batch - of_other), (other, of_other))
    sets = [text.sets(sizes, count * text.sequence_tokens, seed) for text, count in parts if count]
    return [_joined(of_texts) for of_texts in zip(*sets, strict=True)]


def _joined(of_texts: Sequence[HeldOutBatches]) -> HeldOutBatches:
    """Each text's part of each batch, put together."""
    if len(of_texts) == 1:
        return of_texts[0]
    token_ids = zip(*(x.batches.token_ids for x in of_texts), strict=True)
    real = np.sum([x.batches.real for x in of_texts], axis=0)
    batches = Batches(tuple(np.concatenate(x) for x in token_ids), real)
    return HeldOutBatches(batches, " with ".join(x.kind for x in of_texts), min(x.independent for x in of_texts))
