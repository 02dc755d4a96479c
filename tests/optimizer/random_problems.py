"""Small random deployment problems, and their optimum by trying every plan."""

import functools
import itertools
from typing import Any

import numpy as np

from optimizer import cost_model
from optimizer.evaluation import fixed_latency_s
from simulator.plan import (
    COMMUNICATIONS,
    MB,
    DeploymentProblem,
    ProblemLayer,
    needed_memory_bytes,
    payload_bytes,
)

Labels = dict[str, tuple[np.ndarray, np.ndarray]]


def random_problem(seed: int) -> DeploymentProblem:
    """2 layers of 2-3 experts, 3 memory sizes, up to 3 replicas; every optional field in some of the problems."""
    rng = np.random.default_rng(seed)
    sizes = (256, 512, 1024)
    platform: dict[str, Any] = {
        "memory_mb": sizes,
        "max_replicas": 3,
        "storage_bandwidth_bytes_per_s": float(rng.uniform(20e6, 90e6)),
        "direct_bandwidth_bytes_per_s": float(rng.uniform(10e6, 60e6)),
        "storage_delay_s": float(rng.uniform(0.005, 0.1)),
        "warm_start_s": float(rng.uniform(0, 0.05)),
        "payload_limit_bytes": float(rng.uniform(3e6, 12e6)),
        "price_per_gb_s": 1.66667e-5,
    }
    usd = bool(rng.integers(2))
    if usd:
        platform |= {"price_per_invocation": 2e-7, "price_per_put": 5e-6, "price_per_get": 4e-7}
    if rng.integers(2):
        platform["storage_bandwidth_bytes_per_s"] = sorted(rng.uniform(10e6, 90e6, 3).tolist())
    if rng.integers(2):
        platform["payload_encoding_factor"] = 4 / 3
    return DeploymentProblem.model_validate(
        {
            "name": f"random-{seed}",
            "objective": "usd" if usd else "gb_s",
            "platform": platform,
            "layers": [_random_layer(rng, e) for e in range(2)],
            "head_s": 0.5,
            "tail_s": 0.25,
        }
    )


def _random_layer(rng: np.random.Generator, e: int) -> dict[str, Any]:
    experts = int(rng.integers(2, 4))
    tokens = rng.integers(0, 14, experts).astype(float)
    if rng.integers(4) == 0:
        tokens[:] = tokens[0]  # experts that are alike
    if rng.integers(4) == 0:
        tokens += 0.5 * (tokens > 0)  # a prediction need not be whole
    if e == 1 and rng.integers(6) == 0:
        tokens[:] = 0
    layer: dict[str, Any] = {
        "token_in_bytes": float(rng.uniform(0.2e6, 1.5e6)),
        "token_out_bytes": float(rng.uniform(0.2e6, 1.5e6)),
        "seconds_per_token": (rng.uniform(0.05, 0.2) / np.array([1, rng.uniform(1, 2.5), 4])).tolist(),
        "non_moe_s": 0.3,
        "next_load_s": float(rng.uniform(0, 0.6)),
        "experts": [
            {
                "tokens": float(d),
                "parameter_bytes": 20e6,
                "intermediate_bytes": 150e6,
                "intermediate_bytes_per_token": 15e6,
            }
            for d in tokens
        ],
    }
    if rng.integers(2):
        layer["seconds_per_call"] = [0.1, 0.05, 0.02]
    return layer


def with_many_tokens(seed: int, times: int = 20) -> DeploymentProblem:
    """A random problem with so many times the tokens, each as much smaller, and with some layers alike: as many
    bytes and seconds, but more minibatch sizes, all of them equally fast below what `next_load_s` takes."""
    problem, rng = random_problem(seed), np.random.default_rng(seed)
    layers = []
    for layer in problem.layers:
        experts = [
            x.model_copy(
                update={
                    "tokens": x.tokens * times,
                    "intermediate_bytes_per_token": (x.intermediate_bytes_per_token or 0.0) / times,
                }
            )
            for x in layer.experts
        ]
        smaller: dict[str, Any] = {
            "token_in_bytes": layer.token_in_bytes / times,
            "token_out_bytes": layer.token_out_bytes / times,
            "seconds_per_token": tuple(x / times for x in layer.seconds_per_token),
        }
        slow = {"next_load_s": float(rng.uniform(0, 20)), "experts": tuple(experts)}
        layers.append(layer.model_copy(update=smaller | slow))
    return problem.model_copy(update={"layers": (*layers, *layers[:1] * (seed % 3))})


