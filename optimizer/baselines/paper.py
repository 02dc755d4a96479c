"""Plans to compare with: LambdaML's rule, the best plan that is the same everywhere, random methods.

Source: the baselines of Liu, Wang, Wu, INFOCOM 2025, section V; `best-uniform` is this project's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moe.errors import InputError, nearest, shortened
from optimizer import cost_model
from optimizer.baselines.minibatches import MinibatchChoice, cheapest_minibatches
from optimizer.evaluation import Evaluation, Solution, counted_gate, evaluate
from optimizer.exact import PREFERRED, Beta, cheapest_layers, model_fronts
from optimizer.exact.layer_fronts import alike_layers, minibatch_breakpoints
from simulator.plan import (
    COMMUNICATIONS,
    MB,
    Communication,
    DeploymentPlan,
    DeploymentProblem,
    ExpertPlan,
    LayerPlan,
    needed_memory_bytes,
    payload_bytes,
)


def lambdaml(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    max_memory_mb: int = 3008,
    method: Communication | None = None,
) -> Solution:
    """LambdaML's rule: every expert gets the largest memory and one replica; no popularity is predicted.

    Args:
        problem: the problem.
        beta: minibatch sizes, of each layer or one for the model: the cheapest within the limit.
        max_memory_mb: the largest listed memory size up to this is taken.
        method: for all layers; by default the cheapest that keeps the constraints, or all but the limit.

    Raises InputError where no listed size is small enough, and for an unknown method.
    """
    if method is not None and method not in COMMUNICATIONS:
        raise InputError(f"method: no communication method {shortened(method)}{nearest(method, COMMUNICATIONS)}")
    listed = [j for j, size in enumerate(problem.platform.memory_mb) if size <= max_memory_mb]
    if not listed:
        raise InputError(
            f"max_memory_mb: expected at least the smallest size {problem.platform.memory_mb[0]}, "
            f"got {max_memory_mb}"
        )
    plans = [
        _uniform_plan(problem, _tables(problem, x, beta), listed[-1], 1, beta)
        for x in PREFERRED
        if method in (None, x)
    ]
    found = [evaluate(problem, plan) for plan in plans]
    best = min(range(len(plans)), key=lambda k: (kinds_broken(found[k]), found[k].objective_value))
    return Solution(plans[best].layers)


def best_uniform(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    popularity: Literal["uniform", "known"] = "uniform",
    methods: Sequence[Communication] = PREFERRED,
) -> Solution:
    """One memory, one replica count and one method for all experts: the cheapest within the limit, of equally
    cheap ones the fastest; where none meets it the fastest, of equally fast ones the cheapest.

    Args:
        problem: the problem; what the plan comes to is evaluated on its popularity.
        beta: minibatch sizes, of each layer or one for the model.
        popularity: `uniform`: it is chosen as if the experts of a layer were equally popular, so it needs no
            prediction, and may break a constraint on the real popularity (it then says so); `known`:
            chosen on the problem's popularity, the best that one size for all can do.
        methods: to choose from.

    Raises InputError where no memory size holds every expert.
    """
    if popularity not in ("uniform", "known"):
        raise InputError(f"popularity: expected 'uniform' or 'known', got {shortened(popularity)}")
    level = equally_popular(problem) if popularity == "uniform" else problem
    best: tuple[tuple[bool, float, float], DeploymentPlan] | None = None
    for method in methods:
        tables = _tables(level, method, beta)
        allowed = np.all([table.allowed for table in tables], axis=0)
        for j, g in np.argwhere(allowed):
            plan = _uniform_plan(level, tables, int(j), int(g) + 1, beta)
            result = evaluate(level, plan)
            late = not result.feasible
            first, second = result.objective_value, result.latency_s
            if late:
                first, second = second, first
            rank = (late, float(f"{first:.12g}"), second)  # what differs by rounding is equal
            if best is None or rank < best[0]:
                best = rank, plan
    if best is None:
        raise InputError("platform.memory_mb: no size holds every expert at any replica count")
    return Solution(best[1].layers)


def random_methods(problem: DeploymentProblem, beta: Beta = "per-layer", seed: int = 0) -> Solution:
    """A random method for each layer, of those that it can use, with the cheapest sizes within the limit; the
    fastest where the limit is out of reach with these methods.

    Raises InputError where an expert fits no memory size.
    """
    rng = np.random.default_rng(seed)
    fronts = model_fronts(problem)
    drawn: list[tuple[Communication, ...]] = []
    for found in fronts.by_method:
        usable = [method for method in COMMUNICATIONS if len(found[method])]
        drawn.append((usable[rng.integers(len(usable))],))
    return Solution(cheapest_layers(problem, fronts.restricted(drawn), beta)[0], fronts.bound(problem))


@dataclass(frozen=True)
class _LayerTable:
    """A layer with the same deployment for all its experts, for every memory size and replica count.

    Attributes:
        communication: the method.
        betas: minibatch sizes to choose from, shape (betas,); one 1 unless pipelined.
        largest_beta: by Eq. 12e, shape (replicas,); infinite where no token reaches the layer.
        cost, latency_s: shape (betas, sizes, replicas), whether allowed or not.
        allowed: memory and payload hold for every expert, shape (sizes, replicas).
    """

    communication: Communication
    betas: np.ndarray
    largest_beta: np.ndarray
    cost: np.ndarray
    latency_s: np.ndarray
    allowed: np.ndarray


def _tables(problem: DeploymentProblem, method: Communication, beta: Beta) -> list[_LayerTable]:
    """The tables of all layers; with one beta for the model they list the same minibatch sizes."""
    tokens = [layer.tokens for layer in problem.layers]
    if beta == "global":
        tokens = [np.concatenate(tokens)] * len(tokens)
    g = np.arange(1, problem.platform.max_replicas + 1)
    tables: dict[int, _LayerTable] = {}
    alike = alike_layers(problem)
    for e in sorted(set(alike)):
        betas = minibatch_breakpoints(np.divide.outer(tokens[e], g)) if method == "pipelined" else np.ones(1)
        tables[e] = _table(problem, e, method, betas)
    return [tables[e] for e in alike]


def _table(problem: DeploymentProblem, e: int, method: Communication, betas: np.ndarray) -> _LayerTable:
    platform, layer = problem.platform, problem.layers[e]
    x = cost_model.all_deployments(platform, layer)
    r = np.broadcast_to(x.replica_tokens, (len(layer.experts), 1, platform.max_replicas))
    result = cost_model.outcome(platform, layer, x, method, betas.reshape(-1, 1, 1, 1))
    reached = (layer.tokens > 0).reshape(-1, 1, 1)
    finish = np.where(reached, result.finish_s, 0.0).max(axis=-3)
    slowest_input = np.where(reached, result.input_s, 0.0).max(axis=-3)
    latency = np.maximum(result.floor_s, finish) + slowest_input + result.rest_s
    fits = needed_memory_bytes(layer, r) <= x.memory_mb * MB
    if method == "direct":
        fits = fits & (payload_bytes(layer, platform, r) <= platform.payload_limit_bytes)
    shape = (len(betas), len(platform.memory_mb), platform.max_replicas)
    return _LayerTable(
        communication=method,
        betas=betas,
        largest_beta=np.where(reached.any(), np.maximum(1, np.ceil(r.max(axis=(0, 1)))), np.inf),
        cost=np.broadcast_to(
            result.objective(problem).sum(axis=-3) + counted_gate(problem, e).usd(method, latency), shape
        ),
        latency_s=np.broadcast_to(latency if reached.any() else 0.0, shape),
        allowed=np.asarray(fits.all(axis=0)),
    )


def _uniform_plan(
    problem: DeploymentProblem, tables: Sequence[_LayerTable], j: int, g: int, beta: Beta
) -> DeploymentPlan:
    """The plan with memory size j, g replicas and the tables' method everywhere, its minibatch sizes the
    cheapest within the limit, or the fastest."""
    choices = [
        MinibatchChoice(
            communication=table.communication,
            betas=table.betas,
            largest_beta=float(table.largest_beta[g - 1]),
            cost=table.cost[:, j, g - 1],
            latency_s=table.latency_s[:, j, g - 1],
        )
        for table in tables
    ]
    minibatches = cheapest_minibatches(problem, choices, beta)
    expert = ExpertPlan(memory_mb=problem.platform.memory_mb[j], replicas=g)
    layers = [
        LayerPlan(
            communication=table.communication,
            minibatch_tokens=size,
            experts=(expert,) * len(layer.experts),
        )
        for table, layer, size in zip(tables, problem.layers, minibatches, strict=True)
    ]
    return DeploymentPlan(solver="uniform", layers=tuple(layers))


def equally_popular(problem: DeploymentProblem) -> DeploymentProblem:
    """The problem with each layer's tokens shared evenly among its experts."""
    layers = []
    for layer in problem.layers:
        even = float(layer.tokens.mean())
        experts = tuple(expert.model_copy(update={"tokens": even}) for expert in layer.experts)
        layers.append(layer.model_copy(update={"experts": experts}))
    return problem.model_copy(update={"layers": tuple(layers)})


def kinds_broken(plan: DeploymentPlan | Evaluation) -> int:
    """0: a feasible plan; 1: one that only misses the latency limit; 2: one that cannot run as planned."""
    kinds = {kind for _, _, kind in plan.violations}
    return 0 if not kinds else 1 if kinds == {"latency"} else 2
