"""The multiple-choice knapsack: one label of each layer, least cost, latencies within a budget. Exact.

Layers meet only in the latency limit (Eq. 12d), so a layer is a front of labels (cost, latency), fronts are
merged by dominance, and a linear relaxation bounds what a merged label can still come to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-13
"""Latencies above the budget by less than this share are within it; less than what `cost_model.evaluate` lets
pass, so that what is chosen here is feasible there."""

MOST_BETWEEN = 10
"""A model's curve is made of its corners and of so many points between them a layer; beyond, of merged fronts."""


@dataclass(frozen=True)
class Selection:
    """One label of each layer: their indices, summed cost and latency."""

    labels: tuple[int, ...]
    cost: float
    latency_s: float


@dataclass(frozen=True)
class Relaxation:
    """The linear relaxation of the knapsack.

    Attributes:
        price: cost of a second of latency (the multiplier of the budget).
        bound: no selection within the budget costs less.
        greedy: a selection within the budget.
    """

    price: float
    bound: float
    greedy: Selection


Front = tuple[np.ndarray, np.ndarray]
"""Cost (labels,) falling, and latency in s (labels,) rising: no label is worse in both than another."""


def undominated(cost: np.ndarray, latency: np.ndarray) -> np.ndarray:
    """Indices of the labels that no other label beats, by rising latency; of equal labels the first.

    Costs that differ by less than 1e-12 of the largest are equal: it is rounding that tells them apart.
    """
    if not len(cost):
        return np.zeros(0, int)
    order = np.argsort(latency)
    few = np.sort(order[cost[order] <= np.minimum.accumulate(cost[order])])  # all that may stay, in any order
    order = few[np.lexsort((cost[few], latency[few]))]
    best = np.minimum.accumulate(cost[order])
    best = np.round(best / (best[0] or 1.0), 12)
    return order[np.concatenate(([True], best[1:] < best[:-1]))]


def cheapest(fronts: Sequence[Front], budget_s: float) -> Selection | None:
    """The cheapest selection whose latencies sum to at most the budget; None if there is none.

    Args:
        fronts: of each layer.
        budget_s: latency left for the layers, s.
    """
    budget_s += ROUNDING * abs(budget_s)
    if any(not len(cost) for cost, _ in fronts) or sum(latency[0] for _, latency in fronts) > budget_s:
        return None
    relaxed = relax(fronts, budget_s)
    slack = relaxed.greedy.cost - relaxed.bound
    # Few labels survive a tight target; a target below the optimum finds nothing and is widened.
    for share in (1 / 64, 1 / 8, 1.0):
        found = _search(fronts, budget_s, relaxed, share * slack)
        if found is not None:
            return found
    return relaxed.greedy


def fastest(fronts: Sequence[Front]) -> Selection:
    """The cheapest selection of least latency: of labels that are as fast but for rounding, the last."""
    latest = [np.searchsorted(latency, latency[0] * (1 + ROUNDING), side="right") for _, latency in fronts]
    return _selection(fronts, tuple(int(k) - 1 for k in latest))


def relax(fronts: Sequence[Front], budget_s: float) -> Relaxation:
    """The linear relaxation: from the fastest labels, buy cheapness where a second of latency saves most."""
    saving, seconds, owner, on_hull = _steps(fronts)
    fastest = sum(latency[0] for _, latency in fronts)
    taken = int(np.searchsorted(fastest + np.cumsum(seconds), budget_s, side="right"))
    price = float(saving[taken]) if taken < len(saving) else 0.0
    at = np.bincount(owner[:taken], minlength=len(fronts))
    labels = tuple(int(h[k]) for h, k in zip(on_hull, at, strict=True))
    least = sum(float((cost + price * latency).min()) for cost, latency in fronts)
    bound = least - price * budget_s if price > 0 else least
    return Relaxation(price, bound, _selection(fronts, labels))


