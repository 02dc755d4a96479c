"""What `fast` has played is counted here, some thousands of calls at a time, in the order of their ends.

All sums are made one after the other, so that they are those of `open_loop` to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.cloud.billing import Meter
from simulator.cloud.call import Function
from simulator.cloud.pool import Pool
from simulator.records import Record
from simulator.traffic.leaving import Leaving
from simulator.traffic.metrics import Batch, Rows, Tally
from simulator.traffic.scenario import StopWhen


@dataclass
class Warm:
    """Calls of `serve_warm`, all of shape (calls,): number of the batch, times (s), number of the instance."""

    batch: np.ndarray
    requested: np.ndarray
    started: np.ndarray
    worked: np.ndarray
    ended: np.ndarray
    who: np.ndarray

    @classmethod
    def none(cls) -> Warm:
        """No calls."""
        whole, real = np.empty(0, int), np.empty(0)
        return cls(whole, real, real, real, real, whole)

    @classmethod
    def joined(cls, parts: list[Warm]) -> Warm:
        """One after the other."""
        return cls(*(np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])))

    def taken(self, which: np.ndarray | slice) -> Warm:
        """Some of them."""
        return Warm(*(values[which] for values in vars(self).values()))


@dataclass
class Dones:
    """Batches by their ends, all of shape (batches,): number, when each left and ended (s), when its end
    was scheduled (s), whether it was served, its requests."""

    number: np.ndarray
    left: np.ndarray
    ended: np.ndarray
    known: np.ndarray
    ok: np.ndarray
    sizes: np.ndarray

    def taken(self, which: np.ndarray | slice) -> Dones:
        """Some of them."""
        return Dones(*(values[which] for values in vars(self).values()))


@dataclass(frozen=True)
class Stop:
    """Where a replication that cannot finish is stopped: when, s; why; how many rows, batches' ends, batches'
    leaves and arrivals come before; and whether an arrival stops it, which is in no batch then."""

    at_s: float
    reason: str
    rows: int
    dones: int
    left: int
    arrivals: int
    by_arrival: bool


class Late(Meter):
    """A meter that remembers what to charge until all rows before are known."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter.prices)
        self._todo: dict[int, tuple[Any, ...]] = {}

    def charge(self, row: Record, *how: Any) -> None:
        """Remember it."""
        self._todo[id(row)] = how

    def charge_now(self, row: Record) -> None:
        """Fill in what a row costs, at the lowest price of a GB-s."""
        how = self._todo.pop(id(row), None)
        if how is not None:
            used = dict(self._used_gb_s)
            super().charge(row, *how)
            self._used_gb_s = used


