"""Layers of expert functions as arcs of a model's graph (`shape_graph`), for each memory that gates may have.

A layer's labels are searched as far as a path asks (`layer_ranges`). Seams between stages of blocks and runs of
expert functions are as in `optimizer.staged_evaluation`.
"""

from collections.abc import Iterable, Iterator, Sequence
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
from simulator.staged_plan import ExpertStage, Groups, Stage, grouped_layer

Searches: TypeAlias = dict[object, dict[int, LayerSearch]]
"""By B_s and loads of the gates and number of the grouping: the search of each layer that can be served so."""


Choices: TypeAlias = Sequence[Sequence[Groups | None]]
"""Of each layer the groupings of its experts; None: each has a function of its own."""


@dataclass
class ExpertArc:
    """A layer of expert functions: labels of its search, and what its non-MoE compute adds to each.

    Attributes:
        groups: of its experts.
        search: shared by alike layers. gate: its gate's bill.
        added, added_s: cost and latency on top. front_usd_per_s: what a second of latency costs besides.
    """

    groups: Groups | None
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


@dataclass
class GroupedArc:
    """A layer whose experts may be grouped in several ways: the labels of all."""

    parts: Sequence[ExpertArc]

    def least(self, price: float | None) -> float:
        """What any label comes to at least."""
        return min(part.least(price) for part in self.parts)

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """Cost and latency of the known labels."""
        cost, latency_s = zip(*(part.known() for part in self.parts), strict=True)
        return np.concatenate(cost), np.concatenate(latency_s)

    def refine(self, price: float | None, margin: float = 0.0) -> bool:
        """Search on where labels below the least known of all plus the margin may be."""
        best = np.array([_least_known(part, price) for part in self.parts])
        room = np.where(np.isfinite(best), best.min() - best, 0.0) + margin
        found = [part.refine(price, float(more)) for part, more in zip(self.parts, room, strict=True)]
        return any(found)


def _least_known(arc: ExpertArc, price: float | None) -> float:
    cost, latency_s = arc.known()
    return float((latency_s if price is None else cost + price * latency_s).min(initial=np.inf))


class Experts:
    """A model's graph with layers of expert functions, whose gates have one size.

    Attributes:
        graph: with the seams' costs. lazy: the layers, by arc. parts: of each arc its deployments by number of the
            grouping.
    """

    def __init__(
        self,
        problem: DeploymentProblem,
        setting: Setting,
        base: ShapeGraph,
        searches: Searches,
        choices: Choices,
    ) -> None:
        self.problem, self.base = problem, base
        self.graph = replace(base.graph, cost=base.graph.cost.copy(), latency_s=base.graph.latency_s.copy())
        arcs, self.graph.cost[arcs], self.graph.latency_s[arcs] = _seams(problem, setting, base)
        self.parts: dict[int, dict[int, ExpertArc]] = {}
        for number, variant, arcs_of in _variants(setting, base, choices):
            found = _searches(variant, searches, number)
            for e, arc in arcs_of.items():
                if e in found:
                    own, groups = _own(variant, e), choices[e][number]
                    found[e].charge(own[0])
                    made = ExpertArc(groups, found[e], *own, front_usd_per_s(problem))
                    self.parts.setdefault(arc, {})[number] = made
        self.lazy: dict[int, Lazy] = {
            arc: GroupedArc(list(mine.values())) if len(mine) > 1 else next(iter(mine.values()))
            for arc, mine in self.parts.items()
        }

    def stages(self, path: Path) -> tuple[Stage, ...]:
        """The stages along a path."""
        stages: list[Stage] = []
        for arc, label in zip(path.arcs, path.labels, strict=True):
            block = self.base.stage(self.problem, arc)
            if block is not None:
                stages.append(block)
            elif arc in self.parts and label is not None:
                e = stages[-1].last_layer + 1 if stages else 0
                stages.append(_stage(e, self.parts[arc].values(), label))
        return tuple(stages)


def _stage(e: int, parts: Iterable[ExpertArc], label: tuple[float, float]) -> ExpertStage:
    """The deployment of layer e that a label says, or one that dominates it and is known by now."""
    for part in parts:
        part.search.charge(part.gate)
        cost, latency = part.known()
        good = (cost <= label[0] * (1 + ROUNDING)) & (latency <= label[1] * (1 + ROUNDING))
        if good.any():
            found = layer_plan(part.search.options, part.search.known, int(np.argmax(good)))
            return ExpertStage(first_layer=e, last_layer=e, groups=part.groups, layer=found)
    raise AssertionError(f"layer {e}: no deployment is known of label {label}")


def bound_with_experts(
    problem: DeploymentProblem,
    settings: Sequence[Setting],
    base: ShapeGraph,
    searches: Searches,
    choices: Choices,
    price: float,
    limit_s: float,
) -> float:
    """What no plan with a layer of expert functions costs less than, whatever its gates' memory.

    Args:
        problem, settings: the problem, and with each memory of the gates. base: its graph.
        searches: filled with those of the fastest gates. choices: of groupings.
        price: of a second, which the bound is made with. limit_s: on the latency.
    """
    fastest = next((x for x in settings if all(y.no_faster_than(x) for y in settings)), None)
    if fastest is None:
        return -np.inf
    experts = Experts(problem, fastest, base, searches, choices)
    values: dict[int, float] = {}
    for setting in settings:
        arcs, cost, latency_s = _seams(problem, setting, base)
        value = cost + price * latency_s
        if setting is settings[0]:
            experts.graph.cost[arcs], experts.graph.latency_s[arcs] = value, 0.0
        experts.graph.cost[arcs] = np.minimum(experts.graph.cost[arcs], value)
        for number, variant, arcs_of in _variants(setting, base, choices):
            for e, arc in arcs_of.items():
                if (part := experts.parts.get(arc, {}).get(number)) is not None:
                    values[arc] = min(values.get(arc, np.inf), part.least_of(price, *_own(variant, e)))
    return Search(experts.graph, {}, limit_s).bound_through(values, price)


def _variants(
    setting: Setting, base: ShapeGraph, choices: Choices
) -> Iterator[tuple[int, DeploymentProblem, dict[int, int]]]:
    """The problem whose layers go on to another of expert functions, and the one whose results are collected by a
    function that loads nothing, for a stage of blocks, both with each number of the groupings; and the arcs of
    layers that have so many."""
    settled = setting.problem
    start_s = settled.platform.warm_start_s
    collected = tuple(layer.model_copy(update={"next_load_s": start_s}) for layer in settled.layers)
    for layers, arcs in ((settled.layers, base.onwards), (collected, base.outwards)):
        for number in range(max(map(len, choices))):
            grouped = tuple(
                layer if number >= len(mine) or (groups := mine[number]) is None else grouped_layer(layer, groups)
                for layer, mine in zip(layers, choices, strict=True)
            )
            variant = settled.model_copy(update={"layers": grouped})
            yield number, variant, {e: arc for e, arc in enumerate(arcs.tolist()) if number < len(choices[e])}


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


def _searches(problem: DeploymentProblem, known: Searches, number: int) -> dict[int, LayerSearch]:
    """The search of each layer that expert functions can serve; alike layers share theirs, as do problems with the
    same B_s, loads and number of the grouping."""
    loads = tuple(load_s(problem.platform, layer.next_load_s) for layer in problem.layers)
    key = problem.platform.gate_bandwidth, loads, number
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
