"""One layer, known as far as a latency limit asks: exact labels of some rows, bounds on ranges of the others.

A range of minibatch sizes (`pipelined`) or payloads (`direct`) has labels of its own that none of its rows beats
(`LayerOptions.points`). Only the lower convex hull of those is kept: at any price of a second, the range's least
cost + price x latency bounds all its rows. Ranges that matter are split, those of one row are solved exactly.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.cost_model import GateBill
from optimizer.exact.candidates import Window
from optimizer.exact.knapsack import ROUNDING, hulls
from optimizer.exact.layer_fronts import BLOCK, LayerFront, LayerOptions
from optimizer.exact.whole_fronts import whole_front
from simulator.plan import Communication

FIRST_RANGES = 8
"""A method's rows are looked at as this many ranges first."""

PARTS = 4
"""A range is split into this many."""

AT_ONCE = 8
"""Ranges of a layer that are split before the others' bounds are looked at again."""

MANY = 2000
"""Deployments beyond which those that are of no use in a range are left out before it is split."""

STEEPER = 2.0
"""Labels that are too early to matter up to this many times the price are left out with them."""


@dataclass(frozen=True)
class Range:
    """Rows of one method, and labels that bound theirs.

    Attributes:
        method: the method.
        first, last: index of the first and the last row in the method's list.
        window: deployments and labels that are looked at.
        cost, latency_s, finish_s: the bounding labels in the window that are on their lower convex hull, shape
            (labels,); none where those of a single row are known exactly.
    """

    method: Communication
    first: int
    last: int
    window: Window
    cost: np.ndarray
    latency_s: np.ndarray
    finish_s: np.ndarray

    def least(self, price: float | None) -> float:
        """What its rows come to at least: cost + price x latency, or the latency alone without a price."""
        value = self.latency_s if price is None else self.cost + price * self.latency_s
        return float(value.min(initial=self.least_early(price)))

    def least_early(self, price: float | None) -> float:
        """The same of the labels that the window leaves out; infinite where it leaves out none."""
        early = self.window
        if price is None:
            return early.early_latency_s if np.isfinite(early.early_cost) else np.inf
        return early.early_cost + price * early.early_latency_s


