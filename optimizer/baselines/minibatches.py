"""Minibatch sizes for layers whose method, memory and replicas are given: the cheapest within the limit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.evaluation import latency_budget_s
from optimizer.exact import Beta
from optimizer.exact.knapsack import cheapest, fastest, undominated
from simulator.plan import Communication, DeploymentProblem


@dataclass(frozen=True)
class MinibatchChoice:
    """One layer of given deployment, for every minibatch size that it may take.

    Attributes:
        communication: its method.
        betas: sizes to choose from, shape (betas,); one 1 unless pipelined.
        largest_beta: by Eq. 12e; infinite where no token reaches the layer.
        cost: in the objective's unit, shape (betas,).
        latency_s: shape (betas,).
    """

    communication: Communication
    betas: np.ndarray
    largest_beta: float
    cost: np.ndarray
    latency_s: np.ndarray


def cheapest_minibatches(
    problem: DeploymentProblem, layers: Sequence[MinibatchChoice], beta: Beta
) -> list[int | None]:
    """The minibatch size of each layer, the cheapest within the latency limit, else the fastest; None unless
    pipelined.

    Args:
        problem: its limit counts.
        layers: all of them; with `global` all list the same sizes.
        beta: a size for each layer, or one for the model.
    """
    fronts = [(layer.cost, layer.latency_s) for layer in layers]
    if beta == "global":
        # One label for the model: the layers' sums, of the sizes that Eq. 12e allows everywhere.
        sizes = np.flatnonzero(layers[0].betas <= min(layer.largest_beta for layer in layers))
        cost, latency = np.sum([(c[sizes], s[sizes]) for c, s in fronts], axis=0)
        fronts, candidates = [(cost, latency)], [sizes]
    else:
        candidates = [np.arange(len(layer.betas)) for layer in layers]
    kept = [undominated(*front) for front in fronts]
    fronts = [(cost[k], latency[k]) for (cost, latency), k in zip(fronts, kept, strict=True)]
    labels = (cheapest(fronts, latency_budget_s(problem)) or fastest(fronts)).labels
    rows = [sizes[k[label]] for sizes, k, label in zip(candidates, kept, labels, strict=True)]
    if beta == "global":
        rows *= len(layers)
    return [
        int(layer.betas[row]) if layer.communication == "pipelined" else None
        for layer, row in zip(layers, rows, strict=True)
    ]
