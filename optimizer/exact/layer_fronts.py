"""The exact front (cost, latency) of one MoE layer: every deployment of it that none beats in both.

Given the method, and the minibatch size (`pipelined`) or the slowest payload (`direct`), the experts of a layer
meet only in the slowest of them. So the finish time is swept: at each, every expert takes its cheapest
deployment that is done by then. One such sweep is a *row*; all rows of a layer are swept at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe.errors import InputError
from optimizer import cost_model
from optimizer.cost_model import GateBill, Outcome
from optimizer.evaluation import counted_gate
from optimizer.exact.candidates import Candidates, Window
from optimizer.exact.knapsack import Front, undominated
from optimizer.exact.least_cost_by_time import sweep
from simulator.plan import (
    COMMUNICATIONS,
    MB,
    Communication,
    DeploymentProblem,
    needed_memory_bytes,
)

BLOCK = 16_000
"""Deployments listed at a time: arrays of less than 128 KiB stay in a processor's cache, and allocators reuse
their memory instead of asking the system for it anew."""

DIRECT = COMMUNICATIONS.index("direct")

SAME = 1 + 1e-13
"""The same number, computed for one row or for many, may differ by rounding."""


@dataclass(frozen=True)
class LayerFront:
    """Labels of one layer by rising latency, and how to deploy each; arrays of shape (labels,).

    Attributes:
        cost: in the objective's unit, falling; the gate's bill is in it or not.
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

    def with_gate(self, gate: GateBill) -> "LayerFront":
        """The front with the gate's bill in the cost; of labels with one method, or with several."""
        added = np.where(self.method == DIRECT, gate.usd("direct", self.latency_s), gate.exchange_usd)
        found = replace(self, cost=self.cost + added)
        return found.take(undominated(*found.pair()))

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
        self.gate = counted_gate(problem, e)
        self._rows: dict[Communication, np.ndarray] = {}
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
        self.listed_as = {i: representatives.index(first[kind]) for i, kind in kind_of.items()}
        self.count = np.bincount(list(self.listed_as.values()))
        kinds = [self.layer.experts[i] for i in representatives]
        self.listed = self.layer.model_copy(update={"experts": tuple(kinds)})
        self.every = Candidates.every(problem.platform, self.listed, self.count)

    def size(self, window: Window) -> int:
        """Deployments in a window."""
        return self.every.size if window.place is None else len(window.place)

    def candidates(self, window: Window | None) -> Candidates:
        """The deployments in a window; all without one."""
        return self.every if window is None or window.place is None else self.every.take(window.place)

    def can_use(self, communication: Communication) -> bool:
        """Whether there is a deployment of the layer with this method."""
        return not self.reached or len(self.rows(communication)) > 0

    def rows(self, communication: Communication) -> np.ndarray:
        """What is fixed in each sweep: minibatch sizes, largest payloads in tokens, or nothing (one 0)."""
        if communication not in self._rows:
            self._rows[communication] = self._listed_rows(communication)
        return self._rows[communication]

    def _listed_rows(self, communication: Communication) -> np.ndarray:
        if communication == "storage":
            return np.zeros(1)
        if communication == "direct":
            least = np.where(self.every.payload_fits, self.every.r, np.inf).min(axis=(1, 2)).max()
            r = np.unique(self.every.r)
            return r[r >= least]
        return minibatch_breakpoints(self.every.r)

    def labels(
        self,
        communication: Communication,
        rows: np.ndarray,
        window: Window | None = None,
        witness: int | None = None,
    ) -> LayerFront:
        """The experts' labels of some rows, the dominated ones among them; the gate's bill is not in their cost.

        Args:
            communication: the method.
            rows: shape (rows,).
            window: deployments and labels to look at; all by default.
            witness: an expert held to replicas of more than beta - 1 tokens, as Eq. 12e asks of one. Where
                each layer has its own beta none is needed: one that is too large is never optimal.
        """
        at, cost, latency, finish = self.points(communication, rows, rows, window, witness)
        method = np.full(len(at), COMMUNICATIONS.index(communication))
        return LayerFront(cost, latency, method, rows[at], finish)

    def points(
        self,
        communication: Communication,
        low: np.ndarray,
        high: np.ndarray,
        window: Window | None = None,
        witness: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Every label of ranges of rows; of a range of more than one, labels that bound it: for each label of a
        row in the range there is one that is neither dearer nor slower.

        Args:
            communication: the method.
            low, high: first and last row of each range, shape (ranges,).
            window, witness: as in `labels`.

        Returns:
            index of the range, cost, latency, finish time of each label; by range, then rising finish time.
        """
        among = self.candidates(window)
        result, allowed = self.outcomes(communication, low, high, among)
        if witness is not None:
            allowed = allowed.copy()
            allowed[:, witness] &= np.ceil(among.r[witness]) >= low.reshape(-1, 1, 1)
        at, finish, total = sweep(
            np.where(allowed, result.finish_s, np.inf).reshape(len(low), -1),
            np.where(allowed, result.objective(self.problem) * among.count, np.inf).reshape(len(low), -1),
            among.begin,
            window.from_s if window else 0.0,
        )
        latency = np.maximum(result.floor_s, finish) + result.rest_s
        if communication == "direct":
            per_token = self.layer.token_in_bytes / self.problem.platform.direct_bandwidth_bytes_per_s
            latency = latency + low[at] * per_token
        return at, total, latency, finish

    def useful(
        self,
        communication: Communication,
        low: float,
        high: float,
        window: Window,
        from_s: float,
        until_s: float = np.inf,
    ) -> np.ndarray:
        """Which deployments of a window can be of use in rows from low to high when experts may take until
        `from_s`, and those that are surely done after `until_s` are of none: indices in the flat order of all.

        No label is done before the slowest expert's earliest bound. A deployment that costs more than another of
        its expert, which is surely done by then or by `from_s`, is of no use.
        """
        among = self.candidates(window)
        first, last = np.array([low]), np.array([high])
        least, allowed = self.outcomes(communication, first, last, among)
        most, surely = self.outcomes(communication, last, first, among)
        finish = np.where(allowed, least.finish_s, np.inf).ravel()
        start = max(from_s, np.minimum.reduceat(finish, among.begin).max())
        dearest = np.where(surely & (most.finish_s <= start), most.objective(self.problem), np.inf).ravel()
        enough = np.minimum.reduceat(dearest, among.begin) * SAME
        cost = np.broadcast_to(least.objective(self.problem), allowed.shape).ravel()
        expert = np.searchsorted(among.begin, np.arange(among.size), side="right") - 1
        kept = np.flatnonzero((finish <= max(until_s, start)) & allowed.ravel() & (cost <= enough[expert]))
        return kept.astype(np.int32) if window.place is None else window.place[kept]

    def outcomes(
        self, communication: Communication, row: np.ndarray, other: np.ndarray, among: Candidates
    ) -> tuple[Outcome, np.ndarray]:
        """Outcomes in ranges of rows (bounds where a range has more than one: lower ones where `row` is the
        smaller end, upper ones where it is the larger), and which deployments are allowed in some row (in all),
        shape (ranges, *among.shape)."""
        one, end = (x.reshape(-1, *(1,) * len(among.shape)) for x in (row, other))
        platform, layer = self.problem.platform, self.layer
        allowed = among.fits
        if communication == "pipelined":
            other_beta = None if np.array_equal(row, other) else end
            result = cost_model.outcome(platform, layer, among.x, communication, one, other_beta)
        else:
            result = cost_model.outcome(platform, layer, among.x, communication)
        if communication == "direct":
            allowed = among.payload_fits & (among.r <= end)
        return result, np.broadcast_to(allowed, (len(row), *among.shape))


def alike_layers(problem: DeploymentProblem) -> list[int]:
    """For each layer the first one that is like it: sizes, tokens, times and, where it counts, the gate's bill."""
    kinds: dict[object, int] = {}
    found = []
    for e, layer in enumerate(problem.layers):
        found.append(kinds.setdefault((layer, counted_gate(problem, e)), e))
    return found


def listed_options(problem: DeploymentProblem) -> dict[int, LayerOptions]:
    """The options of the layers, by the first of those that are alike. InputError where an expert does not fit."""
    return {e: LayerOptions(problem, e) for e in sorted(set(alike_layers(problem)))}


def minibatch_breakpoints(replica_tokens: np.ndarray) -> np.ndarray:
    """The minibatch sizes that can be optimal: where some replica's number of minibatches changes, ceil(r/n).

    Between two of them the smaller costs less and is faster.

    Args:
        replica_tokens: r of any replicas, any shape.
    """
    every = np.unique(replica_tokens)
    # Every size up to sqrt(r) is ceil(r/n) of some n, and the larger ones are those of n up to sqrt(r).
    until = np.ceil(np.sqrt(every))
    small = np.arange(1, until.max(initial=0) + 1)
    large = [np.unique(np.ceil(every[until >= n] / n)) for n in small]
    return np.unique(np.concatenate([np.ones(1), small, *large]))


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
