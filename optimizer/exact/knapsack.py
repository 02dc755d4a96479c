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
    on_hull = [hulls(np.zeros(len(cost), int), cost, latency) for cost, latency in fronts]
    steps = [(np.diff(cost[h]), np.diff(latency[h])) for (cost, latency), h in zip(fronts, on_hull, strict=True)]
    saving = np.concatenate([-cost / latency for cost, latency in steps])
    seconds = np.concatenate([latency for _, latency in steps])
    owner = np.repeat(np.arange(len(fronts)), [len(cost) for cost, _ in steps])
    order = np.argsort(-saving, kind="stable")
    fastest = sum(latency[0] for _, latency in fronts)
    taken = int(np.searchsorted(fastest + np.cumsum(seconds[order]), budget_s, side="right"))
    price = float(saving[order[taken]]) if taken < len(order) else 0.0
    at = np.bincount(owner[order[:taken]], minlength=len(fronts))
    labels = tuple(int(h[k]) for h, k in zip(on_hull, at, strict=True))
    least = sum(float((cost + price * latency).min()) for cost, latency in fronts)
    bound = least - price * budget_s if price > 0 else least
    return Relaxation(price, bound, _selection(fronts, labels))


def merged(fronts: Sequence[Front], tolerance: float) -> Front:
    """The front of all selections: cost and latency of the model's layers together.

    Args:
        fronts: of each layer.
        tolerance: 0 for the exact front; else for every selection there is a point as fast that costs at
            most this share more (an exact front may have 10^5 points).
    """
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
