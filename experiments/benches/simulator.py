"""Benchmarks: ratios of things measured in turn, in one run, since machines are noisy.

Seconds are the process's own (CPU time): what is measured computes in one thread, and what else the machine does
should not count.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from experiments.tools.cases import bert_problem, uniform_plan
from simulator.cloud.billing import Rates
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.platform import Platform, ideal_platform
from simulator.cloud.starts import Package
from simulator.draws import Draws, Lifetimes
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import load_profile
from simulator.records import Record
from simulator.serving.simulate import simulate
from simulator.traffic.fast import FastReplication
from simulator.traffic.open_loop import Inputs, open_loop
from simulator.traffic.scenario import Scenario

ROUNDS = 3


@dataclass(frozen=True)
class Measured:
    """One row of a benchmark: how much of `unit` a second (median of several rounds), and beside the first row."""

    name: str
    per_s: float
    unit: str
    of_first: float


@dataclass(frozen=True)
class Workload:
    """Workload W: Poisson requests, exponential service; a cold start adds an exponential time."""

    requests: int = 200_000
    rate: float = 100.0
    service_s: float = 0.2
    cold_s: float = 0.5
    keep_alive_s: float = 600.0


def in_turn(jobs: dict[str, Callable[[], int]], unit: str, rounds: int = ROUNDS) -> list[Measured]:
    """Run the jobs in turn, several rounds; each returns how much it did."""
    speeds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            began = time.process_time()
            done = job()
            speeds[name].append(done / (time.process_time() - began))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    first = next(iter(medians.values()))
    return [Measured(name, speed, unit, speed / first) for name, speed in medians.items()]


def simulator_speed(workload: Workload) -> list[Measured]:
    """Workload W on SimFaaS and Ciw (where they are installed), this simulator, and a bare SimPy process each.

    Ciw knows no cold starts: there the workload is without them.
    """
    jobs: dict[str, Callable[[], int]] = {}
    inputs = _inputs(workload)
    _fast(workload, _inputs(Workload(requests=1)))  # compiles
    if importlib.util.find_spec("simfaas"):
        jobs["SimFaaS"] = lambda: _simfaas(workload)
    if importlib.util.find_spec("ciw"):
        jobs["Ciw, no cold starts"] = lambda: _ciw(workload)
    jobs |= {
        "this simulator": lambda: _this_simulator(workload),
        "this simulator, fast": lambda: _fast(workload, inputs),
        "bare SimPy processes": lambda: _bare_simpy(workload),
    }
    return in_turn(jobs, "requests")


@dataclass(frozen=True)
class Month:
    """Requests of a function on AWS as simulated, by day and night, played fast.

    Attributes:
        requests: that were played. us: CPU time of each, microseconds. month_s: of 30 million.
    """

    requests: int
    us: float
    month_s: float


def month(requests: int = 1_000_000, rounds: int = ROUNDS) -> Month:
    """A month has a million requests a day; so many are played, the median of several rounds."""
    scenario = Scenario.model_validate(
        {
            "name": "month",
            "arrivals": {"diurnal": {"mean_rate_per_s": 1e6 / 86400, "peak_to_mean": 1.8}},
            "requests": requests,
            "slo_s": 0.5,
            "function": {"memory_mb": 1769, "work": {"quantiles_s": {0.5: 0.12, 0.9: 0.2, 0.99: 0.4}}},
        }
    )
    inputs, seconds = Inputs(scenario, load_profile()), []
    for seed in range(rounds):
        began = time.process_time()
        FastReplication(inputs, np.random.default_rng(seed)).run()
        seconds.append(time.process_time() - began)
    each = statistics.median(seconds) / requests
    return Month(requests, 1e6 * each, 30e6 * each)


@dataclass(frozen=True)
class BatchTime:
    """Seconds that one simulated batch takes, and how many invocations and minibatches are in it."""

    name: str
    seconds: float
    invocations: int
    minibatches: int = 0


def batch_times(rounds: int = 5) -> list[BatchTime]:
    """One batch of a Bert MoE, 12 x 4, 10,240 tokens, by communication method; the median of several rounds."""
    problem = bert_problem(12, 4, 10_240)
    methods: list[tuple[Communication, int | None]] = [
        ("storage", None),
        ("direct", None),
        ("pipelined", 64),
        ("pipelined", 8),
    ]
    return [
        _batch_time(
            problem, uniform_plan(problem, method, beta), method + (f", beta {beta}" if beta else ""), rounds
        )
        for method, beta in methods
    ]


def scaling(
    shapes: Iterable[tuple[int, int]] = ((12, 4), (12, 16), (58, 64), (58, 256)),
) -> list[BatchTime]:
    """One batch with `storage`, for (layers, experts): linear in the invocations if all is well."""
    found = []
    for layers, experts in shapes:
        problem = bert_problem(layers, experts, 10_240)
        plan = uniform_plan(problem, "storage", None)
        found.append(_batch_time(problem, plan, f"{layers} x {experts}", 3))
    return found


def slope_us(times: Sequence[BatchTime]) -> float:
    """Microseconds that another invocation takes: the least-squares slope over batches of several sizes."""
    counts = [each.invocations for each in times]
    return float(np.polyfit(counts, [each.seconds for each in times], 1)[0]) * 1e6


def _batch_time(problem: DeploymentProblem, plan: DeploymentPlan, name: str, rounds: int) -> BatchTime:
    profile, seconds, count = load_profile(), [], 0
    for _ in range(rounds):
        began = time.process_time()
        count = len(simulate(problem, plan, profile).records)
        seconds.append(time.process_time() - began)
    minibatches = sum(
        math.ceil(expert.tokens / chosen.replicas / (layer.minibatch_tokens or math.inf)) * chosen.replicas
        for here, layer in zip(problem.layers, plan.layers, strict=True)
        for expert, chosen in zip(here.experts, layer.experts, strict=True)
        if layer.minibatch_tokens
    )
    return BatchTime(name, statistics.median(seconds), count, minibatches)


@functools.cache
def _problem() -> DeploymentProblem:
    """Whatever it is: the ideal platform's constants."""
    return bert_problem(1, 1, 1)


