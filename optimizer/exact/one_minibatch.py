"""The exact solver with one minibatch size for the whole model, as in the paper: an outer loop over it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.exact.knapsack import ROUNDING, cheapest, fastest
from optimizer.exact.layer_fronts import LayerFront, LayerOptions
from optimizer.exact.layer_plan import layer_plan
from optimizer.exact.whole_fronts import whole_front
from simulator.plan import Communication, DeploymentProblem, LayerPlan


@dataclass(frozen=True)
class _Layer:
    """One layer: labels that know no minibatch size, and the pipelined labels sorted by theirs."""

    options: LayerOptions
    others: LayerFront
    pipelined: LayerFront

    def at(self, beta: float) -> LayerFront:
        """The layer's front when beta is the model's minibatch size."""
        low, high = np.searchsorted(self.pipelined.row, [beta, np.nextafter(beta, np.inf)])
        return LayerFront.joined([self.others, self.pipelined.take(np.arange(low, high))])


def cheapest_global_beta(
    problem: DeploymentProblem,
    methods: Sequence[Sequence[Communication]],
    budget_s: float,
    price: float,
    gap: float = 0.0,
) -> tuple[tuple[LayerPlan, ...], float, float]:
    """The cheapest layers' plans whose pipelined layers share one minibatch size.

    Sizes are tried by what they can at best come to; the rest is left out once none can beat the best found.

    Args:
        problem: the problem.
        methods: communication methods that each layer chooses from.
        budget_s: latency left for the MoE layers, s.
        price: cost of a second of latency, to bound with; any number >= 0 is right, a good one is fast.
        gap: how far the plans may be from the bound, as a share of their cost.

    Returns:
        the plans, the sum of their latencies in s, and a bound that no plans within the budget go below; the
        cheapest of the fastest plans where none meets the budget.
    """
    options = [LayerOptions(problem, e, merge_alike=False) for e in range(len(problem.layers))]
    betas = np.unique(np.concatenate([np.ones(1), *(x.rows("pipelined") for x in options if x.reached)]))
    layers = [_layer(x, usable, betas) for x, usable in zip(options, methods, strict=True)]
    spare = price * budget_s if price > 0 else 0.0
    least, least_pipelined = _least(layers, betas, price)
    # What a plan with some pipelined layer can at best come to; plans without one need no loop.
    possible = np.isfinite(least).all(axis=0)
    extra = np.subtract(least_pipelined, least, where=possible, out=np.full_like(least, np.inf)).min(axis=0)
    bounds = least.sum(axis=0) + extra - spare
    fronts = [layer.others for layer in layers]
    best, bound = cheapest([x.pair() for x in fronts], budget_s), np.inf
    for k in np.argsort(bounds, kind="stable"):
        if best is not None and bounds[k] >= best.cost * (1 - gap):
            bound = float(bounds[k])
            break
        at_beta = [layer.at(betas[k]) for layer in layers]
        found = cheapest([x.pair() for x in at_beta], budget_s)
        if found is not None and (best is None or found.cost < best.cost):
            best, fronts = found, at_beta
    if best is None:
        latency_s = _least(layers, betas, None)[0].sum(axis=0)
        tied = betas[latency_s <= latency_s.min() * (1 + ROUNDING)]
        each = [[layer.at(beta) for layer in layers] for beta in tied]
        best, fronts = min(
            ((fastest([x.pair() for x in at_beta]), at_beta) for at_beta in each), key=lambda x: x[0].cost
        )
    plans = [
        layer_plan(layer.options, front, label, hold_beta=True)
        for layer, front, label in zip(layers, fronts, best.labels, strict=True)
    ]
    return tuple(plans), best.latency_s, min(bound, best.cost)


def _layer(options: LayerOptions, methods: Sequence[Communication], betas: np.ndarray) -> _Layer:
    """Labels of a layer for all minibatch sizes of the model, those that Eq. 12e allows the layer."""
    none = LayerFront.empty()
    if not options.reached:
        return _Layer(options, whole_front(options, "storage"), none)
    fronts = [whole_front(options, x).with_gate(options.gate) for x in methods if x != "pipelined"]
    others = LayerFront.joined([none, *fronts])
    if "pipelined" not in methods:
        return _Layer(options, others, none)
    tokens = options.layer.tokens[options.layer.tokens > 0]
    least_r = np.ceil(tokens / options.problem.platform.max_replicas)
    free = betas <= least_r.max()
    parts = [options.labels("pipelined", betas[free])]
    for witness in np.flatnonzero(np.ceil(tokens) > least_r.max()):
        held = betas[~free & (betas <= np.ceil(tokens[witness]))]
        if len(held):
            parts.append(options.labels("pipelined", held, witness=int(witness)))
    pipelined = LayerFront.concatenated(parts)
    pipelined = replace(pipelined, cost=pipelined.cost + options.gate.exchange_usd)
    return _Layer(options, others, pipelined.take(np.argsort(pipelined.row, kind="stable")))


def _least(layers: list[_Layer], betas: np.ndarray, price: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The least cost + price x latency of each layer for each minibatch size, over all labels and over the
    pipelined ones; of the latency alone without a price. Two arrays of shape (layers, betas)."""

    def value(x: LayerFront) -> np.ndarray:
        return x.latency_s if price is None else x.cost + price * x.latency_s

    pipelined = np.full((len(layers), len(betas)), np.inf)
    for least, layer in zip(pipelined, layers, strict=True):
        np.minimum.at(least, np.searchsorted(betas, layer.pipelined.row), value(layer.pipelined))
    others = np.array([value(layer.others).min(initial=np.inf) for layer in layers])
    return np.minimum(pipelined, others[:, None]), pipelined
