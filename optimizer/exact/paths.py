"""The cheapest path through a graph whose latencies stay within a budget: exact, or to a stated gap.

A price for a second of latency makes it a shortest path, which bounds every path within the budget (the Lagrangian
bound). The best price is found between two paths, one too late and one in time; what gap is left then is closed by
labels (cost, latency) that are merged by dominance along the arcs that a better path can take. Arcs whose cost and
latency are only bounded so far (`Lazy`) are searched as far as the paths ask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from optimizer.exact.knapsack import ROUNDING, undominated

NEAR = 1e-4
"""A lazy arc is searched until it is known this well, as a share of the path's cost, while a price is sought."""


@dataclass(frozen=True)
class Graph:
    """Arcs from lower to higher nodes, by rising tail. Paths go from the first node to the last.

    Attributes:
        tail, head: nodes, shape (arcs,) int; each node but the last is some arc's tail.
        cost, latency_s: shape (arcs,); infinite cost: no arc.
        levels: where each level of nodes begins, rising; no arc stays in a level.
    """

    tail: np.ndarray
    head: np.ndarray
    cost: np.ndarray
    latency_s: np.ndarray
    levels: np.ndarray

    @cached_property
    def nodes(self) -> int:
        """How many there are."""
        return int(self.head.max()) + 1

    @cached_property
    def begin(self) -> np.ndarray:
        """Where each node's arcs begin, shape (nodes,)."""
        return np.searchsorted(self.tail, np.arange(self.nodes))

    def to_go(self, value: np.ndarray) -> np.ndarray:
        """The least sum of the arcs' values from each node to the last, shape (nodes,)."""
        begin, least = self.begin, np.zeros(self.nodes)
        for low, high in zip(self.levels[-2::-1], self.levels[:0:-1], strict=True):
            arcs = slice(begin[low], begin[high])
            through = value[arcs] + least[self.head[arcs]]
            least[low:high] = np.minimum.reduceat(through, begin[low:high] - begin[low])
        return least

    def come_so_far(self, value: np.ndarray) -> np.ndarray:
        """The least sum of the arcs' values from the first node to each, shape (nodes,)."""
        begin, least = self.begin, np.full(self.nodes, np.inf)
        least[0] = 0.0
        for low, high in zip(self.levels[:-1], self.levels[1:], strict=True):
            arcs = slice(begin[low], begin[high])
            np.minimum.at(least, self.head[arcs], least[self.tail[arcs]] + value[arcs])
        return least

    def path(self, value: np.ndarray, to_go: np.ndarray) -> list[int]:
        """The arcs of a path of least value."""
        found, node = [], 0
        while node < self.nodes - 1:
            arcs = slice(self.begin[node], self.begin[node + 1])
            found.append(int(arcs.start + np.argmin(value[arcs] + to_go[self.head[arcs]])))
            node = int(self.head[found[-1]])
        return found


class Lazy(Protocol):
    """An arc with many labels (cost, latency), of which some are known and the others bounded."""

    def least(self, price: float | None) -> float:
        """What any label comes to at least: cost + price x latency, or latency alone without a price."""

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """Cost and latency of the known labels, shape (labels,)."""

    def refine(self, price: float | None, margin: float = 0.0) -> bool:
        """Search on where labels below the least known plus the margin may be; False where there is nowhere."""


@dataclass(frozen=True)
class Path:
    """A path: its arcs, of each lazy one which known label, its summed cost and latency.

    Attributes:
        arcs: indices in the graph.
        labels: of each arc: of a lazy one the label's cost and latency, of others None.
    """

    arcs: tuple[int, ...]
    labels: tuple[tuple[float, float] | None, ...]
    cost: float
    latency_s: float


@dataclass(frozen=True)
class Within:
    """The cheapest path found within the budget, and what none costs less than; both infinite where none is.

    `least_latency_s`: of any path, where none is within the budget. `price`: of a second, at which the bound is.
    """

    path: Path | None
    bound: float
    price: float = 0.0
    least_latency_s: float = 0.0


