"""Merging of layers: a label lost here is a cheaper plan that the user never sees."""

import itertools

import numpy as np
import pytest

from optimizer.exact.knapsack import cheapest, hulls, merged, relax, undominated


def _random_fronts(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    fronts = []
    for _ in range(int(rng.integers(1, 5))):
        # Few distinct values, so that labels and selections tie.
        cost, latency = rng.integers(1, 20, (2, int(rng.integers(1, 9)))).astype(float)
        kept = undominated(cost, latency)
        fronts.append((cost[kept], latency[kept]))
    return fronts


@pytest.mark.parametrize("seed", range(60))
def test_the_selection_is_the_cheapest_within_the_budget(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fronts = _random_fronts(rng)
    every = [
        (
            sum(c[k] for (c, _), k in zip(fronts, ks, strict=True)),
            sum(s[k] for (_, s), k in zip(fronts, ks, strict=True)),
        )
        for ks in itertools.product(*(range(len(c)) for c, _ in fronts))
    ]
    for budget in range(0, 60, 3):
        within = [c for c, s in every if s <= budget]
        found = cheapest(fronts, float(budget))
        assert (found is None) == (not within)
        if found is not None:
            assert found.cost == min(within)
            assert found.latency_s <= budget
            assert relax(fronts, float(budget)).bound <= found.cost + 1e-9


def test_undominated_labels_are_kept_and_no_others() -> None:
    cost = np.array([5.0, 3.0, 3.0, 4.0, 1.0, 1.0, 9.0])
    latency = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 1.0])
    assert undominated(cost, latency).tolist() == [0, 1, 4]
    assert undominated(np.zeros(0), np.zeros(0)).tolist() == []


def test_the_merged_front_has_every_undominated_sum() -> None:
    fronts = _random_fronts(np.random.default_rng(5))
    cost, latency = merged(fronts, 0.0)
    for budget, least in zip(latency, cost, strict=True):
        found = cheapest(fronts, float(budget))
        assert found is not None
        assert found.cost == least


def test_hulls_are_convex_and_below_every_label() -> None:
    """A label wrongly left out of a hull is a bound that is none."""
    rng = np.random.default_rng(3)
    fronts = _random_fronts(rng) + _random_fronts(rng) + [(np.array([2.0]), np.array([1.0]))]
    group = np.repeat(np.arange(len(fronts)), [len(cost) for cost, _ in fronts])
    cost, latency = (np.concatenate(column) for column in zip(*fronts, strict=True))
    kept = hulls(group, cost, latency)
    for price in np.geomspace(1e-3, 1e3, 50):
        value = cost + price * latency
        for g in range(len(fronts)):
            assert value[kept][group[kept] == g].min() == value[group == g].min()
    for g in range(len(fronts)):
        mine = kept[group[kept] == g]
        slopes = np.diff(cost[mine]) / np.diff(latency[mine])
        assert np.all(np.diff(slopes) > 0)
