"""What each function of an application comes to under traffic, and when all of a request's work had ended."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from simulator.records import Record
from simulator.traffic.metrics import Batch, ratio


@dataclass(frozen=True)
class FunctionMetrics:
    """One function in one replication, over the requests that are counted (warm-up removed).

    Attributes:
        calls_per_1000_requests: attempts that ran.
        failed_share, cold_share: of them.
        duration_mean_s: from the handler's start to its end, s.
        billed_gb_s_per_1000_requests: of the attempts. usd_per_1000_requests: with requests, S3 and provisioned
            instances. share_of_bill: of the total.
    """

    calls_per_1000_requests: float
    failed_share: float
    cold_share: float
    duration_mean_s: float
    billed_gb_s_per_1000_requests: float
    usd_per_1000_requests: float
    share_of_bill: float


@dataclass
class _Sums:
    calls: int = 0
    failed: int = 0
    cold: int = 0
    duration_s: float = 0.0
    gb_s: float = 0.0
    usd: float = 0.0


@dataclass
class FunctionTally:
    """Running sums of each function. Of a request its arrival, and when its batch's last call ended (24 bytes)."""

    names: Iterable[str]
    _ended_s: array = field(default_factory=lambda: array("d"))  # by batch
    _arrived_s: array = field(default_factory=lambda: array("d"))
    _batch: array = field(default_factory=lambda: array("q"))

    def __post_init__(self) -> None:
        self._sums = {name: _Sums() for name in self.names}

    def left(self, _: Batch) -> None:
        """A batch leaves the queue; batches are numbered from 0 in this order."""
        self._ended_s.append(math.nan)

    def served(self, batch: Batch) -> None:
        """A batch that counts has been served."""
        self._arrived_s.extend(batch.arrived_s)
        self._batch.extend([batch.number] * len(batch.arrived_s))

    def row(self, row: Record, counts: bool) -> None:
        """An attempt is over; whether it is of a batch that counts."""
        self._ended_s[row.batch] = row.ended_s
        sums = self._sums[row.function]
        if not counts or not row.instance:
            return
        sums.calls += 1
        sums.failed += row.status != "ok"
        sums.cold += row.cold
        sums.duration_s += row.ended_s - row.started_s
        sums.gb_s += row.billed_gb_s
        sums.usd += row.compute_cost_usd + row.request_cost_usd + row.tmp_cost_usd

    def standby(self, row: Record, usd: float) -> None:
        """What it costs to keep a function's instances."""
        self._sums[row.function].usd += usd

    def all_ended_s(self) -> np.ndarray:
        """From each served request's arrival to the end of its batch's last call, s, shape (requests,)."""
        return np.array(self._ended_s)[np.array(self._batch, int)] - np.array(self._arrived_s)

    def metrics(self, requests: float) -> dict[str, FunctionMetrics]:
        """Those of each function, over so many requests that arrived."""
        total = sum(sums.usd for sums in self._sums.values())
        return {
            name: FunctionMetrics(
                calls_per_1000_requests=1000 * ratio(sums.calls, requests),
                failed_share=ratio(sums.failed, sums.calls),
                cold_share=ratio(sums.cold, sums.calls),
                duration_mean_s=ratio(sums.duration_s, sums.calls),
                billed_gb_s_per_1000_requests=1000 * ratio(sums.gb_s, requests),
                usd_per_1000_requests=1000 * ratio(sums.usd, requests),
                share_of_bill=ratio(sums.usd, total),
            )
            for name, sums in self._sums.items()
        }
