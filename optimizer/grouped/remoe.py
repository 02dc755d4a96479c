"""Remoe on Lambda: the hot experts in the layer's main function, the cold ones in one function of LPT replicas.

Remoe serves non-MoE modules and hot experts in a main function on a GPU, the cold experts of a layer in one CPU
function whose replicas share them by LPT, and takes time over memory to be an exponential. Adapted:

- There is no GPU: the main function is the layer's gate and non-MoE function, at `non_moe_memory_mb`.
- A deployment problem has no experts inside the gate's function. So the problem is rewritten: the hot experts
  leave the layer; their compute time is added to `non_moe_s` (the model's latency, and in the total bill the main
  function's GB-s), the download of their parameters to the load of that function. Nothing of them is exchanged.
  They are computed before the cold ones start, not beside them: to Remoe's disadvantage.
- The paper's bill has the experts' functions alone, and would call the hot experts free. So their GB-s (download
  and compute at the main function's memory) are added to the billed and the full bill: `hot_gb_s`.
- The replicas of the cold function are the groups of the rewritten problem, each downloading what LPT gave it,
  with a memory of its own. One function could not have that: in Remoe's favour.
- How many experts are hot, and how many replicas there are, is tried; each is planned with the fitted times and
  judged with the real ones: in Remoe's favour as well.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from moe.errors import InputError
from optimizer.baselines import memory_only
from optimizer.evaluation import with_evaluation
from optimizer.exact import Beta
from optimizer.exact.groupings import lpt
from optimizer.problem import with_tokens
from optimizer.realised import BilledOverflow, Realised, realise_served
from simulator.plan import MB, DeploymentPlan, DeploymentProblem, objective_value
from simulator.staged_plan import grouped_layer

Hot = tuple[tuple[int, ...], ...]
"""Of each layer the experts in the main function."""
Cold = tuple[tuple[tuple[int, ...], ...], ...]
"""Of each layer and replica of its cold function the experts."""

HOT_COUNTS = 8
"""Numbers of hot experts that are tried: all below eight experts, else eight from none on."""


@dataclass(frozen=True)
class RemoePlan:
    """What Remoe would deploy.

    Attributes:
        problem: the rewritten one: cold experts only, grouped by replica.
        plan: for it; its bills are of the cold function alone.
        hot: of each layer the experts in the main function, the most popular first.
        cold: of each layer and replica of its cold function the experts, as `plan` has them.
        hot_gb_s: GB-s of the main functions for the hot experts.
        billed_gb_s, full_cost_usd: with the hot experts.
    """

    problem: DeploymentProblem
    plan: DeploymentPlan
    hot: Hot
    cold: Cold
    hot_gb_s: float
    billed_gb_s: float
    full_cost_usd: float

    def cost(self) -> float:
        """The bill in the objective's unit, hot experts included."""
        value: float = objective_value(self, self.problem.objective)
        return value


def remoe(problem: DeploymentProblem, beta: Beta = "per-layer") -> RemoePlan:
    """The cheapest of Remoe's deployments within the limit, or the fastest where none meets it.

    Raises InputError where a layer has one expert only, or a replica fits no memory size.
    """
    found, failure = [], InputError("remoe: expected layers of at least two experts")
    for hot_count, replicas in _sizes(problem):
        try:
            found.append(_planned(problem, hot_count, replicas, beta))
        except InputError as error:
            failure = error
    if not found:
        raise failure
    return min(
        found, key=lambda x: (not x.plan.feasible, x.cost() if x.plan.feasible else x.plan.latency_s or 0.0)
    )


