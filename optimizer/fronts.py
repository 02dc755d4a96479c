"""The exact front (cost, latency) of one MoE layer: every deployment of it that none beats in both.

Given the method, and the minibatch size (`pipelined`) or the slowest payload (`direct`), the experts of a layer
meet only in the slowest of them. So the finish time is swept: at each, every expert takes its cheapest
deployment that is done by then. One such sweep is a *row*; all rows of a layer are swept at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moe.errors import InputError
from optimizer import cost_model
from optimizer.cost_model import Deployments, Outcome
from optimizer.knapsack import Front, undominated
from simulator.plan import (
    COMMUNICATIONS,
    MB,
    Communication,
    DeploymentProblem,
    ExpertPlan,
    LayerPlan,
    needed_memory_bytes,
    payload_bytes,
)

BLOCK = 16_000
"""Deployments listed at a time: arrays of less than 128 KiB stay in a processor's cache, and allocators reuse
their memory instead of asking the system for it anew."""

SAME = 1 + 1e-13
"""The same number, computed for one row or for many, may differ by rounding."""


@dataclass(frozen=True)
class LayerFront:
    """Labels of one layer by rising latency, and how to deploy each; arrays of shape (labels,).

    Attributes:
        cost: in the objective's unit, falling.
        latency_s: of the layer, rising.
        method: index in COMMUNICATIONS.
        row: minibatch size (`pipelined`), largest r of a replica (`direct`), or 0.
        finish_s: by when every expert is done; each takes its cheapest deployment that is.
    """

    cost: np.ndarray
    latency_s: np.ndarray
    method: np.ndarray
    row: np.ndarray
    finish_s: np.ndarray

    def pair(self) -> Front:
        """Cost and latency alone."""
        return self.cost, self.latency_s

    def __len__(self) -> int:
        return len(self.cost)

    def take(self, labels: np.ndarray) -> "LayerFront":
        """Some of the labels."""
        return LayerFront(*(column[labels] for column in self._columns()))

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.cost, self.latency_s, self.method, self.row, self.finish_s

    @staticmethod
    def empty() -> "LayerFront":
        """No label at all."""
        none = np.zeros(0)
        return LayerFront(none, none, np.zeros(0, int), none, none)

    @staticmethod
    def concatenated(parts: Sequence["LayerFront"]) -> "LayerFront":
        """Labels of one layer together, the dominated ones among them."""
        columns = zip(*(part._columns() for part in parts), strict=True)
        return LayerFront(*(np.concatenate(column) for column in columns))

    @staticmethod
    def joined(parts: Sequence["LayerFront"]) -> "LayerFront":
        """The front of several sets of labels of one layer; of equal labels the first is kept."""
        every = LayerFront.concatenated(parts)
        return every.take(undominated(every.cost, every.latency_s))


class LayerOptions:
    """All deployments of the experts of one layer that tokens reach, and the layer's fronts by method.

    Experts that are alike (tokens and sizes) are listed once, with their count, unless `merge_alike` is off.
    """

    def __init__(self, problem: DeploymentProblem, e: int, merge_alike: bool = True) -> None:
        """Raises InputError where an expert of layer e fits no memory size at any replica count."""
        self.problem, self.e = problem, e
        self.layer = problem.layers[e]
        check_experts_fit(problem, e)
        reached = [i for i, expert in enumerate(self.layer.experts) if expert.tokens > 0]
        self.reached = bool(reached)
        if not reached:
            self.count = np.zeros(0, int)
            return
        kind_of = {i: self.layer.experts[i] if merge_alike else i for i in reached}
        first = {kind: i for i, kind in reversed(kind_of.items())}
        representatives = sorted(first.values())
        # Of each expert that tokens reach, which of the listed ones stands for it.
        self._listed_as = {i: representatives.index(first[kind]) for i, kind in kind_of.items()}
        self.count = np.bincount(list(self._listed_as.values()))
        kinds = [self.layer.experts[i] for i in representatives]
        self._part = self.layer.model_copy(update={"experts": tuple(kinds)})
        self.x: Deployments = cost_model.all_deployments(problem.platform, self._part)
        self._r = np.broadcast_to(self.x.replica_tokens, (len(kinds), 1, problem.platform.max_replicas))
        self._fits = needed_memory_bytes(self._part, self._r) <= self.x.memory_mb * MB
        payload = payload_bytes(self._part, problem.platform, self._r)
        self._payload_fits = self._fits & (payload <= problem.platform.payload_limit_bytes)

    def front(self, communication: Communication) -> LayerFront:
        """The layer's front with one method; without labels where the method cannot be used."""
        method = COMMUNICATIONS.index(communication)
        if not self.reached:
            return LayerFront(np.zeros(1), np.zeros(1), np.array([method]), np.zeros(1), np.zeros(1))
        rows = self.rows(communication)
        per_block = max(1, BLOCK // self._fits.size)
        found = [self.labels(communication, rows[k : k + per_block]) for k in range(0, len(rows), per_block)]
        return LayerFront.joined([LayerFront.empty(), *found])

    def rows(self, communication: Communication) -> np.ndarray:
        """What is fixed in each sweep: minibatch sizes, largest payloads in tokens, or nothing (one 0)."""
        if communication == "storage":
            return np.zeros(1)
        if communication == "direct":
            least = np.where(self._payload_fits, self._r, np.inf).min(axis=(1, 2)).max()
            r = np.unique(self._r)
            return r[r >= least]
        return minibatch_breakpoints(self._r)

    def labels(self, communication: Communication, rows: np.ndarray, witness: int | None = None) -> LayerFront:
        """The labels of some rows, the dominated ones among them.

        Args:
            communication: the method.
            rows: shape (rows,).
            witness: an expert held to replicas of more than beta - 1 tokens, as Eq. 12e asks of one. Where
                each layer has its own beta none is needed: one that is too large is never optimal.
        """
        result, allowed = self._outcomes(communication, rows)
        if witness is not None:
            allowed = allowed.copy()
            allowed[:, witness] &= np.ceil(self._r[witness]) >= rows.reshape(-1, 1, 1)
        cost = result.objective(self.problem) * self.count.reshape(-1, 1, 1)
        shape = (len(rows), len(self.count), -1)
        row, finish, total = _sweep(
            np.where(allowed, result.finish_s, np.inf).reshape(shape),
            np.where(allowed, cost, np.inf).reshape(shape),
        )
        latency = np.maximum(result.floor_s, finish) + result.rest_s
        if communication == "direct":
            per_token = self.layer.token_in_bytes / self.problem.platform.direct_bandwidth_bytes_per_s
            latency = latency + rows[row] * per_token
        method = np.full(len(row), COMMUNICATIONS.index(communication))
        return LayerFront(total, latency, method, rows[row], finish)

    def plan(self, front: LayerFront, label: int, hold_beta: bool = False) -> LayerPlan:
        """The deployment behind a label; of equally cheap deployments the smallest memory, then the fewest
        replicas.

        Args:
            front: of this layer.
            label: index in the front.
            hold_beta: keep the label's minibatch size (it is another layer's as well), and Eq. 12e with it;
                otherwise take the least that gives the same minibatches.
        """
        communication = COMMUNICATIONS[int(front.method[label])]
        if not self.reached:
            idle = [idle_expert(self.problem, self.e, i) for i in range(len(self.layer.experts))]
            return LayerPlan(communication="storage", experts=tuple(idle))
        result, allowed = self._outcomes(communication, front.row[label : label + 1])
        in_time = allowed & (result.finish_s <= front.finish_s[label] * SAME)
        cost = np.where(in_time, result.objective(self.problem), np.inf)
        cost = np.broadcast_to(cost, in_time.shape).reshape(len(self.count), -1)
        best = cost.argmin(axis=1)
        beta: int | None = None
        if communication == "pipelined":
            beta = int(front.row[label])
            if hold_beta:
                best = self._with_witness(best, cost, beta)
            else:
                r = self._replica_tokens(best)
                beta = int(np.ceil(r / np.ceil(r / beta)).max())
        sizes, counts = self.problem.platform.memory_mb, self.problem.platform.max_replicas
        listed = [ExpertPlan(memory_mb=sizes[k // counts], replicas=int(1 + k % counts)) for k in best]
        experts = tuple(
            listed[self._listed_as[i]] if i in self._listed_as else idle_expert(self.problem, self.e, i)
            for i in range(len(self.layer.experts))
        )
        return LayerPlan(communication=communication, minibatch_tokens=beta, experts=experts)

    def _replica_tokens(self, deployment: np.ndarray) -> np.ndarray:
        """r of each expert deployed as its `deployment`, an index in (sizes, replicas)."""
        return self._part.tokens / (1 + deployment % self.problem.platform.max_replicas)

    def _with_witness(self, best: np.ndarray, cost: np.ndarray, beta: int) -> np.ndarray:
        """The cheapest deployments of which one has replicas of more than beta - 1 tokens (Eq. 12e).

        Args:
            best: the cheapest deployment of each expert, (experts,).
            cost: of every deployment, inf where not allowed, (experts, deployments).
            beta: the minibatch size.
        """
        if np.ceil(self._replica_tokens(best)).max() >= beta:
            return best
        r = np.broadcast_to(np.ceil(self._r), self._fits.shape).reshape(cost.shape)
        large = np.where(r >= beta, cost, np.inf)
        w = int((large.min(axis=1) - cost.min(axis=1)).argmin())
        return np.where(np.arange(len(best)) == w, large.argmin(axis=1), best)

    def _outcomes(self, communication: Communication, rows: np.ndarray) -> tuple[Outcome, np.ndarray]:
        """Outcomes of all deployments, and which are allowed, (rows, experts, sizes, replicas)."""
        column = rows.reshape(-1, 1, 1, 1)
        beta = column if communication == "pipelined" else 1.0
        result = cost_model.outcome(self.problem.platform, self.layer, self.x, communication, beta)
        allowed = self._fits
        if communication == "direct":
            allowed = self._payload_fits & (self._r <= column)
        return result, np.broadcast_to(allowed, (len(rows), *self._fits.shape))


def minibatch_breakpoints(replica_tokens: np.ndarray) -> np.ndarray:
    """The minibatch sizes that can be optimal: where some replica's number of minibatches changes, ceil(r/n).

    Between two of them the smaller costs less and is faster.

    Args:
        replica_tokens: r of any replicas, any shape.
    """
    sizes = [np.ones(1)]
    for r in np.unique(replica_tokens):
        # Every size up to sqrt(r) is ceil(r/n) of some n, and the larger ones are those of n up to sqrt(r).
        small = np.arange(1, np.ceil(np.sqrt(r)) + 1)
        sizes += [small, np.ceil(r / small)]
    return np.unique(np.concatenate(sizes))


def check_experts_fit(problem: DeploymentProblem, e: int) -> None:
    """Raise InputError where an expert of layer e fits no memory size at any replica count (Eq. 12c)."""
    largest = problem.platform.memory_mb[-1]
    layer = problem.layers[e]
    needed = needed_memory_bytes(layer, layer.tokens / problem.platform.max_replicas) / MB
    for i in np.flatnonzero(needed > largest):
        raise InputError(
            f"layers.{e}.experts.{i}: needs {needed[i]:.0f} MB with {problem.platform.max_replicas} replicas, "
            f"the largest of platform.memory_mb is {largest}"
        )


def idle_expert(problem: DeploymentProblem, e: int, i: int) -> ExpertPlan:
    """The deployment of an expert that no token reaches: the smallest memory that holds it, one replica."""
    layer = problem.layers[e]
    needed = needed_memory_bytes(layer, np.zeros(len(layer.experts)))[i]
    sizes = problem.platform.memory_mb
    return ExpertPlan(memory_mb=next((m for m in sizes if m * MB >= needed), sizes[-1]), replicas=1)


def _sweep(finish: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row, the least summed cost at every finish time at which it falls.

    Args:
        finish, cost: of each deployment, shape (rows, experts, deployments); inf where not allowed.

    Returns:
        row, finish time and summed cost of each point.
    """
    possible = np.flatnonzero(np.isfinite(finish.min(axis=2).max(axis=1)))
    if len(possible) < len(finish):
        finish, cost = finish[possible], cost[possible]
    rows, experts, deployments = finish.shape
    # `order` holds flat indices: taking by them is several times faster than take_along_axis.
    order = np.argsort(finish, axis=2)
    order += np.arange(0, finish.size, deployments).reshape(rows, experts, 1)
    finish = finish.take(order)
    best = np.minimum.accumulate(cost.take(order), axis=2)
    # A row starts when its slowest expert can be done; what the others can do by then is its first point.
    start = finish[:, :, 0].max(axis=1)
    late = finish > start[:, None, None]
    by_start = (~late).sum(axis=2, keepdims=True) - 1
    first = np.take_along_axis(best, by_start, axis=2)[:, :, 0].sum(axis=1)
    # From there on, whenever an expert's next cheaper deployment is done, the sum falls by the difference.
    cheaper = late
    cheaper[:, :, 1:] &= best[:, :, 1:] < best[:, :, :-1]
    event = np.flatnonzero(cheaper)
    row, when = event // (experts * deployments), finish.take(event)
    saving = best.take(event - 1) - best.take(event)
    order = np.lexsort((when, row))
    row, when = row[order], when[order]
    saved = np.concatenate(([0.0], np.cumsum(saving[order])))
    total = first[row] - (saved[1:] - saved[np.searchsorted(row, np.arange(rows))][row])
    row = np.concatenate((np.arange(rows), row))
    return possible[row], np.concatenate((start, when)), np.concatenate((first, total))
