"""The deployment of a layer that is behind a label of its front."""

import numpy as np

from optimizer.exact.layer_fronts import SAME, LayerFront, LayerOptions
from simulator.plan import COMMUNICATIONS, MB, DeploymentProblem, ExpertPlan, LayerPlan, needed_memory_bytes


def layer_plan(options: LayerOptions, front: LayerFront, label: int, hold_beta: bool = False) -> LayerPlan:
    """The deployment behind a label; of equally cheap deployments the smallest memory, then the fewest
    replicas.

    Args:
        options: of the layer.
        front: of the same layer.
        label: index in the front.
        hold_beta: keep the label's minibatch size (it is another layer's as well), and Eq. 12e with it;
            otherwise take the least that gives the same minibatches.
    """
    communication = COMMUNICATIONS[int(front.method[label])]
    if not options.reached:
        idle = [idle_expert(options.problem, options.e, i) for i in range(len(options.layer.experts))]
        return LayerPlan(communication="storage", experts=tuple(idle))
    row = front.row[label : label + 1]
    result, allowed = options.outcomes(communication, row, row, options.every)
    in_time = allowed & (result.finish_s <= front.finish_s[label] * SAME)
    cost = np.where(in_time, result.objective(options.problem), np.inf)
    cost = np.broadcast_to(cost, in_time.shape).reshape(len(options.count), -1)
    best = cost.argmin(axis=1)
    beta: int | None = None
    if communication == "pipelined":
        beta = int(front.row[label])
        if hold_beta:
            best = _with_witness(options, best, cost, beta)
        else:
            r = _replica_tokens(options, best)
            beta = int(np.ceil(r / np.ceil(r / beta)).max())
    sizes, counts = options.problem.platform.memory_mb, options.problem.platform.max_replicas
    listed = [ExpertPlan(memory_mb=sizes[k // counts], replicas=int(1 + k % counts)) for k in best]
    experts = tuple(
        listed[options.listed_as[i]] if i in options.listed_as else idle_expert(options.problem, options.e, i)
        for i in range(len(options.layer.experts))
    )
    return LayerPlan(communication=communication, minibatch_tokens=beta, experts=experts)


def idle_expert(problem: DeploymentProblem, e: int, i: int) -> ExpertPlan:
    """The deployment of an expert that no token reaches: the smallest memory that holds it, one replica."""
    layer = problem.layers[e]
    needed = needed_memory_bytes(layer, np.zeros(len(layer.experts)))[i]
    sizes = problem.platform.memory_mb
    return ExpertPlan(memory_mb=next((m for m in sizes if m * MB >= needed), sizes[-1]), replicas=1)


def _replica_tokens(options: LayerOptions, deployment: np.ndarray) -> np.ndarray:
    """r of each expert deployed as its `deployment`, an index in (sizes, replicas)."""
    return options.listed.tokens / (1 + deployment % options.problem.platform.max_replicas)


def _with_witness(options: LayerOptions, best: np.ndarray, cost: np.ndarray, beta: int) -> np.ndarray:
    """The cheapest deployments of which one has replicas of more than beta - 1 tokens (Eq. 12e).

    Args:
        options: of the layer.
        best: the cheapest deployment of each expert, (experts,).
        cost: of every deployment, inf where not allowed, (experts, deployments).
        beta: the minibatch size.
    """
    if np.ceil(_replica_tokens(options, best)).max() >= beta:
        return best
    r = np.broadcast_to(np.ceil(options.every.r), options.every.shape).reshape(cost.shape)
    large = np.where(r >= beta, cost, np.inf)
    w = int((large.min(axis=1) - cost.min(axis=1)).argmin())
    return np.where(np.arange(len(best)) == w, large.argmin(axis=1), best)
