"""Open-loop traffic: requests arrive whether or not earlier ones are answered, are batched, and served by Lambda.

One callback an arrival, which schedules the next; random numbers in blocks; no process a request. What is served
is a generic function, or a deployed MoE model (each batch one forward pass). Rows and batches stream to whoever
keeps them, so memory grows by one latency (8 bytes) a request.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import simpy
from simpy.core import StopSimulation

from moe.errors import InputError
from simulator.arrivals import limited
from simulator.lambda_service import LambdaService
from simulator.overflow import replicas_that_fit
from simulator.plan import DeploymentPlan, DeploymentProblem, read_plan, read_problem
from simulator.platform import Platform, platform_of_profile
from simulator.profile import PlatformProfile, load_profile
from simulator.program import Compute
from simulator.records import Record
from simulator.replicas import problem_of_size, whole_tokens
from simulator.scatter_gather import ForwardPass, Serving
from simulator.scenario import Batching, FunctionChoice, MoEChoice, Scenario
from simulator.simulate import deploy_plan
from simulator.traffic_metrics import Batch, Metrics, Tally

FUNCTION = "function"


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


# -- what serves ------------------------------------------------------------------------------------------


class Server(Protocol):
    """Serves batches."""

    def serve(self, batch: Batch, done: Callable[[Batch, bool], None]) -> None:
        """Start serving a batch now; `done` is called once, with whether it succeeded."""


class FunctionServer:
    """A generic function: a batch is one call, whose work is that of its requests one after the other."""

    def __init__(self, service: LambdaService, choice: FunctionChoice, rng: np.random.Generator) -> None:
        self._service, self._memory_mb, self._call_s = service, choice.memory_mb, choice.call_s
        self._work = choice.work.draws(rng)
        service.deploy(
            FUNCTION,
            choice.memory_mb,
            timeout_s=choice.timeout_s,
            reserved=choice.reserved_concurrency,
            warm=choice.warm_instances,
        )

    def serve(self, batch: Batch, done: Callable[[Batch, bool], None]) -> None:
        """Invoke the function."""
        work_s = self._call_s + sum(itertools.islice(self._work, len(batch.arrived_s)))
        record = Record(batch.number, 0, "function", FUNCTION, self._memory_mb)
        self._service.invoke(record, (Compute(work_s),), lambda last: done(batch, last.status == "ok"))


class MoEServer:
    """A deployed MoE model: a batch is one forward pass; passes run side by side on the same functions.

    A batch of n tokens has the problem's popularity, scaled to n tokens, and n's share of the problem's non-MoE
    compute; replicas are the planned ones, or as many as the tokens need (`simulator.overflow`).
    """

    def __init__(
        self,
        service: LambdaService,
        choice: MoEChoice,
        problem: DeploymentProblem,
        plan: DeploymentPlan,
        rng: np.random.Generator,
    ) -> None:
        self._service, self._choice, self._plan, self._rng = service, choice, plan, rng
        self._problem = problem
        self._scaled: dict[int, tuple[DeploymentProblem, list[np.ndarray]]] = {}
        deploy_plan(service, problem, plan, warm=choice.warm)

    def serve(self, batch: Batch, done: Callable[[Batch, bool], None]) -> None:
        """Start a forward pass."""
        size = len(batch.arrived_s) * self._choice.tokens_per_request
        problem, tokens = self._scaled.get(size) or self._scale(size)
        if self._choice.tokens == "multinomial":
            tokens = [self._rng.multinomial(int(each.sum()), each / max(1, each.sum())) for each in tokens]
        replicas = [replicas_that_fit(problem, e, layer, tokens[e]) for e, layer in enumerate(self._plan.layers)]
        serving = Serving(self._choice.start)
        one = ForwardPass(self._service, problem, self._plan, tokens, replicas, serving, batch.number)
        ended = one.run()
        assert ended.callbacks is not None
        ended.callbacks.append(lambda _: done(batch, one.failed is None))

    def _scale(self, size: int) -> tuple[DeploymentProblem, list[np.ndarray]]:
        """The problem for batches of `size` tokens, and their tokens of each expert of each layer."""
        problem = problem_of_size(self._problem, size)
        self._scaled[size] = problem, [whole_tokens(layer.tokens) for layer in problem.layers]
        return self._scaled[size]


# -- one replication --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """A scenario, and the files that it names, read and checked."""

    scenario: Scenario
    profile: PlatformProfile
    problem: DeploymentProblem | None = None
    plan: DeploymentPlan | None = None


def read_inputs(scenario: Scenario) -> Inputs:
    """Read what a scenario names. Raises InputError."""
    profile = load_profile(scenario.profile)
    if scenario.arrivals.trace is not None:
        scenario.arrivals.trace.check(scenario.duration_s)
    reserved = None if scenario.function is None else scenario.function.reserved_concurrency
    account = profile.concurrency.account.median
    if reserved is not None and reserved > account:
        raise InputError(
            f"function.reserved_concurrency: expected at most the account's {account:g}, got {reserved}"
        )
    if scenario.moe is None:
        return Inputs(scenario, profile)
    problem = read_problem(scenario.moe.problem)
    if problem.served_tokens <= 0:
        raise InputError(f"{scenario.moe.problem}: expected tokens for some expert, got none")
    return Inputs(scenario, profile, problem, read_plan(scenario.moe.plan, problem))


@dataclass(frozen=True)
class Served:
    """One replication.

    Attributes:
        metrics: what it comes to, warm-up removed.
        latency_s: of served requests, in the order in which they ended, shape (requests,).
        arrived: requests that arrived, warm-up included. end_s: when the last call ended.
        stopped: why the simulation was stopped before its end, or None.
    """

    metrics: Metrics
    latency_s: np.ndarray
    arrived: int
    end_s: float
    stopped: str | None


class Replication:
    """One replication of a scenario on a fresh platform.

    Args:
        inputs: the scenario and its files.
        rng: of all random streams.
        keep_row: called with each attempt's row. keep_batch: with each batch at its end.
        platform: instead of the scenario's profile.
    """

    def __init__(
        self,
        inputs: Inputs,
        rng: np.random.Generator,
        keep_row: Callable[[Record], object] | None = None,
        keep_batch: Callable[[Batch], object] | None = None,
        platform: Platform | None = None,
    ) -> None:
        arriving, serving, rolling = rng.spawn(3)
        scenario = self._scenario = inputs.scenario
        self._keep_row, self._keep_batch = keep_row, keep_batch
        if platform is None:
            constants = inputs.problem.platform if inputs.problem else None
            platform = platform_of_profile(inputs.profile, constants, rolling)
        self._env = simpy.Environment()
        service = LambdaService(self._env, platform, keep=self._on_row)
        self._server = _server(service, inputs, serving)
        self._functions = list(service.functions.values())
        tokens = scenario.moe.tokens_per_request if scenario.moe else 0
        self._tally = Tally(scenario.warm_up_s, scenario.slo_s, tokens, scenario.duration_s or math.inf)
        self._batcher = Batcher(self._env, scenario.batching, self._leave)
        self._blocks = limited(scenario.arrivals.process.blocks(arriving), scenario.duration_s, scenario.requests)
        self._arrived = self._backlog = 0
        self._last_s = 0.0
        self._silent_since: float | None = None

    def run(self) -> Served:
        """Play it to its end, or until it is stopped."""
        times = itertools.chain.from_iterable(block.tolist() for block in self._blocks)
        at_each(self._env, times, self._arrive, self._exhausted)
        stopped = self._env.run()
        if stopped:
            self._tally.horizon_s = min(self._tally.horizon_s, self._env.now)
        waiting = sum(at >= self._scenario.warm_up_s for at in self._batcher.waiting)
        metrics = self._tally.metrics(waiting)
        latency_s = np.array(self._tally.latency_s)
        return Served(metrics, latency_s, self._arrived, self._last_s, str(stopped) if stopped else None)

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
        self._server.serve(batch, self._done)

    def _done(self, batch: Batch, ok: bool) -> None:
        batch.ended_s, batch.ok = self._env.now, ok
        self._backlog -= len(batch.arrived_s)
        self._tally.ended(batch)
        if self._keep_batch is not None:
            self._keep_batch(batch)
        if ok:
            self._silent_since = None

    def _on_row(self, row: Record) -> None:
        self._last_s = self._env.now
        running = (
            self._functions[0].running if len(self._functions) == 1 else sum(f.running for f in self._functions)
        )
        self._tally.row(row, running + (row.status != "throttled"))
        if self._keep_row is not None:
            self._keep_row(row)
        if row.status != "ok" and self._silent_since is not None:
            limit_s = self._scenario.stop_when.no_success_s
            if self._env.now - self._silent_since > limit_s:
                self._stop(
                    f"no request succeeded for {limit_s:g} s; the last attempt: {row.function}, {row.status}"
                )

    def _stop(self, reason: str) -> None:
        raise StopSimulation(f"{reason}, at {self._env.now:.1f} s")


def _server(service: LambdaService, inputs: Inputs, rng: np.random.Generator) -> Server:
    scenario = inputs.scenario
    if scenario.function is not None:
        return FunctionServer(service, scenario.function, rng)
    assert scenario.moe is not None
    assert inputs.problem is not None
    assert inputs.plan is not None
    return MoEServer(service, scenario.moe, inputs.problem, inputs.plan, rng)


def replication_rngs(scenario: Scenario) -> list[np.random.Generator]:
    """The generator of each replication: independent streams, spawned from the scenario's seed."""
    return np.random.default_rng(scenario.seed).spawn(scenario.replications)