def every_label(problem: DeploymentProblem, layer: ProblemLayer) -> Labels:
    """Cost and latency of every deployment of a layer that keeps the constraints, by method and, for
    `pipelined`, minibatch size: every one from 1 up, by Eq. 12e of each deployment itself."""
    platform = problem.platform
    reached = layer.tokens > 0
    if not reached.any():
        return {"storage": (np.zeros(1), np.zeros(1))}
    x = cost_model.all_deployments(platform, layer)
    shape = (len(layer.experts), len(platform.memory_mb), platform.max_replicas)
    r = np.broadcast_to(x.replica_tokens, shape)
    fits = needed_memory_bytes(layer, r) <= np.broadcast_to(x.memory_mb, shape) * MB
    payload = payload_bytes(layer, platform, r) <= platform.payload_limit_bytes
    combos = np.array(list(itertools.product(range(shape[1] * shape[2]), repeat=shape[0])))
    every = np.arange(shape[0])

    def of(values: np.ndarray | float) -> np.ndarray:
        return np.broadcast_to(values, shape).reshape(shape[0], -1)[every, combos]

    allowed = of(fits)[:, reached].all(axis=1)
    largest_beta = np.maximum(1, np.ceil(of(r).max(axis=1)))
    labels: Labels = {}
    for method in COMMUNICATIONS:
        betas = range(1, int(np.ceil(layer.tokens.max())) + 1) if method == "pipelined" else [1]
        for beta in betas:
            result = cost_model.outcome(platform, layer, x, method, float(beta))
            ok = allowed & (largest_beta >= beta)
            if method == "direct":
                ok = ok & of(payload).all(axis=1)
            cost = of(result.objective(problem)).sum(axis=1)
            slowest = of(result.finish_s)[:, reached].max(axis=1)
            latency = np.maximum(result.floor_s, slowest) + of(result.input_s).max(axis=1) + result.rest_s
            labels[f"{method} {beta}" if method == "pipelined" else method] = cost[ok], latency[ok]
    return labels


@functools.cache
def front_by_trying(
    seed: int, one_beta: bool = False, others: tuple[str, ...] = ("storage", "direct")
) -> tuple[np.ndarray, np.ndarray]:
    """Every undominated (cost, latency) of a random problem's model, by rising latency, from trying every plan
    with `pipelined` and the other methods."""
    problem = random_problem(seed)
    layers = [every_label(problem, layer) for layer in problem.layers]
    names = {name for labels in layers for name in labels if name.startswith("pipelined")}
    shared = [{name} for name in sorted(names)] or [set()] if one_beta else [names]
    costs, latencies = [], []
    for beta_names in shared:
        allowed = beta_names | set(others)
        cost, latency = np.zeros(1), np.full(1, fixed_latency_s(problem))
        for labels in layers:
            some = [labels[name] for name in sorted(labels) if name in allowed or len(labels) == 1]
            part = [np.concatenate(column) for column in zip(*some, strict=True)] if some else [np.zeros(0)] * 2
            part = list(_undominated(part[0], part[1]))
            cost, latency = (np.add.outer(a, b).ravel() for a, b in zip((cost, latency), part, strict=True))
        costs.append(cost)
        latencies.append(latency)
    return distinct(*_undominated(np.concatenate(costs), np.concatenate(latencies)))


def distinct(cost: np.ndarray, latency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A front where latencies, and costs, that are the same but for rounding are one point."""
    apart = np.append(latency[1:] > latency[:-1] * (1 + 1e-10), True)
    cost, latency = cost[apart], latency[apart]
    apart = np.append(True, cost[1:] < cost[:-1] * (1 - 1e-10))
    return cost[apart], latency[apart]


def _undominated(cost: np.ndarray, latency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(cost):
        return cost, latency
    order = np.lexsort((cost, latency))
    cost, latency = cost[order], latency[order]
    best = np.minimum.accumulate(cost)
    keep = np.append(True, best[1:] < best[:-1])
    return cost[keep], latency[keep]


def small_problem(seed: int) -> DeploymentProblem:
    """A random problem cut to 2 layers of 2 experts and 2 replicas: a general solver solves it in seconds."""
    problem = random_problem(seed)
    layers = [layer.model_copy(update={"experts": layer.experts[:2]}) for layer in problem.layers]
    platform = problem.platform.model_copy(update={"max_replicas": 2})
    return problem.model_copy(update={"platform": platform, "layers": tuple(layers)})
