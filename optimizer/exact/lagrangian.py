"""The cheapest plan under one latency limit, to a stated gap, without making whole fronts.

A price for a second of latency separates the layers: the sum of their least cost + price x latency, less the
price of the limit, bounds every plan within the limit (the Lagrangian bound), and the best price comes from the
linear relaxation over the labels known so far. Each layer is searched as far as its bound asks (`layer_ranges`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.exact.knapsack import ROUNDING, Front, Relaxation, Selection, cheapest, fastest, relax
from optimizer.exact.layer_fronts import LayerFront, LayerOptions, alike_layers, listed_options
from optimizer.exact.layer_plan import layer_plan
from optimizer.exact.layer_ranges import LayerSearch
from simulator.plan import Communication, DeploymentProblem, LayerPlan

NEAR = 1e-4
"""Prices are sought until bound and plan are this close, or the gap asked for; only then labels are weighed."""


@dataclass(frozen=True)
class Found:
    """The cheapest selection found.

    Attributes:
        options, fronts: of each layer; the fronts hold the labels that matter, not all.
        selection: one label of each; where none meets the budget, the cheapest of the fastest.
        bound: no plan within the budget costs less.
        price: cost of a second of latency.
    """

    options: tuple[LayerOptions, ...]
    fronts: tuple[LayerFront, ...]
    selection: Selection
    bound: float
    price: float

    def plans(self) -> tuple[LayerPlan, ...]:
        """The layers' plans."""
        layers = zip(self.options, self.fronts, self.selection.labels, strict=True)
        return tuple(layer_plan(options, front, label) for options, front, label in layers)


class Model:
    """The searches of all layers; alike layers share theirs."""

    def __init__(
        self,
        problem: DeploymentProblem,
        methods: Sequence[Communication],
        otherwise: Sequence[Communication] = (),
        options: Mapping[int, LayerOptions] | None = None,
    ) -> None:
        """A layer that can use none of the methods has `otherwise`; `options` of another model of the problem need
        not be listed again. InputError where an expert does not fit."""
        first_like = alike_layers(problem)
        self.options = options or listed_options(problem)
        searches = {}
        for e, own in self.options.items():
            usable = [method for method in methods if own.can_use(method)]
            searches[e] = LayerSearch(own, usable or otherwise)
        self._set(first_like, searches)

    def _set(self, first_like: Sequence[int], searches: Mapping[int, LayerSearch]) -> None:
        self.layers = [searches[e] for e in first_like]
        self.searches = list(searches.values())

    @classmethod
    def joined(cls, problem: DeploymentProblem, models: Sequence["Model"]) -> "Model":
        """The model with all methods of several, as far as these have been searched."""
        found, first_like = cls.__new__(cls), alike_layers(problem)
        found.options = models[0].options
        found._set(first_like, {e: LayerSearch.joined([x.layers[e] for x in models]) for e in found.options})
        return found

    def pairs(self) -> list[Front]:
        """The known fronts."""
        return [search.known.pair() for search in self.layers]

    def least(self, price: float) -> float:
        """The sum of the layers' least cost + price x latency."""
        return sum(x.least(price) for x in self.layers)

    def found(self, selection: Selection, bound: float, price: float) -> Found:
        """A selection of known labels, with what belongs to it."""
        return Found(
            options=tuple(x.options for x in self.layers),
            fronts=tuple(x.known for x in self.layers),
            selection=selection,
            bound=bound,
            price=price,
        )


def cheapest_within(
    problem: DeploymentProblem,
    methods: Sequence[Communication],
    budget_s: float,
    gap: float = 0.0,
    otherwise: Sequence[Communication] = (),
) -> Found:
    """The cheapest selection whose latencies sum to at most the budget.

    Args:
        problem: the problem.
        methods: communication methods that each layer chooses from.
        budget_s: latency left for the MoE layers, s.
        gap: how much the selection may cost above the bound, as a share of its cost; 0: the optimum.
        otherwise: methods of a layer that can use none of them.

    Raises InputError where an expert fits no memory size.
    """
    return cheapest_of(Model(problem, methods, otherwise), budget_s, gap)


def cheapest_of(model: Model, budget_s: float, gap: float = 0.0) -> Found:
    """The same of a model whose layers may have been searched before."""
    if not _reach(model, budget_s):
        for search in model.searches:
            while search.refine_fastest():
                pass
        return model.found(fastest(model.pairs()), np.inf, 0.0)
    relaxed, bound, price = _seek_price(model, budget_s, gap)
    best = relaxed.greedy
    if best.cost - bound > gap * best.cost:
        best = cheapest(model.pairs(), budget_s) or best
    if best.cost - bound > gap * best.cost:
        # A label whose excess over its layer's least at the price is above the slack is in no cheaper selection.
        slack = best.cost - bound + ROUNDING * abs(best.cost)
        for search in model.searches:
            while search.refine(price, slack):
                pass
        best = cheapest(model.pairs(), budget_s) or best
        bound = best.cost
    return model.found(best, min(bound, best.cost), price)


def _reach(model: Model, budget_s: float) -> bool:
    """Search the layers until their fastest known labels meet the budget; False where no labels do."""
    within = budget_s + ROUNDING * abs(budget_s)
    while (least := sum(x.least_known(None) for x in model.layers)) > within or least == np.inf:
        refined = [x.refine(None) for x in model.searches]
        if not any(refined):
            return False
    return True


def _seek_price(model: Model, budget_s: float, gap: float) -> tuple[Relaxation, float, float]:
    """Search the layers until no range of rows could lower their least at the price by much.

    Returns:
        the relaxation over the known labels, the best bound on all, and the price of that.
    """
    best_bound, best_price = -np.inf, 0.0
    while True:
        relaxed = relax(model.pairs(), budget_s)
        price, cost = relaxed.price, relaxed.greedy.cost
        bound = model.least(price) - (price * budget_s if price > 0 else 0.0)
        if bound > best_bound:
            best_bound, best_price = bound, price
        if cost - best_bound <= gap * cost:
            return relaxed, best_bound, best_price
        allowed = max(gap, NEAR) * cost / 2 / len(model.layers)
        refined = [x.refine(price, -allowed) for x in model.searches]
        if not any(refined):
            return relaxed, best_bound, best_price
