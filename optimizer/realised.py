"""What a plan comes to on the tokens that were really routed, in closed form: the feedback of Alg. 2.

A replica that meets more tokens than it was planned for pays for it:

- memory overflow: its real tokens need more than its memory; payload overflow (`direct`): they are more than a
  payload holds. It runs as n replicas in parallel, each billed at r_real / n, n the least count that fits.
- neither, but its tokens differ from the predicted ones by more than alpha: nothing happens; Alg. 2 notes it.

The tokens that are there are billed: `pipelined` minibatches are even (r/n tokens each), where Eq. 6 charges the
last one as if it were full.

`foreseen` has the right n at once. With `retry` the call that overflows is billed first, until it fails: out of
memory once its input (`storage`) or its parameters (the others) are there; a request over the payload limit is
refused at once and free; a response over it fails when it is computed.

Source: Liu, Wang, Wu, INFOCOM 2025, Alg. 2; the least count that fits: simulator.serving.overflow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from moe.errors import InputError
from optimizer import cost_model
from optimizer.cost_model import Deployments, chosen, outcome
from optimizer.evaluation import evaluate, fixed_latency_s
from optimizer.problem import with_tokens
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import (
    MB,
    Communication,
    DeploymentPlan,
    DeploymentProblem,
    ProblemLayer,
    needed_memory_bytes,
    objective_value,
    payload_bytes,
)
from simulator.serving.overflow import replicas_that_fit
from simulator.serving.settled import served_so
from simulator.stage_rules import plan_of_run, run_problem
from simulator.staged_plan import AnyPlan, BlocksStage, runs_of

BilledOverflow: TypeAlias = Literal["foreseen", "retry"]
"""Of `simulator.serving.overflow.Overflow` those whose batch is served, so that it has a bill and a latency."""


@dataclass(frozen=True)
class Realised:
    """What one batch came to.

    Attributes:
        billed_gb_s, full_cost_usd: the experts' bills.
        latency_s: head to tail.
        failed: why the batch failed (bills and latency are infinite); None if it did not.
    """

    billed_gb_s: float
    full_cost_usd: float
    latency_s: float
    failed: str | None = None

    def cost(self, problem: DeploymentProblem) -> float:
        """The bill in the objective's unit."""
        value: float = objective_value(self, problem.objective)
        return value


Evaluate: TypeAlias = Callable[[DeploymentProblem, DeploymentPlan, np.ndarray], Sequence[Realised]]
"""Serves batches with a plan: the problem, the plan, real tokens (batches, layers, experts)."""


def closed_form(overflow: BilledOverflow = "foreseen") -> Evaluate:
    """Serving by the closed form (Eq. 3-11)."""

    def evaluate(problem: DeploymentProblem, plan: DeploymentPlan, real: np.ndarray) -> list[Realised]:
        return [realise(problem, plan, tokens, overflow) for tokens in real]

    return evaluate


def realise(
    problem: DeploymentProblem, plan: DeploymentPlan, real: np.ndarray, overflow: BilledOverflow = "foreseen"
) -> Realised:
    """One batch served with a plan that was made for other tokens.

    Args:
        problem: what the plan is for; its popularity is not looked at.
        plan: the plan.
        real: tokens of each expert, shape (layers, experts).
        overflow: whether overflow is foreseen, or met.
    """
    served = served_so(with_tokens(problem, real), plan.non_moe_memory_mb, plan.reload)
    return realise_served(served, plan, overflow)


def realised_latency_s(problem: DeploymentProblem, plan: AnyPlan, real: np.ndarray) -> float:
    """Latency of one batch, s, with a plan of either kind; infinite where it fails.

    Stages of whole blocks do the same work wherever tokens are routed; runs of expert functions are `realise`d.

    Args:
        problem: what the plan is for; its popularity is not looked at.
        real: tokens of each expert, shape (layers, experts).
    """
    if isinstance(plan, DeploymentPlan):
        return realise(problem, plan, real).latency_s
    met = with_tokens(problem, real)
    latency_s, served = evaluate_staged(met, plan).latency_s, served_so(met, plan.non_moe_memory_mb, plan.reload)
    for run in runs_of(plan):
        if not isinstance(run, BlocksStage):
            mine, layers = run_problem(served, run), plan_of_run(run)
            latency_s += realise_served(mine, layers).latency_s - evaluate(mine, layers).latency_s
    return latency_s


