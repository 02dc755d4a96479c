"""The ways to cut a model as a graph: each path from its first node to its last is a plan.

Before each layer there are, in this order, the nodes

- `left`: expert functions end here, and stages of blocks go on;
- `stored` by n lanes: hidden states lie in storage, an object a lane;
- `gate`: the gate of a layer of expert functions has the hidden states;
- `read` by n lanes: a stage of blocks of n lanes is going to download them; or `sent`: it gets them in payloads.

Stages of blocks lead from `read` or `sent` to `stored` or `sent`, layers of expert functions from `gate` to
`gate` or `left`. Costs and latencies of stages are those of `optimizer.stage_cost`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import get_args

import numpy as np

from optimizer.exact.paths import Graph
from optimizer.stage_cost import front_itself, stage_costs
from simulator.plan import DeploymentProblem
from simulator.stage_rules import input_handover, lane_sequences
from simulator.staged_plan import BlocksStage, blocks_of
from simulator.stages import Handover

HANDOVERS: tuple[Handover, ...] = get_args(Handover)


@dataclass(frozen=True)
class Nodes:
    """Numbers of the nodes of a model of so many layers, of stages of at most so many lanes."""

    layers: int
    lanes: int

    def at(self, cut: np.ndarray | int, place: np.ndarray | int) -> np.ndarray:
        """Place 0: `left`; n: `stored` by n; lanes + 1: `gate`; lanes + 1 + n: `read` by n; the last: `sent`."""
        return np.asarray(1 + np.asarray(cut) * (2 * self.lanes + 3) + place)

    def stored(self, cut: np.ndarray | int, n: np.ndarray | int) -> np.ndarray:
        """By n lanes."""
        return self.at(cut, n)

    def gate(self, cut: np.ndarray | int) -> np.ndarray:
        """Of the layer behind the cut."""
        return self.at(cut, self.lanes + 1)

    def read(self, cut: np.ndarray | int, n: np.ndarray | int) -> np.ndarray:
        """By n lanes."""
        return self.at(cut, self.lanes + 1 + np.asarray(n))

    def sent(self, cut: np.ndarray | int) -> np.ndarray:
        """In payloads."""
        return self.at(cut, 2 * self.lanes + 2)

    @property
    def last(self) -> int:
        """The end of every path."""
        return int(self.at(self.layers + 1, 0))

    @property
    def levels(self) -> np.ndarray:
        """Where each level begins."""
        places = np.array([0, 1, self.lanes + 1, self.lanes + 2])
        inner = self.at(np.arange(self.layers + 1)[:, None], places).ravel()
        return np.concatenate(([0], inner, [self.last]))


@dataclass(frozen=True)
class _Chunk:
    """Arcs of one kind; all of one shape, or to be broadcast to it."""

    tail: np.ndarray
    head: np.ndarray
    cost: np.ndarray | float = np.inf
    latency_s: np.ndarray | float = 0.0
    option: np.ndarray | int = -1


@dataclass(frozen=True)
class ShapeGraph:
    """A model's graph, in which nothing leads through expert functions yet.

    Attributes:
        graph: the arcs. nodes: their numbers.
        option: which stage of blocks an arc is, index in (arrives, leaves, pair, size, lanes); -1: none.
        first, end: layers of each pair, shape (pairs,). shape: of the options.
        enter: arcs to the gate of layer i: of the model's start (one) for the first, from `stored` by each n of
            the others, indices of shape (layers, lanes). leave: from `left` at cut i to `read` by n, (layers,
        lanes). onwards, outwards: of each layer of expert functions, whose next is another, or a stage of blocks.
        tail: from behind the last layer's expert functions to the end.
    """

    graph: Graph
    nodes: Nodes
    option: np.ndarray
    first: np.ndarray
    end: np.ndarray
    shape: tuple[int, ...]
    enter: np.ndarray
    leave: np.ndarray
    onwards: np.ndarray
    outwards: np.ndarray
    tail: int

    @property
    def has_blocks(self) -> bool:
        """Whether any stage of blocks fits its function."""
        return bool((self.option >= 0).any())

    def without_blocks(self) -> "ShapeGraph":
        """The same in which no stage of blocks may be."""
        cost = np.where(self.option >= 0, np.inf, self.graph.cost)
        return replace(self, graph=replace(self.graph, cost=cost), option=np.full_like(self.option, -1))

    def stage(self, problem: DeploymentProblem, arc: int) -> BlocksStage | None:
        """The stage of blocks that an arc is."""
        if self.option[arc] < 0:
            return None
        _, leaves, pair, j, n = np.unravel_index(self.option[arc], self.shape)
        return BlocksStage(
            first_layer=int(self.first[pair]),
            last_layer=int(self.end[pair]) - 1,
            memory_mb=blocks_of(problem).memory_mb[int(j)],
            lanes=int(n) + 1,
            handover=HANDOVERS[int(leaves)],
        )


def shape_graph(problem: DeploymentProblem, pairs: Sequence[tuple[int, int]] | None = None) -> ShapeGraph:
    """The graph of a problem with `blocks`; `pairs`: first and end of the layers of each stage of blocks; None:
    any."""
    blocks, layers = blocks_of(problem), len(problem.layers)
    lanes = np.arange(1, min(blocks.max_lanes, blocks.sequences) + 1)
    nodes = Nodes(layers, len(lanes))
    first, end = np.array(pairs or [(i, j) for i in range(layers) for j in range(i + 1, layers + 1)]).T
    shape = (len(HANDOVERS), len(HANDOVERS), len(first), len(blocks.memory_mb), len(lanes))
    chunks = [_stages(problem, nodes, first, end, lanes, a, b, shape) for a, b in product(range(2), range(2))]
    price, inner = problem.platform.price_per_get, np.arange(1, layers)[:, None]
    if input_handover(problem) == "payload":
        chunks.append(_Chunk(np.zeros(1, int), nodes.sent(0).reshape(1), 0.0))
    else:
        chunks.append(_Chunk(np.zeros(len(lanes), int), nodes.read(0, lanes), price * lanes))
    if len(first) > 1:
        n, m = (x.ravel() for x in np.meshgrid(lanes, lanes, indexing="ij"))
        gets = all_handover_gets(blocks.sequences, lanes).ravel()
        cost = np.broadcast_to(price * gets, (layers - 1, len(n)))
        chunks.append(_Chunk(nodes.stored(inner, n), nodes.read(inner, m), cost))
    # Nothing leads through expert functions until somebody says what they cost.
    experts = [
        _Chunk(np.zeros((1, len(lanes)), int), np.broadcast_to(nodes.gate(0), (1, len(lanes)))),
        _Chunk(nodes.stored(inner, lanes), np.broadcast_to(nodes.gate(inner), (layers - 1, len(lanes)))),
        _Chunk(np.broadcast_to(nodes.at(inner, 0), (layers - 1, len(lanes))), nodes.read(inner, lanes)),
        _Chunk(nodes.gate(np.arange(layers)), nodes.gate(np.arange(1, layers + 1))),
        _Chunk(nodes.gate(np.arange(layers - 1)), nodes.at(np.arange(1, layers), 0)),
        _Chunk(nodes.gate(layers).reshape(1), np.array([nodes.last])),
    ]
    every = np.arange(nodes.last)  # each node has an arc, if one that nobody takes
    chunks += [*experts, _Chunk(every, np.full(nodes.last, nodes.last))]
    columns = [
        np.concatenate([np.broadcast_to(getattr(x, name), x.tail.shape).ravel() for x in chunks])
        for name in ("tail", "head", "cost", "latency_s", "option")
    ]
    order = np.argsort(columns[0], kind="stable")
    tail, head, cost, latency, option = (column[order] for column in columns)
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    begins = np.cumsum([0, *(x.tail.size for x in chunks)])
    src, stored, leave, onwards, outwards, ending = (
        place[begins[k] : begins[k + 1]].reshape(chunks[k].tail.shape)
        for k in range(len(chunks) - len(experts) - 1, len(chunks) - 1)
    )
    return ShapeGraph(
        graph=Graph(tail, head, cost, latency, nodes.levels),
        nodes=nodes,
        option=option,
        first=first,
        end=end,
        shape=shape,
        enter=np.concatenate([src, stored]),
        leave=leave,
        onwards=onwards,
        outwards=outwards,
        tail=int(ending[0]),
    )


def all_handover_gets(sequences: int, lanes: np.ndarray) -> np.ndarray:
    """`simulator.stage_rules.handover_gets` of every two numbers of lanes, shape (lanes, lanes): an object is read
    for each piece that the ends of both sides' lanes cut."""
    ends = np.zeros((len(lanes), sequences + 1))
    for row, n in zip(ends, lanes.tolist(), strict=True):
        row[np.cumsum(lane_sequences(sequences, n))] = 1
    gets: np.ndarray = lanes[:, None] + lanes - ends @ ends.T
    return gets


