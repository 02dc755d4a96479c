"""Live beside simulated: cost, latency and phases of every plan, run-to-run spread, and the order of plans."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from experiments.live.session import Served
from simulator.plan import DeploymentPlan
from simulator.records import PHASES, Bill, Record, bill
from simulator.staged_plan import AnyPlan, StagedPlan

COMPUTING = ("expert", "blocks")
"""Roles of calls that hold experts."""


@dataclass(frozen=True)
class Measure:
    """One quantity of a plan, live and simulated.

    Attributes:
        live: median of the batches. simulated: likewise. spread: of the live batches, half the range over the
            median. error: simulated over live, less one.
    """

    live: float
    simulated: float
    spread: float

    @property
    def error(self) -> float:
        """Relative error of the simulation."""
        return self.simulated / self.live - 1 if self.live else float("nan")


@dataclass(frozen=True)
class ExpertCall:
    """Billed seconds of one call of an expert, live and simulated."""

    layer: int
    expert: int
    replica: int
    live_s: float
    simulated_s: float


@dataclass(frozen=True)
class Comparison:
    """A plan under a load.

    Attributes:
        plan, load, methods: which. cost_usd: the paper's bill. full_usd, total_usd: the other two bills.
        latency_s: of a batch. layers_usd: the paper's bill of each layer.
        phases_s: mean of each phase over the experts' calls.
        calls: billed seconds of each expert's call.
        worst: largest difference of an output. correct: outputs and routing are the undistributed model's.
        busy_cores: of others, before it was served. contention: median over experts' calls of compute time over
            what its CPU time takes at the function's share of a core; NaN with `pipelined`.
        failed: what failed in live batches. oversubscribed: experts ask for more cores than there are.
    """

    plan: str
    load: int
    methods: str
    cost_usd: Measure
    full_usd: Measure
    total_usd: Measure
    latency_s: Measure
    layers_usd: tuple[Measure, ...]
    phases_s: dict[str, Measure]
    calls: tuple[ExpertCall, ...]
    worst: float
    correct: bool
    failed: tuple[str, ...]
    cores: float
    oversubscribed: bool
    busy_cores: float
    contention: float

    @property
    def calls_error(self) -> float:
        """Median absolute relative error of the billed seconds of an expert's call."""
        errors = [abs(x.simulated_s / x.live_s - 1) for x in self.calls if x.live_s > 0]
        return float(np.median(errors)) if errors else float("nan")


@dataclass(frozen=True)
class Ranking:
    """The order of plans by one quantity, live and simulated.

    Attributes:
        kendall_tau: of the two orders, 1 is the same. plans: that are in it.
        wrong: pairs in another order though the live ones differ by more than their spread.
    """

    quantity: str
    load: int
    kendall_tau: float
    plans: int
    wrong: tuple[tuple[str, str], ...]


def compare(served: Served, tolerance: float, cores: float) -> Comparison:
    """A plan's live batches beside its simulated ones."""
    live = [[row.record for row in batch.rows] for batch in served.live.batches if not batch.failed]
    latencies = [batch.latency_s for batch in served.live.batches if not batch.failed]
    numbers = sorted({row.batch for row in served.simulated.records})
    simulated = [[row for row in served.simulated.records if row.batch == number] for number in numbers]
    layers = sorted({row.layer for rows in simulated for row in rows if row.role in COMPUTING})

    def of_bills(value: Callable[[Bill], float], layer: int | None = None) -> Measure:
        def one(rows: Sequence[Record]) -> float:
            return value(bill(row for row in rows if layer is None or row.layer == layer))

        return _measure([one(rows) for rows in live], [one(rows) for rows in simulated])

    return Comparison(
        plan=served.live.name,
        load=served.live.load,
        methods=_methods(served.live.plan),
        cost_usd=of_bills(lambda x: x.billed_cost_usd),
        full_usd=of_bills(lambda x: x.full_cost_usd),
        total_usd=of_bills(lambda x: x.total_cost_usd),
        latency_s=_measure(latencies, served.simulated.latency_s.tolist()),
        layers_usd=tuple(of_bills(lambda x: x.billed_cost_usd, layer) for layer in layers),
        phases_s={
            phase: _phase(phase, live, simulated) for phase in PHASES if phase not in ("init", "provisioning")
        },
        calls=_calls(live, simulated),
        worst=served.worst,
        correct=served.right_routing and served.worst <= tolerance,
        failed=tuple(batch.failed for batch in served.live.batches if batch.failed),
        cores=served.cores,
        oversubscribed=served.cores > cores,
        busy_cores=served.live.busy_cores,
        contention=_contention(served),
    )