def realise_served(
    served: DeploymentProblem, plan: DeploymentPlan, overflow: BilledOverflow = "foreseen"
) -> Realised:
    """The same, of a problem whose tokens are the real ones."""
    try:
        parts = np.array([_layer(served, e, plan, overflow) for e in range(len(served.layers))])
    except InputError as error:  # not one token fits beside the parameters
        return Realised(np.inf, np.inf, np.inf, failed=str(error))
    gb_s, requests_usd, latency_s = parts.sum(axis=0).tolist()
    full = gb_s * served.platform.price_per_gb_s + requests_usd
    return Realised(gb_s, full, fixed_latency_s(served) + latency_s)


def _layer(
    served: DeploymentProblem, e: int, plan: DeploymentPlan, overflow: BilledOverflow
) -> tuple[float, float, float]:
    """GB-s, price of the requests and latency of layer e, which serves its problem's tokens."""
    planned, layer, platform = plan.layers[e], served.layers[e], served.platform
    reached = layer.tokens > 0
    if not reached.any():
        return 0.0, 0.0, 0.0
    planned_x = chosen(served, e, planned)
    x = replace(planned_x, replicas=replicas_that_fit(served, e, planned, layer.tokens))
    result = outcome(platform, layer, x, planned.communication, float(planned.minibatch_tokens or 1), even=True)
    gb_s, requests_usd, late_s = result.gb_s, result.requests_usd, np.zeros(len(reached))
    if overflow == "retry" and (x.replicas > planned_x.replicas).any():
        failed_s, input_s = _failed_call_s(served, layer, planned_x, planned.communication)
        failed_s, late_s = np.where(x.replicas > planned_x.replicas, (failed_s, failed_s + input_s), 0.0)
        gb_s = gb_s + cost_model.billed_gb_s(planned_x, failed_s)
        requests_usd = requests_usd + (failed_s > 0) * cost_model.requests_usd(platform, planned_x, 0)
    return float(gb_s.sum()), float(requests_usd.sum()), result.latency_s(reached, late_s)


def _failed_call_s(
    problem: DeploymentProblem, layer: ProblemLayer, x: Deployments, communication: Communication
) -> tuple[np.ndarray, np.ndarray]:
    """Billed time of a replica until it fails, 0 if it is refused, and how long its payload took before, s."""
    p = problem.platform
    head, r = cost_model.head_s(p, x), x.replica_tokens
    if communication == "pipelined":
        return head, np.zeros(len(head))
    if communication == "storage":
        return head + p.storage_delay_s + r * x.token_in_bytes / x.storage_bandwidth, np.zeros(len(head))
    refused = r * layer.token_in_bytes * p.payload_encoding_factor > p.payload_limit_bytes
    out_of_memory = needed_memory_bytes(layer, r) > x.memory_mb * MB
    computed = head + x.seconds_per_call + r * x.seconds_per_token
    failed_s = np.where(refused, 0.0, np.where(out_of_memory, head, computed))
    return failed_s, np.where(refused, 0.0, cost_model.payload_s(p, x))


@dataclass(frozen=True)
class Errors:
    """Where the plan did not foresee what a batch brought; arrays (layers, experts) bool.

    Attributes:
        memory, payload: these overflow.
        misprediction: neither, but more than alpha tokens off.
    """

    memory: np.ndarray
    payload: np.ndarray
    misprediction: np.ndarray

    @property
    def any(self) -> bool:
        """Whether there was any."""
        return bool((self.memory | self.payload | self.misprediction).any())

    def rho(self, rho_1: float, rho_2: float, rho_3: float) -> float:
        """rho': the largest of the errors seen, 0 without any."""
        cases = ((self.memory, rho_1), (self.payload, rho_2), (self.misprediction, rho_3))
        return max((rho for seen, rho in cases if seen.any()), default=0.0)


def errors(planned: DeploymentProblem, plan: DeploymentPlan, real: np.ndarray, alpha: float) -> Errors:
    """The three feedback cases of Alg. 2, of one batch.

    Args:
        planned: the problem with the popularity that was predicted.
        plan: made for it.
        real: tokens of each expert, shape (layers, experts).
        alpha: tokens of a replica.
    """
    memory, payload, off = [], [], []
    for layer, chosen_, tokens in zip(planned.layers, plan.layers, real, strict=True):
        r = tokens / chosen_.replicas
        memory.append((tokens > 0) & (needed_memory_bytes(layer, r) > chosen_.memory_mb * MB))
        too_large = payload_bytes(layer, planned.platform, r) > planned.platform.payload_limit_bytes
        payload.append(too_large & (chosen_.communication == "direct"))
        off.append(np.abs(layer.tokens / chosen_.replicas - r) > alpha)
    overflown = np.array(memory) | np.array(payload)
    return Errors(np.array(memory), np.array(payload), np.array(off) & ~overflown)
