"""What open-loop traffic comes to: sums kept while it runs, the metrics of a replication."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field, fields

import numpy as np

from simulator.records import Bill, Record

MOST_LATENCIES = 1_000_000  # that are kept for percentiles and pictures, 8 bytes each
BLOCK = 4096


@dataclass(slots=True)
class Batch:
    """Requests that are served together.

    Attributes:
        number: from 0, in the order in which batches left.
        arrived_s: arrival of each of its requests, s, sorted.
        left_s, ended_s: when it left the queue, and when its answer was there.
        ok: whether it was served.
        first_token_s: when a generated first token was there. token_s: mean time of a further one; NaN without.
    """

    number: int
    arrived_s: list[float]
    left_s: float = math.nan
    ended_s: float = math.nan
    ok: bool = False
    first_token_s: float = math.nan
    token_s: float = math.nan


@dataclass(frozen=True)
class Metrics:
    """One replication, warm-up removed: batches (and their requests and rows) whose first request came after it.

    Attributes:
        requests: that arrived. batch_requests: mean size of a batch.
        slo_attainment: share of the requests that were served within the SLO; failed ones are not.
        failed_share, unfinished_share: of the requests; unfinished where the simulation was stopped.
        cold_share: cold starts among the attempts that ran. throttled_share: among all attempts.
        latency_*_s: of served requests, from arrival to the end of their batch, s.
        concurrency_mean, concurrency_peak: calls under way, from the end of warm-up to that of arrivals; the peak
            until the end.
        billed_gb_s_per_1000_requests, *_usd_per_1000_requests, *_usd_per_1000_tokens: the three bills
            (docs/formats.md), over requests that arrived, retries and failures included; tokens: MoE only (NaN).
            Of functions, billed is their GB-s, full has their requests, total also /tmp and what keeps instances.
    """

    requests: float
    batch_requests: float
    slo_attainment: float
    failed_share: float
    unfinished_share: float
    cold_share: float
    throttled_share: float
    latency_mean_s: float
    latency_p50_s: float
    latency_p90_s: float
    latency_p99_s: float
    concurrency_mean: float
    concurrency_peak: float
    billed_gb_s_per_1000_requests: float
    billed_usd_per_1000_requests: float
    full_usd_per_1000_requests: float
    total_usd_per_1000_requests: float
    billed_usd_per_1000_tokens: float
    full_usd_per_1000_tokens: float
    total_usd_per_1000_tokens: float


class Sample:
    """Numbers as they come: all of them up to `most`, then so many of them, each as likely as any other.

    Args:
        rng: decides which are kept.
        most: numbers that are kept.

    Attributes:
        count, total: of all numbers, kept or not.

    Source: Vitter, Random sampling with a reservoir, ACM TOMS 1985, algorithm R.
    """

    def __init__(self, rng: np.random.Generator, most: int = MOST_LATENCIES) -> None:
        self._rng, self._most = rng, most
        self._kept = array("d")
        self._uniform: list[float] = []
        self.count = 0
        self.total = 0.0

    def add(self, value: float) -> None:
        """One more number."""
        self.count += 1
        self.total += value
        if self.count <= self._most:
            self._kept.append(value)
            return
        if not self._uniform:
            self._uniform = self._rng.random(BLOCK).tolist()
        place = int(self._uniform.pop() * self.count)
        if place < self._most:
            self._kept[place] = value

    def add_many(self, values: np.ndarray) -> None:
        """`add` of each of some numbers, shape (numbers,)."""
        room = max(0, self._most - self.count)
        self._kept.frombytes(values[:room].tobytes())
        counts = self.count + 1 + np.arange(len(values))
        self.count += len(values)
        self.total = summed(self.total, values)
        if len(values) <= room:
            return
        missing, uniform = len(values) - room, [np.array(self._uniform[::-1])]
        while sum(map(len, uniform)) < missing:
            uniform.append(self._rng.random(BLOCK)[::-1])
        drawn = np.concatenate(uniform)
        self._uniform = drawn[missing:][::-1].tolist()
        places = (drawn[:missing] * counts[room:]).astype(int)
        stays = places < self._most
        np.frombuffer(self._kept)[places[stays]] = values[room:][stays]  # of several for one place, the last

    def kept(self) -> np.ndarray:
        """The numbers that were kept, shape (numbers,)."""
        return np.array(self._kept)


@dataclass(frozen=True)
class Rows:
    """Attempts of a function in the order of their ends, all of shape (rows,); `ran`: they were not throttled."""

    batch: np.ndarray
    requested_s: np.ndarray
    ended_s: np.ndarray
    ran: np.ndarray
    cold: np.ndarray
    billed_gb_s: np.ndarray
    compute_usd: np.ndarray
    request_usd: np.ndarray
    tmp_usd: np.ndarray

    def taken(self, order: np.ndarray) -> Rows:
        """Some of them, by number."""
        return Rows(*(getattr(self, item.name)[order] for item in fields(self)))


@dataclass
class Tally:
    """Running sums of one replication, and a sample of latencies for the percentiles: memory stays bounded.

    Args:
        warm_up_s, slo_s: of the scenario.
        latency_s: collects the latencies of served requests.
        tokens_per_request: 0 for a function.
        horizon_s: end of arrivals, s; infinite until it is known.
        first_token_s, token_s: collect times to the first token, and of a further one.
    """

    warm_up_s: float
    slo_s: float
    latency_s: Sample
    tokens_per_request: int = 0
    horizon_s: float = math.inf
    first_token_s: Sample | None = None
    token_s: Sample | None = None
    requests: int = 0
    batches: int = 0
    failed: int = 0
    in_slo: int = 0
    rows: int = 0
    throttled: int = 0
    cold: int = 0
    busy_s: float = 0.0
    peak: int = 0
    bill: Bill = field(default_factory=Bill)
    first_batch: float = math.inf

    def counts(self, batch_number: int) -> bool:
        """Whether a batch's first request came after the warm-up."""
        return batch_number >= self.first_batch

    def left(self, batch: Batch) -> None:
        """A batch leaves the queue."""
        if batch.arrived_s[0] < self.warm_up_s:
            return
        self.first_batch = min(self.first_batch, batch.number)
        self.batches += 1
        self.requests += len(batch.arrived_s)

    def left_many(self, number: int, first_s: np.ndarray, sizes: np.ndarray) -> None:
        """`left` of batches from `number` on: when the first request of each arrived (s), and their sizes."""
        counted = int(np.searchsorted(first_s, self.warm_up_s))
        if counted < len(first_s):
            self.first_batch = min(self.first_batch, number + counted)
        self.batches += len(first_s) - counted
        self.requests += int(sizes[counted:].sum())

    def ended(self, batch: Batch) -> None:
        """A batch has been served, or has failed."""
        if not self.counts(batch.number):
            return
        if not batch.ok:
            self.failed += len(batch.arrived_s)
            return
        for arrived_s in batch.arrived_s:
            latency_s = batch.ended_s - arrived_s
            self.latency_s.add(latency_s)
            self.in_slo += latency_s <= self.slo_s
            if self.first_token_s is not None and self.token_s is not None:
                self.first_token_s.add(batch.first_token_s - arrived_s)
                self.token_s.add(batch.token_s)

    def row(self, row: Record, running: int) -> None:
        """An attempt is over; `running` calls were under way until then."""
        if row.status != "throttled" and row.ended_s > self.warm_up_s:
            self.busy_s += max(0.0, min(row.ended_s, self.horizon_s) - max(row.requested_s, self.warm_up_s))
            self.peak = max(self.peak, running)
        if not self.counts(row.batch):
            return
        self.rows += 1
        self.cold += row.cold
        if row.status == "throttled":
            self.throttled += 1
            return
        self.bill.add(row)

    def many(self, rows: Rows) -> None:
        """`row` of each of some attempts, but for the peak."""
        ran = rows.ran & (rows.ended_s > self.warm_up_s)
        until_s, from_s = np.minimum(rows.ended_s, self.horizon_s), np.maximum(rows.requested_s, self.warm_up_s)
        self.busy_s = summed(self.busy_s, np.maximum(0.0, until_s - from_s)[ran])
        counted = rows.batch >= self.first_batch
        charged = counted & rows.ran
        self.rows += int(counted.sum())
        self.cold += int(rows.cold[counted].sum())
        self.throttled += int(counted.sum() - charged.sum())
        bill = self.bill
        bill.tmp_usd = summed(bill.tmp_usd, rows.tmp_usd[charged])
        bill.billed_gb_s = summed(bill.billed_gb_s, rows.billed_gb_s[charged])
        bill.compute_usd = summed(bill.compute_usd, rows.compute_usd[charged])
        bill.request_usd = summed(bill.request_usd, rows.request_usd[charged])

    def standby(self, row: Record) -> float:
        """Instances were kept: what that costs after the warm-up, by time, USD."""
        took_s = row.ended_s - row.started_s
        counts_s = max(0.0, row.ended_s - max(row.started_s, self.warm_up_s))
        share = counts_s / took_s if took_s > 0 else float(row.ended_s >= self.warm_up_s)
        self.bill.add(row, share)
        return share * (row.compute_cost_usd + row.request_cost_usd + row.tmp_cost_usd)

    def metrics(self, waiting: int = 0) -> Metrics:
        """The metrics; `waiting` requests have arrived, and their batch has not left."""
        requests, ran = self.requests + waiting, self.rows - self.throttled
        served = self.latency_s.count
        latency = self.latency_s.kept() if served else np.array([math.nan])
        p50, p90, p99 = np.quantile(latency, (0.5, 0.9, 0.99)).tolist()
        tokens, bill = requests * self.tokens_per_request, self.bill
        return Metrics(
            requests=requests,
            batch_requests=ratio(self.requests, self.batches),
            slo_attainment=ratio(self.in_slo, requests),
            failed_share=ratio(self.failed, requests),
            unfinished_share=ratio(requests - self.failed - served, requests),
            cold_share=ratio(self.cold, ran),
            throttled_share=ratio(self.throttled, self.rows),
            latency_mean_s=ratio(self.latency_s.total, served),
            latency_p50_s=p50,
            latency_p90_s=p90,
            latency_p99_s=p99,
            concurrency_mean=ratio(self.busy_s, self.horizon_s - self.warm_up_s),
            concurrency_peak=self.peak,
            billed_gb_s_per_1000_requests=1000 * ratio(bill.billed_gb_s, requests),
            billed_usd_per_1000_requests=1000 * ratio(bill.billed_cost_usd, requests),
            full_usd_per_1000_requests=1000 * ratio(bill.full_cost_usd, requests),
            total_usd_per_1000_requests=1000 * ratio(bill.total_cost_usd, requests),
            billed_usd_per_1000_tokens=1000 * ratio(bill.billed_cost_usd, tokens),
            full_usd_per_1000_tokens=1000 * ratio(bill.full_cost_usd, tokens),
            total_usd_per_1000_tokens=1000 * ratio(bill.total_cost_usd, tokens),
        )

    def generation(self) -> dict[str, float]:
        """Percentiles of the times to the first token and of a further one, s; empty where none are generated."""
        found: dict[str, float] = {}
        for name, sample in (("first_token", self.first_token_s), ("token", self.token_s)):
            if sample is not None:
                kept = sample.kept() if sample.count else np.array([math.nan])
                quantiles = np.quantile(kept, (0.5, 0.9, 0.99)).tolist()
                found |= dict(zip((f"{name}_p50_s", f"{name}_p90_s", f"{name}_p99_s"), quantiles, strict=True))
        return found


def summed(total: float, values: np.ndarray) -> float:
    """A running sum with some values more, added one after the other as a loop would."""
    return float(np.cumsum(np.concatenate([[total], values]))[-1])


def ratio(part: float, whole: float) -> float:
    """A share; NaN of nothing."""
    return part / whole if whole > 0 else math.nan
