"""Layers of expert functions as arcs of a model's graph (`shape_graph`), for each memory that gates may have.

A layer's labels are searched as far as a path asks (`layer_ranges`). Seams between stages of blocks and runs of
expert functions are as in `optimizer.staged_evaluation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from moe.errors import InputError
from optimizer.cost_model import GateBill, load_s, start_requests_usd, usd_per_s
from optimizer.evaluation import ROUNDING, counted_gate
from optimizer.exact.layer_fronts import LayerOptions, alike_layers
from optimizer.exact.layer_plan import layer_plan
from optimizer.exact.layer_ranges import LayerSearch
from optimizer.exact.paths import Lazy, Path, Search
from optimizer.exact.shape_graph import ShapeGraph
from optimizer.exact.solve import PREFERRED
from optimizer.exact.whole_bill import Setting
from optimizer.stage_cost import front_usd_per_s
from simulator.plan import DeploymentProblem
from simulator.staged_plan import ExpertStage, Stage

Searches: TypeAlias = dict[object, dict[int, LayerSearch]]
"""By B_s and loads of the gates: the search of each layer that expert functions can serve."""


@dataclass
class ExpertArc:
    """A layer of expert functions: labels of its search, and what its non-MoE compute adds to each.

    Attributes:
        search: shared by alike layers. gate: its gate's bill.
        added, added_s: cost and latency on top. front_usd_per_s: what a second of latency costs besides.
    """

    search: LayerSearch
    gate: GateBill
    added: float
    added_s: float
    front_usd_per_s: float

    def least(self, price: float | None) -> float:
        """What any label comes to at least."""
        if price is None:
            return self.search.least(None) + self.added_s
        per_s = price + self.front_usd_per_s
        return self.search.least(per_s) + self.added + per_s * self.added_s

    def least_of(self, price: float, gate: GateBill, added: float, added_s: float) -> float:
        """The same with another gate, no faster than its own."""
        per_s = price + self.front_usd_per_s
        return self.search.least_of(per_s, gate, (0.0, 0.0)) + added + per_s * added_s

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """Cost and latency of the known labels."""
        cost, latency = self.search.known.pair()
        total_s = latency + self.added_s
        return cost + self.added + self.front_usd_per_s * total_s, total_s

    def refine(self, price: float | None, margin: float = 0.0) -> bool:
        """Search on where labels below the least known plus the margin may be."""
        return self.search.refine(None if price is None else price + self.front_usd_per_s, margin)


class Experts:
    """A model's graph with layers of expert functions, whose gates have one size.

    Attributes:
        graph: with the seams' costs. lazy: the layers, by arc.
    """

    def __init__(self, problem: DeploymentProblem, setting: Setting, base: ShapeGraph, searches: Searches) -> None:
        self.problem, self.base = problem, base
        self.graph = replace(base.graph, cost=base.graph.cost.copy(), latency_s=base.graph.latency_s.copy())
        arcs, self.graph.cost[arcs], self.graph.latency_s[arcs] = _seams(problem, setting, base)
        self.lazy: dict[int, Lazy] = {}
        for variant, layers in _variants(setting, base):
            found = _searches(variant, searches)
            for e, arc in enumerate(layers.tolist()):
                if e in found:
                    gate, added, added_s = _own(variant, e)
                    found[e].charge(gate)
                    self.lazy[arc] = ExpertArc(found[e], gate, added, added_s, front_usd_per_s(problem))

    def stages(self, path: Path) -> tuple[Stage, ...]:
        """The stages along a path."""
        stages: list[Stage] = []
        for arc, label in zip(path.arcs, path.labels, strict=True):
            block, lazy = self.base.stage(self.problem, arc), self.lazy.get(arc)
            if block is not None:
                stages.append(block)
            elif isinstance(lazy, ExpertArc) and label is not None:
                e = stages[-1].last_layer + 1 if stages else 0
                # By now a label may be known that dominates it.
                lazy.search.charge(lazy.gate)
                cost, latency = lazy.known()
                k = np.argmax((cost <= label[0] * (1 + ROUNDING)) & (latency <= label[1] * (1 + ROUNDING)))
                found = layer_plan(lazy.search.options, lazy.search.known, int(k))
                stages.append(ExpertStage(first_layer=e, last_layer=e, layer=found))
        return tuple(stages)


def bound_with_experts(
    problem: DeploymentProblem,
    settings: Sequence[Setting],
    base: ShapeGraph,
    searches: Searches,
    price: float,
    limit_s: float,
) -> float:
    """What no plan with a layer of expert functions costs less than, whatever its gates' memory.

    Args:
        problem, settings: the problem, and with each memory of the gates. base: its graph.
        searches: filled with those of the fastest gates.
        price: of a second, which the bound is made with. limit_s: on the latency.
    """
    fastest = next((x for x in settings if all(y.no_faster_than(x) for y in settings)), None)
    if fastest is None:
        return -np.inf
    experts = Experts(problem, fastest, base, searches)
    values: dict[int, float] = {}
    for setting in settings:
        arcs, cost, latency_s = _seams(problem, setting, base)
        value = cost + price * latency_s
        if setting is settings[0]:
            experts.graph.cost[arcs], experts.graph.latency_s[arcs] = value, 0.0
        experts.graph.cost[arcs] = np.minimum(experts.graph.cost[arcs], value)
        for variant, layers in _variants(setting, base):
            for e, arc in enumerate(layers.tolist()):
                if isinstance(lazy := experts.lazy.get(arc), ExpertArc):
                    values[arc] = min(values.get(arc, np.inf), lazy.least_of(price, *_own(variant, e)))
    return Search(experts.graph, {}, limit_s).bound_through(values, price)


def _variants(setting: Setting, base: ShapeGraph) -> tuple[tuple[DeploymentProblem, np.ndarray], ...]:
    """The problem whose layers go on to another of expert functions, and the one whose results are collected by a
    function that loads nothing, for a stage of blocks; and the arcs of each."""
    settled = setting.problem
    start_s = settled.platform.warm_start_s
    collected = tuple(layer.model_copy(update={"next_load_s": start_s}) for layer in settled.layers)
    return (settled, base.onwards), (settled.model_copy(update={"layers": collected}), base.outwards)


def _own(problem: DeploymentProblem, e: int) -> tuple[GateBill, float, float]:
    """Of layer e its gate's bill, and cost and latency of its non-MoE compute."""
    compute_s = problem.layers[e].non_moe_s
    return counted_gate(problem, e), usd_per_s(problem, e) * compute_s, compute_s