def exponential_fit(memory_mb: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Time over memory as Remoe has it, a + b exp(-c M), by least squares; at least the least measured time.

    Args:
        memory_mb: shape (sizes,).
        seconds: measured at these sizes, shape (sizes,).

    Returns:
        The fitted times at these sizes.
    """
    if len(seconds) < 3:
        return seconds
    best = seconds
    least = np.inf
    for c in np.geomspace(0.01, 100, 200) / memory_mb[-1]:
        basis = np.stack([np.ones(len(seconds)), np.exp(-c * memory_mb)], axis=1)
        fitted = basis @ np.linalg.lstsq(basis, seconds, rcond=None)[0]
        error = float(((fitted - seconds) ** 2).sum())
        if error < least:
            best, least = fitted, error
    return np.maximum(best, seconds.min())


def _sizes(problem: DeploymentProblem) -> Iterator[tuple[int, int]]:
    """Numbers of hot experts and of replicas of the cold function that are tried."""
    experts = min(len(layer.experts) for layer in problem.layers)
    for hot in sorted(set(np.linspace(0, experts - 1, min(experts, HOT_COUNTS)).astype(int).tolist())):
        for replicas in range(1, min(experts - hot, problem.platform.max_replicas) + 1):
            yield hot, replicas


def realise_remoe(
    problem: DeploymentProblem, remoe_plan: RemoePlan, real: np.ndarray, overflow: BilledOverflow = "foreseen"
) -> Realised:
    """One batch served with Remoe's plan, hot experts billed as in `RemoePlan`.

    Args:
        problem: the one that Remoe planned for, not rewritten; its popularity is not looked at.
        remoe_plan: the plan.
        real: tokens of each expert, shape (layers, experts).
        overflow: see `optimizer.realised`.
    """
    served, hot_gb_s = _rewritten(with_tokens(problem, real), remoe_plan.hot, remoe_plan.cold)
    found = realise_served(served, remoe_plan.plan, overflow)
    return replace(
        found,
        billed_gb_s=found.billed_gb_s + hot_gb_s,
        full_cost_usd=found.full_cost_usd + hot_gb_s * problem.platform.price_per_gb_s,
    )


def _planned(problem: DeploymentProblem, hot_count: int, replicas: int, beta: Beta) -> RemoePlan:
    """The plan with so many hot experts and replicas in each layer."""
    hot, cold = _divided(problem, hot_count, replicas)
    rewritten, hot_gb_s = _rewritten(problem, hot, cold)
    layers = memory_only(_with_fitted_times(rewritten), beta).layers
    plan = with_evaluation(rewritten, DeploymentPlan(solver="remoe", layers=layers))
    return RemoePlan(
        problem=rewritten,
        plan=plan,
        hot=hot,
        cold=cold,
        hot_gb_s=hot_gb_s,
        billed_gb_s=(plan.billed_gb_s or 0.0) + hot_gb_s,
        full_cost_usd=(plan.full_cost_usd or 0.0) + hot_gb_s * problem.platform.price_per_gb_s,
    )


def _divided(problem: DeploymentProblem, hot_count: int, replicas: int) -> tuple[Hot, Cold]:
    """The most popular experts of each layer, so many; the others by LPT on the cold function's replicas."""
    hot, cold = [], []
    for layer in problem.layers:
        order = np.argsort(-layer.tokens, kind="stable")
        hot.append(tuple(order[:hot_count].tolist()))
        rest = sorted(order[hot_count:].tolist())
        groups = [group for group in lpt(layer.tokens[rest], replicas, len(rest)) if group]
        cold.append(tuple(tuple(rest[i] for i in group) for group in groups))
    return tuple(hot), tuple(cold)


def _rewritten(problem: DeploymentProblem, hot: Hot, cold: Cold) -> tuple[DeploymentProblem, float]:
    """The problem of the cold experts, an "expert" for each replica they share; the GB-s of the hot ones."""
    layers, gb_s = [], 0.0
    loads: list[float] = []
    for e, (layer, mine) in enumerate(zip(problem.layers, hot, strict=True)):
        j, memory_mb = _main_function(problem, e, mine)
        calls = sum(layer.experts[i].tokens > 0 for i in mine)
        per_call = 0.0 if layer.seconds_per_call is None else layer.seconds_per_call[j]
        compute_s = float(layer.tokens[list(mine)].sum()) * layer.seconds_per_token[j] + calls * per_call
        load_s = sum(layer.experts[i].parameter_bytes for i in mine) / problem.platform.gate_bandwidth
        gb_s += memory_mb / 1024 * (compute_s + load_s)
        changed = grouped_layer(layer, cold[e])
        layers.append(changed.model_copy(update={"non_moe_s": layer.non_moe_s + compute_s}))
        loads.append(load_s)
    # A main function is loaded while the layer before it runs, the first one with the head.
    layers = [
        layer.model_copy(update={"next_load_s": layer.next_load_s + load_s})
        for layer, load_s in zip(layers, [*loads[1:], 0.0], strict=True)
    ]
    changes = {
        "layers": tuple(layers),
        "head_s": problem.head_s + loads[0],
        "batch_tokens": problem.served_tokens or None,
        "non_moe": (),
    }
    return problem.model_copy(update=changes), gb_s


def _main_function(problem: DeploymentProblem, e: int, hot: tuple[int, ...]) -> tuple[int, float]:
    """Index of the listed size whose compute times the main function of layer e has, and its memory in MB.

    Raises InputError where its hot experts do not fit."""
    layer, sizes = problem.layers[e], problem.platform.memory_mb
    memory_mb = layer.non_moe_memory_mb or sizes[-1]
    held = [layer.experts[i] for i in hot]
    needed = sum(x.parameter_bytes for x in held) + max((x.intermediate_bytes for x in held), default=0.0)
    if needed > memory_mb * MB:
        raise InputError(f"layers.{e}: {len(hot)} hot experts do not fit a main function of {memory_mb} MB")
    return max(0, int(np.searchsorted(sizes, memory_mb, side="right")) - 1), float(memory_mb)


def _with_fitted_times(problem: DeploymentProblem) -> DeploymentProblem:
    sizes = problem.platform.memory_mb
    layers = [
        layer.model_copy(update={"seconds_per_token": _fitted(sizes, layer.seconds_per_token)})
        for layer in problem.layers
    ]
    return problem.model_copy(update={"layers": tuple(layers)})


@functools.cache
def _fitted(memory_mb: tuple[int, ...], seconds: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(exponential_fit(np.array(memory_mb, float), np.array(seconds)).tolist())