def _methods(plan: AnyPlan) -> str:
    """Of its layers, or `blocks`."""
    if isinstance(plan, StagedPlan):
        return "blocks"
    return "+".join(dict.fromkeys(layer.communication for layer in plan.layers))


def rank(comparisons: Sequence[Comparison], quantity: str) -> list[Ranking]:
    """The order of the plans of each load by a quantity; oversubscribed and failed ones are left out."""
    from scipy.stats import kendalltau

    found = []
    for load in dict.fromkeys(x.load for x in comparisons):
        own = [x for x in comparisons if x.load == load and not x.oversubscribed and not x.failed]
        if len(own) < 2:
            continue
        pairs = [(x.plan, getattr(x, quantity)) for x in own]
        tau = kendalltau([m.live for _, m in pairs], [m.simulated for _, m in pairs]).statistic
        wrong = tuple(
            (a, b)
            for (a, x), (b, y) in combinations(pairs, 2)
            if (x.live - y.live) * (x.simulated - y.simulated) < 0
            and abs(x.live - y.live) > x.live * x.spread + y.live * y.spread
        )
        found.append(Ranking(quantity, load, float(tau), len(own), wrong))
    return found


def _measure(live: Sequence[float], simulated: Sequence[float]) -> Measure:
    if not live or not simulated:
        return Measure(float("nan"), float("nan"), float("nan"))
    middle = float(np.median(live))
    spread = (max(live) - min(live)) / 2 / middle if middle else float("nan")
    return Measure(middle, float(np.median(simulated)), spread)


def _phase(phase: str, live: Sequence[Sequence[Record]], simulated: Sequence[Sequence[Record]]) -> Measure:
    """Mean over the experts' calls of a batch."""

    def one(rows: Sequence[Record]) -> float:
        spans = [row.phases.get(phase, (0.0, 0.0)) for row in rows if row.role in COMPUTING]
        return float(np.mean([end - start for start, end in spans])) if spans else 0.0

    return _measure([one(rows) for rows in live], [one(rows) for rows in simulated])


def _contention(served: Served) -> float:
    ratios = []
    for batch in served.live.batches:
        for row in batch.rows:
            if (
                row.record.role in COMPUTING
                and not _overlaps(served.live.plan, row.record)
                and row.compute_cpu_s > 0
            ):
                start, end = row.record.phases["compute"]
                ratios.append((end - start) * row.record.memory_mb / served.mb_per_vcpu / row.compute_cpu_s)
    return float(np.median(ratios)) if ratios else float("nan")


def _overlaps(plan: AnyPlan, row: Record) -> bool:
    """Whether a call moves bytes while it computes."""
    return isinstance(plan, DeploymentPlan) and plan.layers[row.layer].communication == "pipelined"


def _calls(live: Sequence[Sequence[Record]], simulated: Sequence[Sequence[Record]]) -> tuple[ExpertCall, ...]:
    """Billed seconds of each expert's call, medians of the batches."""

    def by_call(batches: Sequence[Sequence[Record]]) -> dict[tuple[int, int, int], float]:
        found: dict[tuple[int, int, int], list[float]] = {}
        for rows in batches:
            for row in rows:
                if row.role in COMPUTING and row.status == "ok":
                    found.setdefault((row.layer, row.expert, row.replica), []).append(row.billed_s)
        return {key: float(np.median(values)) for key, values in found.items()}

    real, played = by_call(live), by_call(simulated)
    return tuple(ExpertCall(*key, real[key], played[key]) for key in sorted(real) if key in played)


def median_error(measures: Iterable[Measure]) -> float:
    """Median of the errors' sizes; NaN of none."""
    return middle(abs(x.error) for x in measures)


def middle(values: Iterable[float]) -> float:
    """Median of those that are numbers; NaN of none."""
    known = [x for x in values if not math.isnan(x)]
    return float(np.median(known)) if known else math.nan