class Counting:
    """Counts calls, batches and arrivals of one function as time goes on.

    Args:
        tally: the sums. function: whose calls they are; pool: its instances. meter: charges them.
        stop_when: of the scenario. billed_from_request: whether the overhead of a call's start is billed.
        batched: whether a batch may have several requests.
        keep_row, keep_batch: called with each attempt's row, and each batch at its end; or None.

    Attributes:
        warm, rows, dones, leaving: what has been played, and is not counted yet. known_s, done_known_s: when the
            end of each row, and of each batch, was scheduled.
        took: when calls came, and how many were under way from then on, likewise.
        arrived: requests so far. waiting: those whose batch had not left when it was stopped, s.
        last_s: end of the last call.
    """

    def __init__(
        self,
        tally: Tally,
        function: Function,
        pool: Pool,
        meter: Late,
        stop_when: StopWhen,
        billed_from_request: bool,
        batched: bool,
        keep_row: Callable[[Record], object] | None,
        keep_batch: Callable[[Batch], object] | None,
    ) -> None:
        self._tally, self._function, self._pool, self._meter = tally, function, pool, meter
        self._stop_when, self._billed_from_request, self._batched = stop_when, billed_from_request, batched
        self._keep_row, self._keep_batch = keep_row, keep_batch
        self.warm, self.took = [Warm.none()], [(np.empty(0), np.empty(0, int))]
        self.rows: list[Record] = []
        self.dones: list[Batch] = []
        self.known_s: list[float] = []
        self.done_known_s: list[float] = []
        self.leaving: list[Leaving] = []
        self.waiting: list[float] = []
        self.arrived, self.last_s = 0, 0.0
        self._arrived_s: dict[int, np.ndarray] = {}
        self._backlog = 0
        self._under_way: int | None = 0
        self._silent_since, self._last_arrival_s = math.inf, 0.0

    def until(self, until_s: float) -> Stop | None:
        """Count all that happened up to a time; returns where it is stopped by then, or None."""
        warm = Warm.joined(self.warm)
        now = warm.ended <= until_s
        self.warm, warm = [warm.taken(~now)], warm.taken(now)
        batch = np.append(warm.batch, [row.batch for row in self.rows])
        ended, known = (
            np.append(warm.ended, [row.ended_s for row in self.rows]),
            np.append(warm.requested, self.known_s),
        )
        order, dones = _in_order(ended, known, batch), self._all_dones(warm)
        arrivals, left = (_joined([getattr(each, name) for each in self.leaving]) for name in ("arrived_s", "at"))
        arrivals_known = np.append(self._last_arrival_s, arrivals[:-1])
        stop = None
        if self._may_stop(arrivals, dones):
            stop = self._stop(arrivals, arrivals_known, dones, order, ended, known, batch)
        if stop is not None:
            order, dones, left = order[: stop.rows], dones.taken(slice(stop.dones)), left[: stop.left]
        requests = len(arrivals) if stop is None else stop.arrivals
        waiting = arrivals[self._count_left(len(left)) : requests]
        self.arrived += requests
        self._backlog += requests - int(dones.sizes.sum())
        self._count_rows(warm, order)
        self._count_dones(dones)
        if stop is not None:
            self.waiting = waiting[: len(waiting) - stop.by_arrival].tolist()
        self._note_silence(arrivals, arrivals_known, dones)
        self.rows, self.dones, self.leaving, self.known_s, self.done_known_s = [], [], [], [], []
        return stop

    def _all_dones(self, warm: Warm) -> Dones:
        """Batches that have ended, of both kinds."""
        if self._batched:
            for leaving in self.leaving:
                self._arrived_s |= {leaving.number + k: leaving.arrived(k) for k in range(len(leaving.at))}
        ended = np.concatenate([warm.ended, [batch.ended_s for batch in self.dones]])
        number = np.concatenate([warm.batch, [batch.number for batch in self.dones]]).astype(int)
        sizes = np.ones(len(number), int)
        if self._batched:
            sizes = np.array([len(self._arrived_s[each]) for each in number.tolist()], int)
        left = np.append(warm.requested, [batch.left_s for batch in self.dones])
        ok = np.append(np.ones(len(warm.ended), bool), [batch.ok for batch in self.dones]).astype(bool)
        known = np.append(warm.requested, self.done_known_s)
        return Dones(number, left, ended, known, ok, sizes).taken(_in_order(ended, known, number))

    # -- stops --------------------------------------------------------------------------------------------

    def _may_stop(self, arrivals: np.ndarray, dones: Dones) -> bool:
        """Whether it is worth looking one by one: events at the same time are taken in the worse order."""
        most, limit_s = self._stop_when.backlog_requests, self._stop_when.no_success_s
        if self._backlog + len(arrivals) > most:
            done = np.append(0, np.cumsum(dones.sizes))[np.searchsorted(dones.ended, arrivals)]
            if (self._backlog + 1 + np.arange(len(arrivals)) - done > most).any():
                return True
        failed = np.sort([row.ended_s for row in self.rows if row.status != "ok"])
        served = np.append(min([self._silent_since, *arrivals[:1]]), dones.ended[dones.ok])
        return bool((failed - served[np.searchsorted(served[1:], failed)] > limit_s).any())

    def _stop(
        self,
        arrivals: np.ndarray,
        arrivals_known: np.ndarray,
        dones: Dones,
        order: np.ndarray,
        ended: np.ndarray,
        known: np.ndarray,
        batch: np.ndarray,
    ) -> Stop | None:
        """The first reason to stop, if there is one: arrivals, leaves, rows and ends of batches one by one."""
        leaving, stop_when = self.leaving, self._stop_when
        first = leaving[0].number if leaving else 0
        sizes = _joined([each.sizes for each in leaving]).astype(int)
        at, leaves_known = (_joined([getattr(each, name) for each in leaving]) for name in ("at", "scheduled"))
        numbers = first + np.arange(len(sizes))
        times = np.concatenate([arrivals, at, ended[order], dones.ended])
        kinds = np.repeat(np.arange(4), [len(arrivals), len(at), len(order), len(dones.ended)])
        batches = np.concatenate([np.repeat(numbers, sizes), numbers, batch[order], dones.number])
        events = np.lexsort(
            (kinds, batches, np.concatenate([arrivals_known, leaves_known, known[order], dones.known]), times)
        )
        backlog, since, passed = self._backlog, self._silent_since, [0, 0, 0, 0]
        for now, kind in zip(times[events].tolist(), kinds[events].tolist(), strict=True):
            place, reason = passed[kind], ""
            passed[kind] += 1
            if kind == 0:
                backlog, since = backlog + 1, min(since, now)
                if backlog > stop_when.backlog_requests:
                    reason = f"more than {stop_when.backlog_requests:,} requests waited or were being served"
            elif kind == 2 and order[place] >= len(ended) - len(self.rows):
                row = self.rows[order[place] - len(ended)]
                if row.status != "ok" and now - since > stop_when.no_success_s:
                    reason = (
                        f"no request succeeded for {stop_when.no_success_s:g} s; "
                        f"the last attempt: {row.function}, {row.status}"
                    )
            elif kind == 3:
                backlog, since = backlog - dones.sizes[place], math.inf if dones.ok[place] else since
            if reason:
                came, left, rows, done = passed
                return Stop(now, reason, rows, done, left, came, kind == 0)
        return None

    def _note_silence(self, arrivals: np.ndarray, arrivals_known: np.ndarray, dones: Dones) -> None:
        """Since when requests have arrived, and none has been served."""
        after, served = 0, np.flatnonzero(dones.ok)
        if len(served):
            self._silent_since, last = math.inf, (dones.ended[served[-1]], dones.known[served[-1]])
            after = int(np.searchsorted(arrivals, last[0]))
            while after < len(arrivals) and (arrivals[after], arrivals_known[after]) < last:
                after += 1
        self._silent_since = min([self._silent_since, *arrivals[after : after + 1].tolist()])
        self._last_arrival_s = float(arrivals[-1]) if len(arrivals) else self._last_arrival_s

    # -- sums ---------------------------------------------------------------------------------------------

    def _count_left(self, batches: int) -> int:
        """Count so many batches that left; returns their requests."""
        requests = 0
        for leaving in self.leaving:
            count = min(batches, len(leaving.at))
            sizes = leaving.sizes[:count]
            first_s = leaving.arrived_s[leaving.ends[:count] - sizes]
            self._tally.left_many(leaving.number, first_s, sizes)
            batches, requests = batches - count, requests + int(sizes.sum())
        return requests

    def _count_rows(self, warm: Warm, order: np.ndarray) -> None:
        """Charge and count attempts."""
        if not len(order):
            return
        rare, meter, function = self.rows, self._meter, self._function
        before_s = warm.started - warm.requested if self._billed_from_request else 0.0
        billed_s = meter.billed_many_s(before_s + warm.ended - warm.started)
        gb_s, rates = billed_s * function.memory_mb / 1024, function.package.rates
        kept = np.array([each.provisioned for each in self._pool.instances], bool)[warm.who]
        for row in rare:
            meter.charge_now(row)

        def column(warm_ones: Any, rare_ones: list[Any]) -> np.ndarray:
            values = np.broadcast_to(warm_ones, warm.ended.shape)
            return np.concatenate([values, np.array(rare_ones, values.dtype)])[order]

        rows = Rows(
            batch=column(warm.batch, [row.batch for row in rare]),
            requested_s=column(warm.requested, [row.requested_s for row in rare]),
            ended_s=column(warm.ended, [row.ended_s for row in rare]),
            ran=column(True, [row.status != "throttled" for row in rare]),
            cold=column(False, [row.cold for row in rare]),
            billed_gb_s=column(gb_s, [row.billed_gb_s for row in rare]),
            compute_usd=column(gb_s * rates.provisioned_duration, [row.compute_cost_usd for row in rare]),
            request_usd=column(meter.prices.invocation, [row.request_cost_usd for row in rare]),
            tmp_usd=column(meter.tmp_usd(billed_s, function.tmp_mb), [row.tmp_cost_usd for row in rare]),
        )
        of_kept = [self._pool.is_kept(row.instance) for row in rare]
        by_tier = rows.ran & ~column(kept, of_kept)
        rows.compute_usd[by_tier] = meter.usd(rows.billed_gb_s[by_tier], rates)
        self.last_s = float(rows.ended_s[-1])
        self._count_peak(rows.ended_s[rows.ran])
        self._tally.many(rows)
        if self._keep_row is not None:
            self._keep_rows(self._keep_row, warm, order, rows, column(billed_s, [row.billed_s for row in rare]))

    def _count_peak(self, ended: np.ndarray) -> None:
        """Calls under way: most just before the end of one, after the warm-up."""
        if not len(ended):
            return
        came, running = (np.concatenate(parts) for parts in zip(*self.took, strict=True))
        tally, warm_up_s, now = self._tally, self._tally.warm_up_s, came <= ended[-1]
        if ended[-1] > warm_up_s:
            after = running[now & (came > warm_up_s)]
            tally.peak = max(tally.peak, int(after.max(initial=0)))
            if self._under_way is not None:  # at the end of the warm-up
                under_way = self._under_way + int((came <= warm_up_s).sum()) - int((ended <= warm_up_s).sum())
                tally.peak, self._under_way = max(tally.peak, under_way), None
        elif self._under_way is not None:
            self._under_way += int(now.sum()) - len(ended)
        self.took = [(came[~now], running[~now])]

    def _keep_rows(
        self, keep: Callable[[Record], object], warm: Warm, order: np.ndarray, rows: Rows, billed_s: np.ndarray
    ) -> None:
        """Hand on each attempt's row."""
        function = self._function
        for place, k in enumerate(order.tolist()):
            if k >= len(warm.ended):
                row = self.rows[k - len(warm.ended)]
            else:
                row = Record(int(warm.batch[k]), 0, "function", function.name, function.memory_mb)
                row.instance = self._pool.instances[warm.who[k]].name
                requested, started = warm.requested[k].item(), warm.started[k].item()
                row.requested_s, row.started_s, row.ended_s = requested, started, warm.ended[k].item()
                row.phases = {"queue": (requested, started), "compute": (started, warm.worked[k].item())}
                row.billed_s, row.billed_gb_s = billed_s[place].item(), rows.billed_gb_s[place].item()
                row.request_cost_usd, row.tmp_cost_usd = rows.request_usd[place].item(), rows.tmp_usd[place].item()
            row.compute_cost_usd = rows.compute_usd[place].item()
            keep(row)

    def _count_dones(self, dones: Dones) -> None:
        """Count batches that have ended."""
        tally = self._tally
        counted = dones.taken(dones.number >= tally.first_batch)
        tally.failed += int(counted.sizes[~counted.ok].sum())
        served = counted.taken(counted.ok)
        arrived = self._arrived(served)
        latency_s = np.repeat(served.ended, served.sizes) - arrived
        tally.latency_s.add_many(latency_s)
        tally.in_slo += int((latency_s <= tally.slo_s).sum())
        if self._keep_batch is not None:
            for each in range(len(dones.number)):
                one = dones.taken(slice(each, each + 1))
                arrivals = self._arrived(one).tolist()
                left, ended = float(one.left[0]), float(one.ended[0])
                self._keep_batch(Batch(int(one.number[0]), arrivals, left, ended, bool(one.ok[0])))
        if self._batched:
            for number in dones.number.tolist():
                del self._arrived_s[number]

    def _arrived(self, dones: Dones) -> np.ndarray:
        """Arrivals of the requests of some batches, s, shape (requests,)."""
        if not self._batched:
            return dones.left
        return np.concatenate([np.empty(0), *(self._arrived_s[number] for number in dones.number.tolist())])


def _in_order(at: np.ndarray, known: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Numbers of events as they happen: by time, by when they were scheduled (both s), by number of the batch."""
    order = np.argsort(at, kind="stable")
    return np.lexsort((batch, known, at)) if (np.diff(at[order]) == 0).any() else order


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Arrays one after the other, or none."""
    return np.concatenate(parts) if parts else np.empty(0)