class Search:
    """The search for a path within a budget, in a graph with lazy arcs."""

    def __init__(self, graph: Graph, lazy: dict[int, Lazy], budget_s: float) -> None:
        self.graph, self.lazy = graph, lazy
        self.budget_s = budget_s + ROUNDING * abs(budget_s) if np.isfinite(budget_s) else np.inf

    def bound_through(self, values: Mapping[int, float], price: float) -> float:
        """What no path within the budget costs less than that takes one of some arcs, by a price of a second.

        Args:
            values: of those arcs, cost + price x latency at least.
        """
        graph = self.graph
        value = graph.cost + price * graph.latency_s
        arcs = np.array(list(values), int)
        value[arcs] = list(values.values())
        before, after = graph.come_so_far(value), graph.to_go(value)
        through = before[graph.tail[arcs]] + value[arcs] + after[graph.head[arcs]]
        return float(through.min(initial=np.inf)) - (price * self.budget_s if price > 0 else 0.0)

    def cheapest(self, gap: float = 0.0, cutoff: float = np.inf) -> Within:
        """The cheapest path within the budget.

        Args:
            gap: how much it may cost above the bound, as a share of its cost.
            cutoff: paths that cost as much are of no interest: the search ends when the bound reaches it.
        """
        late, bound = self._at(0.0, gap, cutoff)
        if late is None or late.latency_s <= self.budget_s:
            return Within(late, bound)
        early = self._fastest()
        if early.latency_s > self.budget_s:
            return Within(None, np.inf, least_latency_s=early.latency_s)
        best, bound, price = self._between(late, early, bound, gap, cutoff)
        if bound >= cutoff or best.cost - bound <= gap * best.cost:
            return Within(best, min(bound, best.cost), price)
        goal = min(best.cost * (1 - gap), cutoff)
        better = self._merged(price, bound, goal)
        if better is None:
            return Within(best, goal, price)
        return Within(better, better.cost, price)

    def _between(
        self, late: Path, early: Path, bound: float, gap: float, cutoff: float
    ) -> tuple[Path, float, float]:
        """The best path in time, the best bound and its price, of prices between a path too late and one in
        time."""
        best, best_price = early, 0.0
        while early.cost > late.cost:
            price = (early.cost - late.cost) / (late.latency_s - early.latency_s)
            line = early.cost + price * early.latency_s
            path, value = self._at(price, NEAR)
            assert path is not None
            if value - price * self.budget_s > bound or best_price == 0.0:
                bound, best_price = max(bound, value - price * self.budget_s), price
            in_time = path.latency_s <= self.budget_s
            if in_time and path.cost < best.cost:
                best = path
            if bound >= cutoff or best.cost - bound <= gap * best.cost:
                break
            if path.cost + price * path.latency_s >= line * (1 - ROUNDING):
                break
            late, early = (late, path) if in_time else (path, early)
        return best, bound, best_price

    def _at(self, price: float, near: float, cutoff: float = np.inf) -> tuple[Path | None, float]:
        """A path whose cost + price x latency is the least but for a share, and what none comes to less than; no
        path where the bound reaches the cutoff, or there is none."""
        graph = self.graph
        value = graph.cost + price * graph.latency_s
        while True:
            for arc, lazy in self.lazy.items():
                value[arc] = lazy.least(price)
            to_go = graph.to_go(value)
            least = float(to_go[0])
            if not np.isfinite(least) or least - (price * self.budget_s if price else 0.0) >= cutoff:
                return None, least
            arcs = graph.path(value, to_go)
            allowed = near * least / 2 / max(1, len(self.lazy))
            mine = [self.lazy[arc] for arc in arcs if arc in self.lazy]
            if not any([_refined(lazy, price, -allowed) for lazy in mine]):  # noqa: C419 - each is to be searched
                return self._known(arcs, price), least

    def _fastest(self) -> Path:
        graph = self.graph
        value = np.where(np.isfinite(graph.cost), graph.latency_s, np.inf)
        while True:
            for arc, lazy in self.lazy.items():
                value[arc] = lazy.least(None)
            arcs = graph.path(value, graph.to_go(value))
            if not any([_refined(self.lazy[arc], None, 0.0) for arc in arcs if arc in self.lazy]):  # noqa: C419 - each is to be searched
                return self._known(arcs, None)

    def _known(self, arcs: Sequence[int], price: float | None) -> Path:
        """The path along these arcs, of lazy ones by their best known label."""
        labels: list[tuple[float, float] | None] = []
        for arc in arcs:
            if arc not in self.lazy:
                labels.append(None)
                continue
            cost, latency = self.lazy[arc].known()
            k = int(np.argmin(latency if price is None else cost + price * latency))
            labels.append((float(cost[k]), float(latency[k])))
        return self._summed(arcs, labels)

    def _summed(self, arcs: Sequence[int], labels: Sequence[tuple[float, float] | None]) -> Path:
        cost = sum(self.graph.cost[a] if x is None else x[0] for a, x in zip(arcs, labels, strict=True))
        latency = sum(self.graph.latency_s[a] if x is None else x[1] for a, x in zip(arcs, labels, strict=True))
        return Path(tuple(arcs), tuple(labels), float(cost), float(latency))

    def _merged(self, price: float, bound: float, goal: float) -> Path | None:
        """The cheapest path within the budget that costs less than the goal, by merging labels; None: none
        does."""
        for share in (1 / 64, 1 / 8, 1.0):  # a lower goal leaves few arcs; if nothing is below, it is raised
            found = self._labels(price, bound + share * (goal - bound))
            if found is not None:
                return found
        return None

    def _labels(self, price: float, goal: float) -> Path | None:
        graph, offset = self.graph, price * self.budget_s
        arcs = self._arcs_below(price, goal + offset)
        value = graph.cost + price * graph.latency_s
        fast = np.where(np.isfinite(graph.cost), graph.latency_s, np.inf)
        for arc, lazy in self.lazy.items():
            value[arc], fast[arc] = lazy.least(price), lazy.least(None)
        to_go, fastest = graph.to_go(value), graph.to_go(fast)
        merging = _Merging(to_go, fastest, price, goal + offset, self.budget_s)
        found = merging.path(arcs, graph.nodes - 1)
        return None if found is None or found.cost > goal else found

    def _arcs_below(self, price: float, most: float) -> "_Arcs":
        """Arcs on paths whose cost + price x latency is at most so much, of lazy ones each label."""
        graph = self.graph
        while True:
            value = graph.cost + price * graph.latency_s
            for arc, lazy in self.lazy.items():
                value[arc] = lazy.least(price)
            before, after = graph.come_so_far(value), graph.to_go(value)
            through = before[graph.tail] + value + after[graph.head]
            kept = np.flatnonzero(through <= most + ROUNDING * abs(most))
            refined = []
            for arc in set(kept.tolist()) & set(self.lazy):
                cost, latency = self.lazy[arc].known()
                best = float((cost + price * latency).min(initial=np.inf))
                room = most - before[graph.tail[arc]] - after[graph.head[arc]] - best
                refined.append(_refined(self.lazy[arc], price, room))
            if not any(refined):
                break
        plain = np.array([k for k in kept.tolist() if k not in self.lazy], int)
        parts = [_Arcs(graph.tail[plain], graph.head[plain], graph.cost[plain], graph.latency_s[plain], plain)]
        for arc in sorted(set(kept.tolist()) & set(self.lazy)):
            cost, latency = self.lazy[arc].known()
            room = most - before[graph.tail[arc]] - after[graph.head[arc]]
            few = np.flatnonzero(cost + price * latency <= room + ROUNDING * abs(most))
            ones = np.ones(len(few), int)
            parts.append(
                _Arcs(graph.tail[arc] * ones, graph.head[arc] * ones, cost[few], latency[few], arc * ones)
            )
        return _Arcs.joined(parts)


