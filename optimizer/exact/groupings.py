"""Which experts of a layer may share a function, for the optimum over shapes.

Of up to ALL_UP_TO experts every grouping is looked at, so the optimum is over all. Of more, for each group size
the one that spreads their load evenly (LPT): a bound then holds for these groupings, not for all.
"""

from collections.abc import Iterator

import numpy as np

from simulator.staged_plan import Groups

ALL_UP_TO = 4


def groupings(tokens: np.ndarray) -> tuple[Groups, ...]:
    """Groupings of a layer's experts in which some share a function, by their tokens, shape (experts,)."""
    experts = len(tokens)
    if experts <= ALL_UP_TO:
        return tuple(groups for groups in _partitions(experts) if len(groups) < experts)
    sizes = [*(2**k for k in range(1, (experts - 1).bit_length())), experts]
    return tuple(
        tuple(sorted(tuple(sorted(group)) for group in lpt(tokens, -(-experts // size), size) if group))
        for size in sizes
    )


def lpt(tokens: np.ndarray, groups: int, size: int) -> list[list[int]]:
    """Longest processing time first: experts from the busiest on, each to the group with the fewest tokens.

    Args:
        tokens: of each expert, shape (experts,).
        groups: their number.
        size: experts of a group at most; groups x size holds all.
    """
    members: list[list[int]] = [[] for _ in range(groups)]
    load = np.zeros(groups)
    for i in np.argsort(-tokens, kind="stable"):
        full = np.array([len(group) >= size for group in members])
        k = int(np.where(full, np.inf, load).argmin())
        members[k].append(int(i))
        load[k] += tokens[i]
    return members


def _partitions(experts: int) -> Iterator[Groups]:
    """Every way to divide so many experts into groups: each joins a group before it, or begins one."""
    if experts == 0:
        yield ()
        return
    for groups in _partitions(experts - 1):
        for k in range(len(groups)):
            yield (*groups[:k], (*groups[k], experts - 1), *groups[k + 1 :])
        yield (*groups, (experts - 1,))
