"""The exact solver with one minibatch size for the whole model, as in the paper: an outer loop over it."""

from dataclasses import dataclass

import numpy as np

from optimizer.fronts import LayerFront, LayerOptions
from optimizer.knapsack import Selection, cheapest
from simulator.plan import DeploymentProblem, LayerPlan


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
    problem: DeploymentProblem, budget_s: float, price: float
) -> tuple[tuple[LayerPlan, ...] | None, float]:
    """The cheapest layers' plans whose pipelined layers share one minibatch size.

    Sizes are tried by what they can at best come to; the rest is left out once none can beat the best found.

    Args:
        problem: the problem.
        budget_s: latency left for the MoE layers, s.
        price: cost of a second of latency, to bound with; any number >= 0 is right, a good one is fast.

    Returns:
        the plans, None if none meets the budget; and the least latency of the layers, s.
    """
    options = [LayerOptions(problem, e, merge_alike=False) for e in range(len(problem.layers))]
    betas = np.unique(np.concatenate([np.ones(1), *(x.rows("pipelined") for x in options if x.reached)]))
    layers = [_layer(x, betas) for x in options]
    spare = price * budget_s if price > 0 else 0.0
    bounds = np.sum([_least(layer, betas, price) for layer in layers], axis=0) - spare
    best: Selection | None = None
    best_beta = betas[0]
    for k in np.argsort(bounds, kind="stable"):
        if best is not None and bounds[k] >= best.cost:
            break
        found = cheapest([layer.at(betas[k]).pair() for layer in layers], budget_s)
        if found is not None and (best is None or found.cost < best.cost):
            best, best_beta = found, betas[k]
    if best is None:
        return None, float(np.sum([_least(layer, betas, None) for layer in layers], axis=0).min())
    plans = [
        layer.options.plan(layer.at(best_beta), label, hold_beta=True)
        for layer, label in zip(layers, best.labels, strict=True)
    ]
    return tuple(plans), best.latency_s


def _layer(options: LayerOptions, betas: np.ndarray) -> _Layer:
    """Labels of a layer for all minibatch sizes of the model, those that Eq. 12e allows the layer."""
    others = LayerFront.joined([options.front("storage"), options.front("direct")])
    if not options.reached:
        return _Layer(options, others, others.take(np.arange(0)))
    tokens = options.layer.tokens[options.layer.tokens > 0]
    least_r = np.ceil(tokens / options.problem.platform.max_replicas)
    free = betas <= least_r.max()
    parts = [options.labels("pipelined", betas[free])]
    for witness in np.flatnonzero(np.ceil(tokens) > least_r.max()):
        held = betas[~free & (betas <= np.ceil(tokens[witness]))]
        if len(held):
            parts.append(options.labels("pipelined", held, int(witness)))
    pipelined = LayerFront.concatenated(parts)
    return _Layer(options, others, pipelined.take(np.argsort(pipelined.row, kind="stable")))


def _least(layer: _Layer, betas: np.ndarray, price: float | None) -> np.ndarray:
    """For each minibatch size the least cost + price x latency of a layer; latency alone without a price."""

    def value(x: LayerFront) -> np.ndarray:
        return x.latency_s if price is None else x.cost + price * x.latency_s

    least = np.full(len(betas), value(layer.others).min(initial=np.inf))
    np.minimum.at(least, np.searchsorted(betas, layer.pipelined.row), value(layer.pipelined))
    return least