def _seams(
    problem: DeploymentProblem, setting: Setting, base: ShapeGraph
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What begins and ends runs of expert functions, arcs with cost and latency: the first gate loads, and
    downloads what lanes stored; who collects the last results uploads them for each lane behind."""
    settled, p = setting.problem, setting.problem.platform
    layers, lanes = len(settled.layers), np.arange(1, base.nodes.lanes + 1)
    found: list[tuple[np.ndarray, np.ndarray | float, float]] = []
    for i in range(layers):
        load = settled.layers[i - 1].next_load_s if i else settled.head_s
        starts_s = load_s(p, load)
        cost = usd_per_s(settled, i) * starts_s + start_requests_usd(p, load)
        if not i:
            found.append((base.enter[0, :1], cost, starts_s))
            continue
        moved_s = p.storage_delay_s + settled.served_tokens * settled.layers[i].token_in_bytes / p.gate_bandwidth
        into = cost + usd_per_s(settled, i) * moved_s + lanes * p.price_per_get
        out = usd_per_s(settled, i - 1) * moved_s + lanes * (p.price_per_put + p.price_per_get)
        found += [(base.enter[i], into, starts_s + moved_s), (base.leave[i - 1], out, moved_s)]
    found.append((np.array([base.tail]), usd_per_s(settled, layers) * settled.tail_s, settled.tail_s))
    arcs, usd, seconds = (np.concatenate([np.broadcast_to(x[k], x[0].shape) for x in found]) for k in range(3))
    return arcs, usd + front_usd_per_s(problem) * seconds, seconds


def _searches(problem: DeploymentProblem, known: Searches) -> dict[int, LayerSearch]:
    """The search of each layer that expert functions can serve; alike layers share theirs, as do problems with the
    same B_s and loads."""
    loads = tuple(load_s(problem.platform, layer.next_load_s) for layer in problem.layers)
    key = problem.platform.gate_bandwidth, loads
    if key not in known:
        first_like = alike_layers(problem)
        mine: dict[int, LayerSearch] = {}
        for e in sorted(set(first_like)):
            try:
                options = LayerOptions(problem, e)
            except InputError:  # an expert fits no function, but blocks may
                continue
            usable = [method for method in PREFERRED if options.can_use(method)]
            if usable:
                mine[e] = LayerSearch(options, usable)
        known[key] = {e: mine[like] for e, like in enumerate(first_like) if like in mine}
    return known[key]
