"""What candidate plans come to on samples of the popularity, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.evaluation import fixed_latency_s
from optimizer.realised import BilledOverflow, realise
from simulator.plan import DeploymentPlan, DeploymentProblem, LayerPlan
from simulator.serving.overflow import replicas_that_fit


@dataclass(frozen=True)
class Outcomes:
    """What the candidates' layers come to on the samples.

    Attributes:
        layers: of each layer the different candidates.
        cost, latency_s: of each layer, shape (candidates, samples); infinite where it cannot serve a sample.
        whole: the candidates that came as plans: a label of each layer, shape (plans, layers).
        fixed_s: latency that no plan changes.
    """

    layers: tuple[tuple[LayerPlan, ...], ...]
    cost: tuple[np.ndarray, ...]
    latency_s: tuple[np.ndarray, ...]
    whole: np.ndarray
    fixed_s: float

    @staticmethod
    def of(
        problem: DeploymentProblem,
        plans: Sequence[tuple[LayerPlan, ...]],
        samples: np.ndarray,
        overflow: BilledOverflow = "foreseen",
    ) -> "Outcomes":
        """Serve all samples with all candidates."""
        by_layer = [list(dict.fromkeys(plan[e] for plan in plans)) for e in range(len(problem.layers))]
        found = [_serve(problem, e, layer, samples[:, e], overflow) for e, layer in enumerate(by_layer)]
        return Outcomes(
            layers=tuple(map(tuple, by_layer)),
            cost=tuple(cost for cost, _ in found),
            latency_s=tuple(latency for _, latency in found),
            whole=np.array([[by_layer[e].index(layer) for e, layer in enumerate(plan)] for plan in plans]),
            fixed_s=fixed_latency_s(problem),
        )

    def totals(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bills and latencies on the samples of plans (..., layers): shape (..., samples)."""
        labels = np.asarray(labels)
        cost = sum(part[labels[..., e]] for e, part in enumerate(self.cost))
        latency = sum(part[labels[..., e]] for e, part in enumerate(self.latency_s))
        return np.asarray(cost), np.asarray(latency) + self.fixed_s

    def plan(self, labels: np.ndarray) -> tuple[LayerPlan, ...]:
        """The layers' plans."""
        return tuple(layer[k] for layer, k in zip(self.layers, labels, strict=True))

    def served(self, e: int) -> np.ndarray:
        """Candidates of layer e that can serve all samples."""
        return np.flatnonzero(np.isfinite(self.cost[e]).all(axis=1))


def _serve(
    problem: DeploymentProblem, e: int, plans: Sequence[LayerPlan], samples: np.ndarray, overflow: BilledOverflow
) -> tuple[np.ndarray, np.ndarray]:
    """Bills and latencies of plans of layer e on samples (samples, experts); shape (plans, samples) each."""
    layer = problem.layers[e].model_copy(update={"non_moe_s": 0.0})
    alone = problem.model_copy(update={"layers": (layer,), "head_s": 0.0, "tail_s": 0.0})
    found = np.full((2, len(plans), len(samples)), np.inf)
    for k, chosen in enumerate(plans):
        plan = DeploymentPlan(solver="", layers=(chosen,))
        for s, tokens in enumerate(samples):
            real = realise(alone, plan, tokens[None], overflow)
            if real.failed is None and _within_replicas(alone, chosen, tokens):
                found[:, k, s] = real.cost(alone), real.latency_s
    return found[0], found[1]


def _within_replicas(alone: DeploymentProblem, plan: LayerPlan, tokens: np.ndarray) -> bool:
    return bool(replicas_that_fit(alone, 0, plan, tokens).max() <= alone.platform.max_replicas)