class LayerSearch:
    """The labels of one layer that are known, and the ranges of rows that are only bounded.

    Both are of the experts alone, whatever the gate's bill; `charge` sets what costs are to have in them.

    Attributes:
        options: of the layer.
        known: the front of all labels solved so far, with the gate's bill.
        ranges: of the other rows.
    """

    def __init__(self, options: LayerOptions, methods: Sequence[Communication]) -> None:
        self.options = options
        self.ranges: list[Range] = []
        self._experts = {method: LayerFront.empty() for method in methods}
        self._rows: dict[Communication, np.ndarray] = {}
        self.charge(options.gate)
        if not options.reached:
            self._know(methods[0], whole_front(options, methods[0]))
            return
        self._rows |= {method: options.rows(method) for method in methods}
        for method, rows in self._rows.items():
            if len(rows):
                self._look(method, _parts(rows, 0, len(rows) - 1, FIRST_RANGES), Window())

    @classmethod
    def joined(cls, searches: Sequence["LayerSearch"]) -> "LayerSearch":
        """One search of all their methods, which knows what they know; each method's is the first that has it."""
        found = cls.__new__(cls)
        found.options, found.ranges, found._experts, found._rows = searches[0].options, [], {}, {}
        for search in searches:
            for method in [method for method in search._experts if method not in found._experts]:
                found._experts[method] = search._experts[method]
                found.ranges += [x for x in search.ranges if x.method == method]
                found._rows |= {method: rows for method, rows in search._rows.items() if method in found._experts}
        found.charge(searches[0]._gate)
        return found

    def charge(self, gate: GateBill) -> None:
        """From now on the cost has this gate's bill in it."""
        self._gate = gate
        self.known = LayerFront.concatenated(list(self._experts.values())).with_gate(gate)

    def least(self, price: float | None) -> float:
        """What the layer comes to at least: cost + price x latency, or the latency alone without a price."""
        return min([self.least_known(price), *(self._least(x, price) for x in self.ranges)])

    def least_of(self, price: float, gate: GateBill, late_s: tuple[float, float]) -> float:
        """The same with another gate's bill, where all labels are later: with an exchange, and with `direct`."""
        least = []
        for method, labels in self._experts.items():
            per_s, added = gate.charge(method, price)
            ranges = [x.least(per_s) for x in self.ranges if x.method == method]
            known = float((labels.cost + per_s * labels.latency_s).min(initial=np.inf))
            least.append(min([known, *ranges]) + added + per_s * late_s[method == "direct"])
        return min(least)

    def _least(self, x: Range, price: float | None) -> float:
        """What a range comes to at least, with the gate's bill."""
        if price is None:
            return x.least(None)
        per_s, added = self._gate.charge(x.method, price)
        return x.least(per_s) + added

    def _least_early(self, x: Range, price: float | None) -> float:
        if price is None:
            return x.least_early(None)
        per_s, added = self._gate.charge(x.method, price)
        return x.least_early(per_s) + added

    def _know(self, method: Communication, labels: LayerFront) -> None:
        """More labels of the experts."""
        self._experts[method] = LayerFront.joined([self._experts[method], labels])
        self.charge(self._gate)

    def least_known(self, price: float | None) -> float:
        """The same of the known labels."""
        known = self.known
        value = known.latency_s if price is None else known.cost + price * known.latency_s
        return float(value.min(initial=np.inf))

    def refine(self, price: float | None, margin: float = 0.0) -> bool:
        """Split, once, the most promising ranges that may hold labels below the least known at that price plus a
        margin; False where there is none."""
        least = [self._least(x, price) for x in self.ranges]
        if not least or min(least) >= self.least_known(price) + margin:
            return False
        best = int(np.argmin(least))
        self.ranges[best] = self._narrowed(self.ranges[best], price, margin)
        self._probe(self.ranges[best])
        below = self.least_known(price) + margin
        order = np.argsort(least, kind="stable")[: AT_ONCE if price is not None else 1]
        picked = {int(k) for k in order if least[k] < below}
        chosen = [x for k, x in enumerate(self.ranges) if k in picked]
        self.ranges = [x for k, x in enumerate(self.ranges) if k not in picked]
        together: dict[tuple[Communication, int], list[Range]] = {}
        for x in chosen:
            if self._least_early(x, price) < below:  # the price has risen: what was left out matters
                self._look(x.method, [(x.first, x.last)], Window())
            else:
                x = self._narrowed(x, price, margin)
                together.setdefault((x.method, id(x.window)), []).append(x)
        for (method, _), alike in together.items():
            rows = self._rows[method]
            parts = [part for x in alike for part in _parts(rows, x.first, x.last, PARTS)]
            self._look(method, parts, alike[0].window)
        return True

    def refine_fastest(self) -> bool:
        """Split the range that may hold the cheapest label among the fastest, of a layer whose least latency is
        known; False where no range may."""
        latest_s = self.least_known(None) * (1 + ROUNDING)

        def least(x: LayerFront | Range) -> float:
            return float(x.cost[x.latency_s <= latest_s].min(initial=np.inf))

        best = min(self.ranges, key=least, default=None)
        if best is None or least(best) >= least(self.known) * (1 - ROUNDING):
            return False
        self.ranges = [x for x in self.ranges if x is not best]
        self._probe(best)
        self._look(best.method, _parts(self._rows[best.method], best.first, best.last, PARTS), best.window)
        return True

    def _narrowed(self, x: Range, price: float | None, margin: float) -> Range:
        """The range with a window of the deployments that can be of use, where there are many."""
        window, every = x.window, self.options.every.size
        if price is None or self.options.size(window) <= MANY or not len(x.cost):
            return x
        from_s, early_cost = window.from_s, window.early_cost
        early_latency_s = window.early_latency_s if np.isfinite(early_cost) else float(x.latency_s[0])
        too_early = np.ones(len(x.cost), bool)
        for steep in (price, STEEPER * price):
            per_s, added = self._gate.charge(x.method, steep)
            too_early &= x.cost + per_s * early_latency_s + added > self.least_known(steep) + max(margin, 0.0)
        if too_early.any():
            last = np.flatnonzero(too_early)[-1]
            from_s, early_cost = float(x.finish_s[last]), min(early_cost, float(x.cost[last]))
        rows = self._rows[x.method]
        place = self.options.useful(x.method, rows[x.first], rows[x.last], window, from_s)
        kept = place if len(place) < every / 2 else None  # looking at all is faster than at most
        return replace(x, window=Window(kept, from_s, early_cost, early_latency_s))

    def _probe(self, x: Range) -> None:
        """Solve a row amid the most promising range: it may rule out others before they are split."""
        if x.last - x.first >= PARTS:
            middle = self._rows[x.method][[(x.first + x.last) // 2]]
            self._know(x.method, self.options.labels(x.method, middle, x.window))

    def _look(self, method: Communication, parts: Sequence[tuple[int, int]], window: Window) -> None:
        """Solve those parts of a method's rows (first, last) that are one row, bound the others."""
        first, last = np.array(parts).reshape(-1, 2).T
        alone, ranges = np.flatnonzero(first == last), np.flatnonzero(first < last)
        for block in self._blocks(alone, window):
            self._know(method, self.options.labels(method, self._rows[method][first[block]], window))
        if np.isfinite(window.early_cost):
            none = np.zeros(0)
            self.ranges += [Range(method, k, k, window, none, none, none) for k in first[alone].tolist()]
        for block in self._blocks(ranges, window):
            self._bound(method, first[block], last[block], window)

    def _bound(self, method: Communication, first: np.ndarray, last: np.ndarray, window: Window) -> None:
        """Add ranges of a method's rows, each with the hull of its bounding labels."""
        rows = self._rows[method]
        at, cost, latency, finish = self.options.points(method, rows[first], rows[last], window)
        kept = hulls(at, cost, latency)
        cuts = np.searchsorted(at[kept], np.arange(len(first) + 1))
        for i, (begin, end) in enumerate(itertools.pairwise(cuts)):
            if begin < end:  # else none of its rows is allowed
                k = kept[begin:end]
                self.ranges.append(
                    Range(method, int(first[i]), int(last[i]), window, cost[k], latency[k], finish[k])
                )

    def _blocks(self, items: np.ndarray, window: Window) -> list[np.ndarray]:
        """As many items at a time as keep arrays small."""
        size = max(1, BLOCK // self.options.size(window))
        return [items[k : k + size] for k in range(0, len(items), size)]


def _parts(rows: np.ndarray, first: int, last: int, parts: int) -> list[tuple[int, int]]:
    """First and last of each part of a range of rows, cut in equal ratios."""
    if last - first < parts:
        return [(k, k) for k in range(first, last + 1)]
    inner = np.geomspace(rows[first], rows[last], parts + 1)[1:-1]
    edges = [first, *np.searchsorted(rows, inner).tolist(), last + 1]
    return [(begin, end - 1) for begin, end in itertools.pairwise(edges) if begin < end]