def _steps(fronts: Sequence[Front]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """The steps from corner to corner of the fronts' lower convex hulls, by what a second saves, falling.

    Returns:
        cost that a second saves, seconds and layer of each step, (steps,); and the corners of each layer.
    """
    corners = [hulls(np.zeros(len(cost), int), cost, latency) for cost, latency in fronts]
    steps = [(np.diff(cost[h]), np.diff(latency[h])) for (cost, latency), h in zip(fronts, corners, strict=True)]
    saving = np.concatenate([-cost / latency for cost, latency in steps])
    seconds = np.concatenate([latency for _, latency in steps])
    owner = np.repeat(np.arange(len(fronts)), [len(cost) for cost, _ in steps])
    order = np.argsort(-saving, kind="stable")
    return saving[order], seconds[order], owner[order], corners


def merged(fronts: Sequence[Front], tolerance: float) -> Front:
    """The front of all selections: cost and latency of the model's layers together.

    Args:
        fronts: of each layer.
        tolerance: 0 for the exact front; else for every selection there is a point as fast that costs at
            most this share more (an exact front may have 10^5 points and more).
    """
    if tolerance > 0 and (found := _corners(fronts, tolerance)) is not None:
        return found
    cost, latency = np.zeros(1), np.zeros(1)
    for layer_cost, layer_latency in fronts:
        cost = np.add.outer(cost, layer_cost).ravel()
        latency = np.add.outer(latency, layer_latency).ravel()
        kept = undominated(cost, latency)
        cost, latency = cost[kept], latency[kept]
        if tolerance > 0:
            share = np.log1p(tolerance) / len(fronts)
            bucket = np.floor(np.log(np.maximum(cost, 1e-300)) / share)
            kept = np.flatnonzero(np.concatenate(([True], bucket[1:] != bucket[:-1])))
            cost, latency = cost[kept], latency[kept]
    return cost, latency


def _corners(fronts: Sequence[Front], tolerance: float) -> Front | None:
    """The front to a tolerance, for many layers: the corners of the relaxation's curve, which no selection is
    below; where two of them are further apart, the fastest selection of each cost between. None where many are."""
    if any(not len(cost) for cost, _ in fronts):
        return None
    saving, seconds, _, _ = _steps(fronts)
    first = [sum(column[0] for column in columns) for columns in zip(*fronts, strict=True)]
    cost = first[0] - np.concatenate(([0.0], np.cumsum(saving * seconds)))
    latency = first[1] + np.concatenate(([0.0], np.cumsum(seconds)))
    apart = np.flatnonzero(cost[:-1] > cost[1:] * (1 + tolerance))
    if cost[-1] <= 0 or np.log(cost[apart] / cost[apart + 1]).sum() > MOST_BETWEEN * len(fronts) * tolerance:
        return None
    swapped = [(latency[::-1], cost[::-1]) for cost, latency in fronts]
    between: list[tuple[float, float]] = []
    for k in apart:
        # What is slower than a point of these costs at least 1/(1 + tolerance) of it, and so down to the corner.
        within = cost[k + 1] * (1 + tolerance)
        while within < cost[k]:
            if (found := cheapest(swapped, within)) is not None:
                between.append((found.latency_s, found.cost))
            within *= 1 + tolerance
    more = np.array(between).reshape(-1, 2)
    every, when = np.append(cost, more[:, 0]), np.append(latency, more[:, 1])
    kept = undominated(every, when)
    return every[kept], when[kept]


def hulls(group: np.ndarray, cost: np.ndarray, latency: np.ndarray) -> np.ndarray:
    """Indices of the labels on their group's lower convex hull.

    Args:
        group: rising, shape (labels,).
        cost, latency: in each group falling and rising, shape (labels,).
    """
    kept = np.arange(len(group))
    while True:
        g, c, s = group[kept], cost[kept], latency[kept]
        # A label on or above the line between its neighbours is none of the hull; the ends of a group are.
        inside = (g[2:] == g[:-2]) & (
            (c[:-2] - c[1:-1]) * (s[2:] - s[:-2]) <= (c[:-2] - c[2:]) * (s[1:-1] - s[:-2])
        )
        if not inside.any():
            return kept
        kept = kept[np.concatenate(([True], ~inside, [True]))]


def _search(fronts: Sequence[Front], budget_s: float, relaxed: Relaxation, allowed: float) -> Selection | None:
    """The cheapest selection that costs at most bound + allowed, by merging fronts and dropping merged labels
    that cannot lead to one; None if there is none."""
    allowed += ROUNDING * abs(relaxed.greedy.cost)
    excess = [cost + relaxed.price * latency for cost, latency in fronts]
    excess = [layer - layer.min() for layer in excess]
    fastest_rest = [*np.cumsum([latency[0] for _, latency in fronts][::-1])[::-1].tolist(), 0.0]
    cost, latency, over = np.zeros(1), np.zeros(1), np.zeros(1)
    trail: list[tuple[np.ndarray, np.ndarray]] = []
    for e, (layer_cost, layer_latency) in enumerate(fronts):
        labels = np.flatnonzero(excess[e] <= allowed)
        new_over = np.add.outer(over, excess[e][labels])
        new_latency = np.add.outer(latency, layer_latency[labels])
        state, column = np.nonzero((new_over <= allowed) & (new_latency + fastest_rest[e + 1] <= budget_s))
        if not len(state):
            return None
        label = labels[column]
        new_cost = cost[state] + layer_cost[label]
        kept = undominated(new_cost, new_latency[state, column])
        cost, latency, over = (
            new_cost[kept],
            new_latency[state, column][kept],
            new_over[state, column][kept],
        )
        trail.append((state[kept], label[kept]))
    last = len(cost) - 1
    if cost[last] > relaxed.bound + allowed:
        return None
    chosen: list[int] = []
    for state, label in reversed(trail):
        chosen.append(int(label[last]))
        last = int(state[last])
    return _selection(fronts, tuple(reversed(chosen)))


def _selection(fronts: Sequence[Front], labels: tuple[int, ...]) -> Selection:
    return Selection(
        labels,
        cost=float(sum(cost[k] for (cost, _), k in zip(fronts, labels, strict=True))),
        latency_s=float(sum(latency[k] for (_, latency), k in zip(fronts, labels, strict=True))),
    )
