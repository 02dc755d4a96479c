"""The least summed cost of a layer's experts at every time by which all of them are done."""

import numpy as np


def sweep(
    finish: np.ndarray, cost: np.ndarray, begin: np.ndarray, from_s: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row, the least summed cost at every finish time at which it falls.

    Args:
        finish, cost: of each deployment, shape (rows, deployments); inf where not allowed.
        begin: where each expert's deployments begin, shape (experts,).
        from_s: finish times before that are left out.

    Returns:
        row, finish time and summed cost of each point, by row, then rising finish time.
    """
    rows, deployments = finish.shape
    experts = len(begin)
    each = np.diff(np.append(begin, deployments))
    # A row starts when its slowest expert can be done; what the others can do by then is its first point.
    start = np.maximum(np.minimum.reduceat(finish, begin, axis=1).max(axis=1), from_s)
    late = finish > start[:, None]
    at_start = np.minimum.reduceat(np.where(late, np.inf, cost), begin, axis=1)
    # From there on, whenever an expert's next cheaper deployment is done, the sum falls by the difference.
    cheaper = np.flatnonzero(late & (cost < np.repeat(at_start, each, axis=1)))
    when, cost_then = finish.take(cheaper), cost.take(cheaper)
    expert = cheaper // deployments * experts + np.repeat(np.arange(experts), each)[cheaper % deployments]
    order = _by_group(expert, when, rows * experts)
    expert, when, cost_then = expert[order], when[order], cost_then[order]
    saving = falls(expert, cost_then, at_start.ravel())
    row = expert // experts
    order = _by_group(row, when, rows)
    order = order[saving[order] > 0]
    row, when = row[order], when[order]
    # A row's first point stands before its other ones.
    ahead = np.searchsorted(row, np.arange(rows))
    saved = np.concatenate(([0.0], np.cumsum(saving[order])))
    first = at_start.sum(axis=1)
    total = first[row] - (saved[1:] - saved[ahead][row])
    points = np.insert(row, ahead, np.arange(rows)), np.insert(when, ahead, start), np.insert(total, ahead, first)
    possible = np.isfinite(start)
    if possible.all():
        return points
    kept = possible[points[0]]
    return points[0][kept], points[1][kept], points[2][kept]


def _by_group(group: np.ndarray, value: np.ndarray, groups: int) -> np.ndarray:
    """The order of values (values,) by group, then rising; whole numbers of 16 bits are sorted by counting."""
    order = np.argsort(value, kind="stable")
    narrow = group.astype(np.uint16) if groups <= np.iinfo(np.uint16).max else group
    return order[np.argsort(narrow[order], kind="stable")]


def falls(group: np.ndarray, value: np.ndarray, start: np.ndarray) -> np.ndarray:
    """By how much each value is below all before it in its group, 0 where it is not.

    Args:
        group: rising, shape (values,).
        value: shape (values,).
        start: what each group's values are held against first, shape (groups,).
    """
    groups, begin, count = np.unique(group, return_index=True, return_counts=True)
    if not len(groups):
        return np.zeros(0)
    place = np.repeat(np.arange(len(groups)), count), np.arange(len(group)) - np.repeat(begin, count) + 1
    table = np.full((len(groups), int(count.max()) + 1), np.inf)
    table[:, 0] = start[groups]
    table[place] = value
    table = np.minimum.accumulate(table, axis=1)
    result: np.ndarray = table[place[0], place[1] - 1] - table[place]
    return result
