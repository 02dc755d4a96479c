"""What no plan can go below on samples of the popularity, not even one made for each sample on its own.

The wait-and-see bound of stochastic programming: the mean of the samples' own optima (Madansky 1960). It must hold
for `optimizer.realised`, which charges the tokens that are there where Eq. 6 charges full minibatches. So
`pipelined` and `storage` are relaxed together: a replica takes at least its head, two delays, one call, and for
each token the input's transfer and the computation (whatever beta; Eq. 6 has more delays, Eq. 8 the results'
transfer too); inputs are there in no time. `direct` is as it is (Eq. 10, 11). The relaxed layer is Eq. 8 of one
whose tokens have no bytes, so the exact fronts bound it.
"""

import math

import numpy as np

from optimizer.cost_model import download_s, load_s, upload_s
from optimizer.evaluation import latency_budget_s
from optimizer.exact.knapsack import ROUNDING, Front, fastest, relax, undominated
from optimizer.exact.layer_fronts import LayerOptions
from optimizer.exact.whole_fronts import whole_front
from optimizer.problem import with_tokens
from simulator.plan import DeploymentProblem, ProblemLayer


def sample_fronts(problem: DeploymentProblem, tokens: np.ndarray) -> list[Front]:
    """A front of each layer below which no realised deployment of it comes.

    Args:
        problem: all but the popularity.
        tokens: of each expert, shape (layers, experts).

    Raises InputError where an expert fits no memory size.
    """
    served = with_tokens(problem, tokens)
    found: dict[ProblemLayer, Front] = {}
    for e, layer in enumerate(served.layers):
        if layer not in found:
            found[layer] = _front(served, e)
    return [found[layer] for layer in served.layers]


def mean_bound(problem: DeploymentProblem, samples: np.ndarray, limit_share: float | None = None) -> float | None:
    """No plan's mean bill over the samples is less, of the plans that keep the limit and never need more than
    `max_replicas` replicas of an expert. None where no plan keeps the limit.

    Args:
        problem: all but the popularity; its limit counts.
        samples: shape (samples, layers, experts).
        limit_share: share of the samples that must keep the limit; None: their mean latency must.
    """
    fronts = [sample_fronts(problem, tokens) for tokens in samples]
    budget, n = latency_budget_s(problem), len(samples)
    if limit_share is None:
        every = [front for layers in fronts for front in layers]
        return (
            None if fastest(every).latency_s > n * budget * (1 + ROUNDING) else relax(every, n * budget).bound / n
        )
    free = np.array([relax(layers, np.inf).bound for layers in fronts])
    dearer = np.sort([_within(layers, budget) for layers in fronts] - free)
    bound = float(free.sum() + dearer[: math.ceil(limit_share * n - 1e-9)].sum()) / n
    return bound if np.isfinite(bound) else None


def sample_bounds(problem: DeploymentProblem, samples: np.ndarray) -> np.ndarray:
    """What no plan's bill on each sample is below, whatever the limit; shape (samples,)."""
    return np.array([relax(sample_fronts(problem, tokens), np.inf).bound for tokens in samples])


def _within(layers: list[Front], budget_s: float) -> float:
    return np.inf if fastest(layers).latency_s > budget_s * (1 + ROUNDING) else relax(layers, budget_s).bound


def _front(served: DeploymentProblem, e: int) -> Front:
    layer, platform = served.layers[e], served.platform
    if not (layer.tokens > 0).any():
        return np.zeros(1), np.zeros(1)
    relaxed = served.model_copy(update={"layers": (_without_bytes(served, layer),)})
    cost, latency = whole_front(LayerOptions(relaxed, 0), "storage").pair()
    # That layer has no bytes to upload and download; this one waits for them whatever the plan.
    experts_done = latency - platform.storage_delay_s
    floor = max(upload_s(platform, layer), load_s(platform, layer.next_load_s))
    exchanged = cost, np.maximum(experts_done, floor) + download_s(platform, layer)
    direct = whole_front(LayerOptions(served, e), "direct").pair()
    cost, latency = (np.concatenate(part) for part in zip(exchanged, direct, strict=True))
    kept = undominated(cost, latency)
    return cost[kept], latency[kept]


def _without_bytes(served: DeploymentProblem, layer: ProblemLayer) -> ProblemLayer:
    """The layer with its input's transfer counted as computation, and its bytes as memory of a token."""
    transfer_s = layer.token_in_bytes / served.platform.storage_bandwidths
    held = layer.token_in_bytes + layer.token_out_bytes
    experts = [
        x.model_copy(update={"intermediate_bytes_per_token": x.intermediate_bytes_per_token + held})
        for x in layer.experts
    ]
    return layer.model_copy(
        update={
            "token_in_bytes": 0.0,
            "token_out_bytes": 0.0,
            "seconds_per_token": tuple((np.array(layer.seconds_per_token) + transfer_s).tolist()),
            "experts": tuple(experts),
        }
    )
