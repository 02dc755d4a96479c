"""Replicas only: all experts have one memory size, and the busiest get more replicas.

Source: the greedy of DeepSeek's expert-parallel load balancer (EPLB, `replicate_experts`); MoEless replicates by
load in the same way.
"""

import numpy as np

from moe.errors import InputError
from optimizer import cost_model
from optimizer.baselines.minibatches import MinibatchChoice, cheapest_minibatches
from optimizer.baselines.paper import kinds_broken
from optimizer.cost_model import chosen
from optimizer.evaluation import Evaluation, Solution, counted_gate, evaluate
from optimizer.exact import PREFERRED, Beta
from optimizer.exact.layer_fronts import minibatch_breakpoints
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, ExpertPlan, LayerPlan

DEFAULT_MEMORY_MB = 3008
"""The largest listed size up to this is taken, as in LambdaML's rule."""

BUDGETS = 29
"""Budgets that are tried where none is given: with 8 replicas at most, every quarter of a replica."""


def greedy_replicas(tokens: np.ndarray, total: int, most: int) -> np.ndarray:
    """EPLB's greedy: one replica each, then the next always to the expert with most tokens per replica.

    Args:
        tokens: of each expert of a layer, shape (experts,).
        total: replicas of the layer together; fewer than experts gives one each.
        most: replicas of one expert at most, which EPLB does not know.

    Returns:
        Replicas of each expert, shape (experts,) int; of equal loads the first expert goes first. Experts
        without tokens get no more, whatever is left.
    """
    replicas = np.ones(len(tokens), int)
    for _ in range(total - len(tokens)):
        load = np.where(replicas < most, tokens / replicas, 0.0)
        busiest = int(load.argmax())
        if load[busiest] <= 0:
            break
        replicas[busiest] += 1
    return replicas


def replicas_only(
    problem: DeploymentProblem,
    beta: Beta = "per-layer",
    memory_mb: int | None = None,
    replicas_per_expert: float | None = None,
) -> Solution:
    """One memory size, replicas by EPLB's greedy, the best single method.

    Adapted from a balancer that has a fixed number of GPU slots: a budget of functions takes their place, the
    same in each layer.

    Args:
        problem: the problem.
        beta: minibatch sizes, of each layer or one for the model.
        memory_mb: of all experts, one of the listed sizes; by default the largest up to 3008.
        replicas_per_expert: the budget, on average in each layer; by default the cheapest within the limit of
            29 from 1 to `max_replicas`, the fastest where none meets it.

    Raises InputError for a memory size that is not listed and a budget below 1.
    """
    memory_mb = _memory_mb(problem, memory_mb)
    most = problem.platform.max_replicas
    if replicas_per_expert is not None and not 1 <= replicas_per_expert <= most:
        raise InputError(f"replicas_per_expert: expected 1 to {most}, got {replicas_per_expert:g}")
    budgets = np.linspace(1, most, BUDGETS) if replicas_per_expert is None else [replicas_per_expert]
    deployments = dict.fromkeys(_deployed(problem, memory_mb, float(budget)) for budget in budgets)
    plans = [_plan(problem, experts, method, beta) for experts in deployments for method in PREFERRED]
    best = min(plans, key=lambda plan: _rank(evaluate(problem, plan)))
    return Solution(best.layers)


Deployed = tuple[tuple[ExpertPlan, ...], ...]
"""Memory and replicas of the experts of each layer."""


def _memory_mb(problem: DeploymentProblem, memory_mb: int | None) -> int:
    listed = problem.platform.memory_mb
    if memory_mb is None:
        return max((size for size in listed if size <= DEFAULT_MEMORY_MB), default=listed[0])
    if memory_mb not in listed:
        raise InputError(f"memory_mb: expected one of the problem's sizes {list(listed)}, got {memory_mb}")
    return memory_mb


def _deployed(problem: DeploymentProblem, memory_mb: int, replicas_per_expert: float) -> Deployed:
    layers = []
    for layer in problem.layers:
        total = round(replicas_per_expert * len(layer.experts))
        replicas = greedy_replicas(layer.tokens, total, problem.platform.max_replicas)
        layers.append(tuple(ExpertPlan(memory_mb=memory_mb, replicas=g) for g in replicas.tolist()))
    return tuple(layers)


def _plan(problem: DeploymentProblem, experts: Deployed, method: Communication, beta: Beta) -> DeploymentPlan:
    """These deployments with one method, and its cheapest minibatch sizes within the limit."""
    r = [layer.tokens / [x.replicas for x in part] for layer, part in zip(problem.layers, experts, strict=True)]
    if beta == "global":
        r = [np.concatenate(r)] * len(r)
    choices = [_choice(problem, e, part, method, minibatch_breakpoints(r[e])) for e, part in enumerate(experts)]
    sizes = cheapest_minibatches(problem, choices, beta)
    layers = [
        LayerPlan(communication=method, minibatch_tokens=size, experts=part)
        for size, part in zip(sizes, experts, strict=True)
    ]
    return DeploymentPlan(solver="replicas-only", layers=tuple(layers))


def _choice(
    problem: DeploymentProblem, e: int, experts: tuple[ExpertPlan, ...], method: Communication, betas: np.ndarray
) -> MinibatchChoice:
    """Cost and latency of layer e, so deployed, for each minibatch size."""
    layer = problem.layers[e]
    if method != "pipelined":
        betas = np.ones(1)
    reached = layer.tokens > 0
    if not reached.any():
        return MinibatchChoice(method, betas, np.inf, np.zeros(len(betas)), np.zeros(len(betas)))
    x = chosen(problem, e, LayerPlan(communication="storage", experts=experts))
    result = cost_model.outcome(problem.platform, layer, x, method, betas.reshape(-1, 1))
    finish = np.where(reached, result.finish_s, 0.0).max(axis=-1)
    latency = np.maximum(result.floor_s, finish) + np.max(result.input_s) + result.rest_s
    return MinibatchChoice(
        communication=method,
        betas=betas,
        largest_beta=max(1.0, float(np.ceil(x.replica_tokens.max()))),
        cost=np.broadcast_to(
            result.objective(problem).sum(axis=-1) + counted_gate(problem, e).usd(method, latency), len(betas)
        ),
        latency_s=np.broadcast_to(latency, len(betas)),
    )


def _rank(found: Evaluation) -> tuple[int, float]:
    """Feasible plans by cost, then those that only miss the limit by latency, then the rest."""
    broken = kinds_broken(found)
    return broken, found.latency_s if broken == 1 else found.objective_value