def _platform(w: Workload, rng: np.random.Generator) -> Platform:
    """The ideal platform, with the workload's cold starts and keep-alive."""
    at_once = Draws(0.0, rng)
    package = Package(at_once, Lifetimes(w.cold_s, rng), True, Rates(((0.0, 0.0000166667),)))
    start = {"warm": at_once, "package": package, "keep_alive": Draws(w.keep_alive_s, rng)}
    return ideal_platform(_problem()).changed(start=start)


def _this_simulator(w: Workload) -> int:
    rng = np.random.default_rng(0)
    served = 0

    def count(row: Record) -> None:
        nonlocal served
        served += row.status == "ok"

    service = LambdaService(simpy.Environment(), _platform(w, rng), count)
    gaps = rng.exponential(1 / w.rate, w.requests).tolist()
    works = rng.exponential(w.service_s, w.requests).tolist()
    open_loop(service, gaps, works, lambda k: Record(k, 0, "function", "function", 1024))
    service.env.run()
    return served


def _inputs(w: Workload) -> Inputs:
    """The workload as a traffic scenario."""
    scenario = Scenario.model_validate(
        {
            "name": "W",
            "arrivals": {"poisson": {"rate_per_s": w.rate}},
            "requests": w.requests,
            "slo_s": 1.0,
            "function": {"memory_mb": 1024, "work": {"exponential_mean_s": w.service_s}},
        }
    )
    return Inputs(scenario, load_profile())


def _fast(w: Workload, inputs: Inputs) -> int:
    """A replication of the whole scenario, metrics included."""
    rng = np.random.default_rng(0)
    return int(FastReplication(inputs, rng, platform=_platform(w, rng)).run().metrics.requests)


def _bare_simpy(w: Workload) -> int:
    rng = np.random.default_rng(0)
    env = simpy.Environment()
    work = rng.exponential(w.service_s, w.requests).tolist()

    def request() -> Generator[simpy.Event, Any, None]:
        yield env.timeout(work.pop())

    def arrivals() -> Generator[simpy.Event, Any, None]:
        for gap in rng.exponential(1 / w.rate, w.requests).tolist():
            yield env.timeout(gap)
            env.process(request())

    env.process(arrivals())
    env.run()
    return w.requests


def _ciw(w: Workload) -> int:
    import ciw

    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate=w.rate)],
        service_distributions=[ciw.dists.Exponential(rate=1 / w.service_s)],
        number_of_servers=[math.inf],
    )
    ciw.seed(0)
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_customers(w.requests, method="Finish")
    return w.requests


def _simfaas(w: Workload) -> int:
    from simfaas.ServerlessSimulator import ServerlessSimulator

    simulator = ServerlessSimulator(
        arrival_rate=w.rate,
        warm_service_rate=1 / w.service_s,
        cold_service_rate=1 / (w.service_s + w.cold_s),
        expiration_threshold=w.keep_alive_s,
        max_time=w.requests / w.rate,
    )
    simulator.generate_trace(debug_print=False, progress=False)
    return int(simulator.total_req_count)
