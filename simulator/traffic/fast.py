"""Open-loop traffic on one function, without an event for a call that finds a warm instance and ends well.

All other calls (cold starts, throttles, failures, retries) are played by the same service as in `open_loop`, on a
clock of their own; both take the same draws in the same order, and come to the same rows.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import simpy

from moe.errors import InputError
from simulator.cloud.billing import Meter
from simulator.cloud.clock import Clock
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.platform import Platform
from simulator.cloud.pool import Calls, Ended, Pool, compiled, serve_warm
from simulator.draws import Ahead
from simulator.records import STANDBY, Record
from simulator.traffic.counting import Counting, Late, Warm
from simulator.traffic.leaving import Leaving, leaving
from simulator.traffic.metrics import Batch
from simulator.traffic.open_loop import Inputs, Replication
from simulator.traffic.scenario import Scenario
from simulator.traffic.servers import FunctionServer

PAYS_FROM = 50_000  # requests: below, the compiled loop is not there in time
MOST_AT_ONCE, LEAST_AT_ONCE = 32_768, 64


def cannot(inputs: Inputs) -> str | None:
    """Why a scenario cannot be played fast, or None."""
    prices = inputs.profile.prices
    if inputs.scenario.function is None:
        return "it plays one `function` that meets nobody"
    if inputs.scenario.prewarming is not None:
        return "prewarming has calls of its own"
    if prices.free_gb_s.median > 0 or prices.free_invocations.median > 0:
        return "a free tier goes to the first calls"
    return None


def replication(inputs: Inputs, *given: Any, **more: Any) -> Replication:
    """A replication with the engine that the scenario asks for; arguments as `Replication` has them.

    Raises:
        InputError: `engine: fast` for what cannot be played so.
    """
    scenario = inputs.scenario
    reason = cannot(inputs)
    if scenario.engine == "fast" and reason is not None:
        raise InputError(f"engine: expected simpy or auto, got fast: {reason}")
    fast = scenario.engine == "fast" or (scenario.engine == "auto" and reason is None and pays(scenario))
    return (FastReplication if fast else Replication)(inputs, *given, **more)


def pays(scenario: Scenario) -> bool:
    """Whether so many requests are expected that it is worth the start."""
    expected = scenario.requests or math.inf
    if scenario.duration_s is not None:
        expected = scenario.duration_s * scenario.arrivals.process.mean_rate_per_s
    return expected >= PAYS_FROM and compiled() is not None


class FastReplication(Replication):
    """A replication as in `open_loop`, of a scenario that `cannot` finds nothing against."""

    engine = "fast"

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        assert isinstance(self._server, FunctionServer)
        self._calls, self._function = self._server, self._functions[0]
        self._run, self._at_once = compiled() or serve_warm, LEAST_AT_ONCE
        scenario = self._scenario
        self._counting = Counting(
            self._tally,
            self._function,
            self._pool,
            self._meter,
            scenario.stop_when,
            self._platform.prices.warm_start_is_billed,
            scenario.batching.max_requests > 1,
            self._keep_row,
            self._keep_batch,
        )

    def _service_on(self, platform: Platform) -> LambdaService:
        start, compute, failures = platform.start, platform.compute, platform.failures
        self._drawn = drawn = {
            "warm": Ahead(start.warm),
            "jitter": Ahead(compute.jitter),
            "life": Ahead(failures.instance_life),
            "fails": Ahead(failures.handler_error),
            "stays": Ahead(start.keep_alive),
        }
        self._platform = platform.changed(
            start={"warm": drawn["warm"], "keep_alive": drawn["stays"]},
            compute={"jitter": drawn["jitter"]},
            failures={"instance_life": drawn["life"], "handler_error": drawn["fails"]},
        )
        self._clock = Clock()
        self._pool, self._meter = Pool(self._clock, self._platform), Late(Meter(platform.prices))
        env = cast(simpy.Environment, self._clock)
        return LambdaService(env, self._platform, self._on_row, instances=self._pool, meter=self._meter)

    def _play(self) -> str | None:
        counting, last_s = self._counting, 0.0
        stop = None
        for batches in leaving(self._blocks, self._scenario.batching):
            self._through(batches)
            counting.leaving.append(batches)
            last_s = float(batches.arrived_s[-1])
            if not batches.last and (stop := counting.until(float(batches.at[-1]))):
                break
        else:
            self._clock.now = last_s
            self._exhausted()
            while self._clock.upcoming()[0] < math.inf:
                self._clock.step()
            self._note_taken()
            stop = counting.until(math.inf)
        self._arrived, self._last_s, self._batcher.waiting = counting.arrived, counting.last_s, counting.waiting
        if stop is None:
            return None
        self._clock.now = stop.at_s
        self._pool.forget_after(self._function, stop.at_s)
        return self._stopped_now(stop.reason)

    def _through(self, batches: Leaving) -> None:
        """Play until the last of some batches has left."""
        work_s, first, count = self._calls.works_s(batches.sizes), 0, len(batches.at)
        while first < count:
            event_s, known_s = self._clock.upcoming()
            until = int(np.searchsorted(batches.at, event_s))
            if until < count and batches.at[until] == event_s and known_s > batches.scheduled[until]:
                until += 1
            if first >= until:
                self._clock.step()
                continue
            until = min(until, first + self._at_once)
            first += self._served_warm(batches, work_s, first, until)
            self._at_once = min(MOST_AT_ONCE, 2 * self._at_once) if first == until else LEAST_AT_ONCE
            if first < until:
                at, self._clock.scheduled_s = float(batches.at[first]), float(batches.scheduled[first])
                self._clock.now, self._clock.serial = at, batches.number + first
                batch = Batch(batches.number + first, batches.arrived(first).tolist(), at)
                self._calls.call(batch, float(work_s[first]), self._done)
                first += 1
        self._note_taken()

    def _served_warm(self, batches: Leaving, work_s: np.ndarray, first: int, until: int) -> int:
        """Serve batches from `first` on for as long as each finds a warm instance; returns how many."""
        which, count = slice(first, until), until - first
        numbers = batches.number + np.arange(first, until)
        at, drawn = batches.at[which], {name: ahead.peek(count) for name, ahead in self._drawn.items()}
        calls = Calls(numbers, at, batches.scheduled[which], work_s[which], **drawn)
        out = Ended(np.empty(count), np.empty(count), np.empty(count, int), np.empty(count, int))
        served = self._run(calls, self._pool.slots, self._pool.limits(self._function), out)
        for ahead in self._drawn.values():
            ahead.skip(served)
        self._note_taken()
        found = Warm(numbers, at, at + calls.warm, out.worked, out.ended, out.who)
        self._counting.warm.append(found if served == count else found.taken(slice(served)))
        self._counting.took.append((at[:served], out.running[:served]))
        return served

    def _note_taken(self) -> None:
        """Calls that came besides since the last time."""
        if self._pool.took:
            at, running = np.array(self._pool.took).T
            self._counting.took.append((at, running.astype(int)))
            self._pool.took.clear()

    def _on_row(self, row: Record) -> None:
        if row.role in STANDBY:
            self._on_standby(row)
        else:
            self._counting.rows.append(row)
            self._counting.known_s.append(self._clock.scheduled_s)

    def _done(self, batch: Batch, ok: bool) -> None:
        batch.ended_s, batch.ok = self._clock.now, ok
        self._counting.dones.append(batch)
        self._counting.done_known_s.append(self._clock.scheduled_s)