def _refined(lazy: Lazy, price: float | None, margin: float) -> bool:
    """Search a lazy arc until nothing better than its least known label plus the margin can be; whether it had
    to."""
    refined = False
    while lazy.refine(price, margin):
        refined = True
    return refined


@dataclass(frozen=True)
class _Arcs:
    """Arcs by rising tail, shape (arcs,); `arc`: index in the graph."""

    tail: np.ndarray
    head: np.ndarray
    cost: np.ndarray
    latency_s: np.ndarray
    arc: np.ndarray

    @staticmethod
    def joined(parts: Sequence["_Arcs"]) -> "_Arcs":
        names = ("tail", "head", "cost", "latency_s", "arc")
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        order = np.argsort(columns[0], kind="stable")
        return _Arcs(*(column[order] for column in columns))


@dataclass(frozen=True)
class _Labels:
    """Labels of one node: summed cost and latency, and where each came from: the arc, and the label of its
    tail."""

    cost: np.ndarray
    latency_s: np.ndarray
    via: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class _Merging:
    """Labels merged by dominance along arcs, and those dropped that cannot lead to a path that is wanted."""

    to_go: np.ndarray
    fastest: np.ndarray
    price: float
    most: float
    budget_s: float

    def path(self, arcs: _Arcs, last: int) -> Path | None:
        """The cheapest path to the last node; None where there is none that is wanted."""
        zero = np.zeros(1)
        arriving: dict[int, list[_Labels]] = {0: [_Labels(zero, zero, np.full(1, -1), np.full(1, -1))]}
        at: dict[int, _Labels] = {}
        ends = np.searchsorted(arcs.tail, np.arange(last + 1), side="right")
        for node in range(last + 1):
            if node not in arriving:
                continue
            at[node] = here = self._kept(node, arriving.pop(node))
            first = int(ends[node - 1]) if node else 0
            for k in range(first, int(ends[node]) if node < last else first):
                head = int(arcs.head[k])
                new = _Labels(
                    here.cost + arcs.cost[k],
                    here.latency_s + arcs.latency_s[k],
                    np.full(len(here.cost), k),
                    np.arange(len(here.cost)),
                )
                arriving.setdefault(head, []).append(new)
        if last not in at or not len(at[last].cost):
            return None
        chosen, node, label = [], last, int(np.argmin(at[last].cost))
        while node:
            via = int(at[node].via[label])
            label = int(at[node].label[label])
            chosen.append(via)
            node = int(arcs.tail[via])
        chosen.reverse()
        return Path(
            arcs=tuple(int(arcs.arc[k]) for k in chosen),
            labels=tuple((float(arcs.cost[k]), float(arcs.latency_s[k])) for k in chosen),
            cost=float(sum(arcs.cost[k] for k in chosen)),
            latency_s=float(sum(arcs.latency_s[k] for k in chosen)),
        )

    def _kept(self, node: int, arriving: Sequence[_Labels]) -> _Labels:
        cost, latency, via, label = (
            np.concatenate([getattr(x, name) for x in arriving]) for name in ("cost", "latency_s", "via", "label")
        )
        wanted = (latency + self.fastest[node] <= self.budget_s) & (
            cost + self.price * latency + self.to_go[node] <= self.most + ROUNDING * abs(self.most)
        )
        k = np.flatnonzero(wanted)
        k = k[undominated(cost[k], latency[k])]
        return _Labels(cost[k], latency[k], via[k], label[k])
