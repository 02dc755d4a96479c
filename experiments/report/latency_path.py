"""Where a batch's latency goes: along the path through the slowest expert of each layer, by phase."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from simulator.records import PHASES, Record

OTHER = "other"  # invocations, responses, and waiting for them
# Of phases that go on at the same time the first counts: the work, then what it waits for.
ORDER = (
    *("compute", "input_download", "upload", "hand_on", "gather"),
    *("parameter_download", "init", "provisioning", "queue"),
)


def latency_by_phase(records: Sequence[Record]) -> dict[str, float] | None:
    """Seconds of each phase on the way of one batch, which add up to its latency; None where a call failed.

    The way: the head until it has computed; then for each MoE layer the gate's upload, the phases of the replica
    that ended last, with `direct` the gate's handing on of the results, and those of the next non-MoE function
    until that has computed; and so on to the end of the tail.
    """
    rows = [row for row in records if row.step == 0 and row.status == "ok"]
    gates = {row.layer: row for row in rows if row.role == "non-moe"}
    order = sorted(gates)
    if not order or any("compute" not in gates[layer].phases for layer in order):
        return None
    seconds = dict.fromkeys((*PHASES, OTHER), 0.0)
    here = gates[order[0]].requested_s
    for place, layer in enumerate(order):
        gate = gates[layer]
        start, end = gate.phases["compute"]
        experts = [row for row in rows if row.role == "expert" and row.layer == layer - 1] if place else []
        slowest = max(experts, key=lambda row: row.ended_s, default=None)
        ways = [(gate, here if slowest is None else slowest.ended_s)]
        if slowest is not None:
            ways += [(slowest, here), (gates[order[place - 1]], here)]
        _add(seconds, here, start, ways)
        seconds["compute"] += end - start
        here = end
    _add(seconds, here, gates[order[-1]].ended_s, [(gates[order[-1]], here)])
    return seconds


def _add(seconds: dict[str, float], start_s: float, end_s: float, ways: Sequence[tuple[Record, float]]) -> None:
    """Divide a span of time among what the rows did in it, each from its time on."""
    spans = [
        (name, max(row.phases[name][0], from_s), row.phases[name][1])
        for row, from_s in ways
        for name in ORDER
        if name in row.phases
    ]
    edges = sorted({start_s, end_s, *(t for _, a, b in spans for t in (a, b) if start_s < t < end_s)})
    for a, b in pairwise(edges):
        going_on = {name for name, from_s, to_s in spans if from_s <= a and to_s >= b}
        seconds[next((name for name in ORDER if name in going_on), OTHER)] += b - a


def latency_s(records: Sequence[Record]) -> float:
    """Of one batch, head to tail; NaN where a call failed for good."""
    rows = [row for row in records if row.step == 0 and row.role == "non-moe"]
    tail = max((row.layer for row in rows), default=0)
    ended = [row.ended_s for row in rows if row.layer == tail and row.status == "ok"]
    return max(ended) - min(row.requested_s for row in rows) if ended else math.nan
