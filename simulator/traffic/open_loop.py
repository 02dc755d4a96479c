"""Open-loop traffic: requests arrive whether or not earlier ones are answered, are batched, and served by Lambda.

One callback an arrival, which schedules the next; random numbers in blocks; no process a request. What is served
is a generic function, an application of functions that invoke each other, or a deployed MoE model (each batch one
forward pass). Rows and batches stream to whoever
keeps them, and latencies are sampled, so memory does not grow with the number of requests.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import simpy
from simpy.core import StopSimulation

from moe.errors import InputError, named
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute
from simulator.cloud.platform import Platform, platform_of_profile
from simulator.cloud.prewarming import prewarming_policy
from simulator.plan import DeploymentProblem, read_problem
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.records import STANDBY, Bill, Record
from simulator.serving.layer import as_served
from simulator.staged_plan import AnyPlan, read_any_plan
from simulator.traffic.arrivals import limited
from simulator.traffic.function_file import Deployed
from simulator.traffic.function_metrics import FunctionMetrics, FunctionTally
from simulator.traffic.metrics import Batch, Metrics, Sample, Tally
from simulator.traffic.program_file import check_payloads
from simulator.traffic.scenario import Batching, Scenario
from simulator.traffic.servers import ApplicationServer, FunctionServer, MoEServer, Server

# -- arrivals ---------------------------------------------------------------------------------------------


def at_each(
    env: simpy.Environment,
    times: Iterator[float],
    arrive: Callable[[], object],
    exhausted: Callable[[], object] | None = None,
) -> None:
    """Call `arrive` at each of the sorted times (s), and `exhausted` after the last, while `env` runs."""

    def arrived(_: simpy.Event) -> None:
        arrive()
        schedule()

    def schedule() -> None:
        at = next(times, None)
        if at is not None:
            env.timeout(max(0.0, at - env.now)).callbacks.append(arrived)
        elif exhausted is not None:
            exhausted()

    schedule()


def open_loop(
    service: LambdaService, gaps: Iterable[float], works: Iterable[float], record_of: Callable[[int], Record]
) -> None:
    """Invoke a function for each arrival, in the simplest way: no batches, no metrics. Then run `service.env`.

    Args:
        service: where the calls run; its `keep` gets their rows.
        gaps: times between arrivals, s; the first counts from 0. It ends the load.
        works: seconds of work of each call; at least as many.
        record_of: the row of call number k, from 0.
    """
    work, numbers = iter(works), itertools.count()
    at_each(
        service.env,
        itertools.accumulate(gaps),
        lambda: service.invoke(record_of(next(numbers)), (Compute(next(work)),)),
    )


class Batcher:
    """Gathers requests into batches; a batch leaves when it is full or its first request has waited the timeout.

    Args:
        env: the SimPy environment.
        policy: largest size, and timeout (s).
        leave: called with each batch when it leaves.
    """

    def __init__(self, env: simpy.Environment, policy: Batching, leave: Callable[[Batch], None]) -> None:
        self._env, self._leave = env, leave
        self._most, self._timeout_s = policy.max_requests, policy.timeout_s
        self._number = 0
        self.waiting: list[float] = []

    def arrive(self) -> None:
        """A request arrives now."""
        self.waiting.append(self._env.now)
        if len(self.waiting) == self._most:
            self._send()
        elif len(self.waiting) == 1:
            self._env.timeout(self._timeout_s, self._number).callbacks.append(self._on_timeout)

    def _on_timeout(self, event: simpy.Event) -> None:
        if event.value == self._number:  # else the batch left full
            self._send()

    def _send(self) -> None:
        batch = Batch(self._number, self.waiting, left_s=self._env.now)
        self._number += 1
        self.waiting = []
        self._leave(batch)


# -- one replication --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """A scenario, and the files that it names, read and checked."""

    scenario: Scenario
    profile: PlatformProfile
    problem: DeploymentProblem | None = None
    plan: AnyPlan | None = None


def read_inputs(scenario: Scenario) -> Inputs:
    """Read what a scenario names. Raises InputError."""
    profile = load_profile(scenario.profile)
    if scenario.arrivals.trace is not None:
        with named("arrivals.trace"):
            scenario.arrivals.trace.check(scenario.duration_s)
    if scenario.prewarming is not None:
        prewarming_policy(scenario.prewarming.policy, scenario.prewarming.options)
    deployed: dict[str, Deployed] = {
        f"functions.{name}": function for name, function in (scenario.functions or {}).items()
    }
    if scenario.function is not None:
        deployed = {"function": scenario.function}
    for key, function in deployed.items():
        function.check(key, profile)
    account = profile.concurrency.account.median
    set_aside = sum(function.concurrency for function in deployed.values())
    if set_aside > account:
        raise InputError(
            f"reserved_concurrency and provisioned_instances, of all functions: expected at most the account's "
            f"{account:g}, got {set_aside}"
        )
    if scenario.functions is not None and scenario.entry is not None:
        check_payloads(scenario.functions, scenario.entry, profile)
    if scenario.moe is None:
        return Inputs(scenario, profile)
    with named("moe.problem"):
        problem = read_problem(scenario.moe.problem)
    if problem.served_tokens <= 0:
        raise InputError(f"{scenario.moe.problem}: expected tokens for some expert, got none")
    with named("moe.plan"):
        return Inputs(scenario, profile, problem, read_any_plan(scenario.moe.plan, problem))


@dataclass(frozen=True)
class Served:
    """One replication.

    Attributes:
        metrics: what it comes to, warm-up removed.
        latency_s: of served requests, or of a sample of them, shape (requests,).
        arrived: requests that arrived, warm-up included. end_s: when the last call ended.
        stopped: why the simulation was stopped before its end, or None.
        bill: of a request, by parts. engine: what played it, `simpy` or `fast`.
        functions: of an application, each function's. all_ended_s: from a served request's arrival to the end of
            its batch's last call, of those that nobody waited for as well, shape (requests,).
        generation: of a model that generates, percentiles of the times to the first token and of a further one, s.
    """

    metrics: Metrics
    latency_s: np.ndarray
    arrived: int
    end_s: float
    stopped: str | None
    bill: Bill
    engine: str = "simpy"
    functions: dict[str, FunctionMetrics] = field(default_factory=dict)
    all_ended_s: np.ndarray = field(default_factory=lambda: np.empty(0))
    generation: dict[str, float] = field(default_factory=dict)


class Replication:
    """One replication of a scenario on a fresh platform.

    Args:
        inputs: the scenario and its files.
        rng: of all random streams.
        keep_row: called with each attempt's row. keep_batch: with each batch at its end.
        platform: instead of the scenario's profile.
    """

    engine = "simpy"

    def __init__(
        self,
        inputs: Inputs,
        rng: np.random.Generator,
        keep_row: Callable[[Record], object] | None = None,
        keep_batch: Callable[[Batch], object] | None = None,
        platform: Platform | None = None,
    ) -> None:
        arriving, serving, rolling, sampling = rng.spawn(4)
        scenario = self._scenario = inputs.scenario
        self._keep_row, self._keep_batch = keep_row, keep_batch
        if platform is None:
            constants = inputs.problem.platform if inputs.problem else None
            platform = platform_of_profile(inputs.profile, constants, rolling)
        if scenario.moe is not None:
            platform = as_served(platform, scenario.moe)
        self._service = service = self._service_on(platform)
        self._env = service.env
        self._server = _server(service, inputs, serving)
        self._functions = list(service.functions.values())
        self._by_function = FunctionTally(scenario.functions) if scenario.functions else None
        tokens = scenario.moe.tokens_per_request if scenario.moe else 0
        self._tally = Tally(
            scenario.warm_up_s, scenario.slo_s, Sample(sampling), tokens, scenario.duration_s or math.inf
        )
        if scenario.moe is not None and scenario.moe.generated_tokens:
            self._tally.first_token_s, self._tally.token_s = Sample(sampling), Sample(sampling)
        self._batcher = Batcher(self._env, scenario.batching, self._leave)
        self._blocks = limited(scenario.arrivals.process.blocks(arriving), scenario.duration_s, scenario.requests)
        self._arrived = self._backlog = 0
        self._last_s = 0.0
        self._silent_since: float | None = None

    def _service_on(self, platform: Platform) -> LambdaService:
        choice = self._scenario.prewarming
        prewarming = None if choice is None else prewarming_policy(choice.policy, choice.options)
        return LambdaService(simpy.Environment(0.0), platform, self._on_row, prewarming)

    def run(self) -> Served:
        """Play it to its end, or until it is stopped."""
        stopped = self._play()
        if stopped:
            self._tally.horizon_s = min(self._tally.horizon_s, self._env.now)
        self._service.charge_provisioned(self._last_s)
        waiting = sum(at >= self._scenario.warm_up_s for at in self._batcher.waiting)
        metrics = self._tally.metrics(waiting)
        latency_s = self._tally.latency_s.kept()
        bill = self._tally.bill.per_batch(max(1.0, metrics.requests))
        served = Served(
            metrics,
            latency_s,
            self._arrived,
            self._last_s,
            stopped,
            bill,
            self.engine,
            generation=self._tally.generation(),
        )
        if self._by_function is None:
            return served
        by_function, all_ended_s = self._by_function.metrics(metrics.requests), self._by_function.all_ended_s()
        return replace(served, functions=by_function, all_ended_s=all_ended_s)

    def _play(self) -> str | None:
        """Let all happen; returns why it was stopped, or None."""
        times = itertools.chain.from_iterable(block.tolist() for block in self._blocks)
        at_each(self._env, times, self._arrive, self._exhausted)
        with _garbage_seldom():
            stopped = self._env.run()
        return str(stopped) if stopped else None

    def _arrive(self) -> None:
        self._arrived += 1
        self._backlog += 1
        if self._silent_since is None:
            self._silent_since = self._env.now
        most = self._scenario.stop_when.backlog_requests
        if self._backlog > most:
            self._stop(f"more than {most:,} requests waited or were being served")
        self._batcher.arrive()

    def _exhausted(self) -> None:
        if self._scenario.duration_s is None:
            self._tally.horizon_s = self._env.now

    def _leave(self, batch: Batch) -> None:
        self._tally.left(batch)
        if self._by_function is not None:
            self._by_function.left(batch)
        self._server.serve(batch, self._done)

    def _done(self, batch: Batch, ok: bool) -> None:
        batch.ended_s, batch.ok = self._env.now, ok
        self._backlog -= len(batch.arrived_s)
        self._tally.ended(batch)
        if self._by_function is not None and ok and self._tally.counts(batch.number):
            self._by_function.served(batch)
        if self._keep_batch is not None:
            self._keep_batch(batch)
        if ok:
            self._silent_since = None

    def _on_row(self, row: Record) -> None:
        if row.role in STANDBY:
            self._on_standby(row)
            return
        self._last_s = self._env.now
        running = (
            self._functions[0].running if len(self._functions) == 1 else sum(f.running for f in self._functions)
        )
        self._tally.row(row, running + (row.status != "throttled"))
        if self._by_function is not None:
            self._by_function.row(row, self._tally.counts(row.batch))
        if self._keep_row is not None:
            self._keep_row(row)
        if row.status != "ok" and self._silent_since is not None:
            limit_s = self._scenario.stop_when.no_success_s
            if self._env.now - self._silent_since > limit_s:
                self._stop(
                    f"no request succeeded for {limit_s:g} s; the last attempt: {row.function}, {row.status}"
                )

    def _on_standby(self, row: Record) -> None:
        usd = self._tally.standby(row)
        if self._by_function is not None:
            self._by_function.standby(row, usd)
        if self._keep_row is not None:
            self._keep_row(row)

    def _stop(self, reason: str) -> None:
        raise StopSimulation(self._stopped_now(reason))

    def _stopped_now(self, reason: str) -> str:
        return f"{reason}, at {self._env.now:.1f} s"


def _server(service: LambdaService, inputs: Inputs, rng: np.random.Generator) -> Server:
    scenario = inputs.scenario
    if scenario.function is not None:
        return FunctionServer(service, scenario.function, rng)
    if scenario.functions is not None and scenario.entry is not None:
        return ApplicationServer(service, scenario.functions, scenario.entry, rng)
    assert scenario.moe is not None
    assert inputs.problem is not None
    assert inputs.plan is not None
    return MoEServer(service, scenario.moe, inputs.problem, inputs.plan, rng)


@contextmanager
def _garbage_seldom() -> Iterator[None]:
    """Calls leave no circles behind: to look for them among kept rows would take a quarter of the time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def replication_rngs(scenario: Scenario) -> list[np.random.Generator]:
    """The generator of each replication: independent streams, spawned from the scenario's seed."""
    return np.random.default_rng(scenario.seed).spawn(scenario.replications)