def _stages(
    problem: DeploymentProblem,
    nodes: Nodes,
    first: np.ndarray,
    end: np.ndarray,
    lanes: np.ndarray,
    a: int,
    b: int,
    shape: tuple[int, ...],
) -> _Chunk:
    """Stages of blocks with one way in and one way out: of those from one node to another the undominated."""
    arrives, leaves = HANDOVERS[a], HANDOVERS[b]
    mine = np.flatnonzero((first > 0) | (arrives == input_handover(problem)))
    first, end = first[mine], end[mine]
    found = stage_costs(problem, first, end, lanes, arrives, leaves)
    is_last = (end == nodes.layers)[:, None, None]
    front_usd, front_s = front_itself(problem, leaves == "payload")
    cost = np.where(found.fits, found.total_usd + is_last * front_usd, np.inf)
    latency = found.latency_s + is_last * front_s
    tail = nodes.sent(first)[:, None] if arrives == "payload" else nodes.read(first[:, None], lanes)
    head = nodes.sent(end)[:, None] if leaves == "payload" else nodes.stored(end[:, None], lanes)
    head = np.where(is_last[:, :, 0], nodes.last, head)
    option = np.ravel_multi_index((a, b), shape[:2]) * int(np.prod(shape[2:])) + (
        mine[:, None, None] * (shape[3] * shape[4]) + np.arange(shape[3] * shape[4]).reshape(shape[3:])
    )
    kept = _undominated(cost, latency, together=arrives == "payload" and (leaves == "payload"))
    pair, _, n = np.nonzero(kept)

    def of(nodes_: np.ndarray) -> np.ndarray:
        taken: np.ndarray = np.broadcast_to(nodes_, (len(mine), len(lanes)))[pair, n]
        return taken

    return _Chunk(of(tail), of(head), cost[kept], latency[kept], option[kept])


def _undominated(cost: np.ndarray, latency: np.ndarray, together: bool) -> np.ndarray:
    """Which options (pairs, sizes, lanes) are beaten in both by no other size, or size and lanes together."""
    moved = [np.moveaxis(x, 1, 2) for x in (cost, latency)]  # sizes last
    c, t = (x.reshape(len(cost), -1) if together else x for x in moved)
    order = np.lexsort((c, t), axis=-1)
    c = np.take_along_axis(c, order, axis=-1)
    best = np.minimum.accumulate(c, axis=-1)
    better = np.isfinite(c)
    better[..., 1:] &= c[..., 1:] < best[..., :-1]
    kept = np.zeros_like(better)
    np.put_along_axis(kept, order, better, axis=-1)
    return np.moveaxis(kept.reshape(moved[0].shape), 2, 1)
