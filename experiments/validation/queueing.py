"""Lambda beside queueing theory: concurrency, throttling and cold starts on Poisson arrivals."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import simpy

from experiments.tools.cases import bert_problem
from experiments.validation.checks import Check, over_seeds
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute
from simulator.cloud.platform import Platform, ideal_platform
from simulator.draws import Draws
from simulator.plan import DeploymentProblem
from simulator.records import Record

UNUSED = np.random.default_rng(0)


@functools.cache
def _smallest_problem() -> DeploymentProblem:
    return bert_problem(1, 1, 1)


def at_once(**changes: object) -> Platform:
    """A platform whose calls start at once and take exactly their work; `changes`: as of `Platform.changed`."""
    return ideal_platform(_smallest_problem()).changed(start={"warm": Draws(0.0, UNUSED)}).changed(**changes)


def poisson(rate: float, mean_work_s: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Poisson arrivals and their exponential work, s, shapes (count,)."""
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.exponential(1 / rate, count)), rng.exponential(mean_work_s, count)


def play(service: LambdaService, arrivals: np.ndarray, work: np.ndarray) -> None:
    """Call a function `f` at each arrival (s) for its work (s), until all have ended."""

    def arrive(work_s: float) -> Callable[[], object]:
        return lambda: service.invoke(Record(0, 0, "request", "f", 1024), (Compute(work_s),))

    for at, work_s in zip(arrivals.tolist(), work.tolist(), strict=True):
        service.after(at, arrive(work_s))
    service.env.run()


def poisson_load(
    service: LambdaService, rate: float, mean_work_s: float, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Play Poisson arrivals of exponential work on a function `f`; returns arrival times and work, s."""
    arrivals, work = poisson(rate, mean_work_s, count, seed)
    play(service, arrivals, work)
    return arrivals, work


def queueing_checks(seeds: int) -> list[Check]:
    """Mean concurrency of M/M/inf, Erlang-B, and cold starts of last-used-first reuse."""
    concurrency, throttled, cold, window = [], [], [], []
    for seed in range(seeds):
        service = LambdaService(simpy.Environment(), at_once())
        arrivals, _ = poisson_load(service, 50.0, 0.4, 20_000, seed)
        concurrency.append(sum(row.ended_s - row.started_s for row in service.records) / arrivals[-1])
        service = LambdaService(simpy.Environment(), at_once())
        service.deploy("f", 1024, reserved=5)
        poisson_load(service, 3.0, 1.0, 20_000, seed)
        throttled.append(float(np.mean([row.status == "throttled" for row in service.records])))
        service = LambdaService(simpy.Environment(), at_once(start={"keep_alive": Draws(3.0, UNUSED)}))
        arrivals, work = poisson_load(service, 2.0, 0.8, 5_000, seed)
        cold.append(float(np.mean([row.cold for row in service.records])))
        window.append(cold_by_sliding_window(arrivals, work, 3.0) / len(arrivals))
    return [
        over_seeds("mean concurrency, 50 calls/s of 0.4 s", "M/M/inf", 20.0, concurrency),
        over_seeds("throttled share, load 3 on 5", "Erlang-B", erlang_b(5, 3.0), throttled),
        over_seeds("cold-start share, keep-alive 3 s", "sliding window", float(np.mean(window)), cold),
    ]


def erlang_b(servers: int, load: float) -> float:
    """Share of calls that find all servers busy."""
    terms = [load**k / math.factorial(k) for k in range(servers + 1)]
    return terms[-1] / sum(terms)


def cold_by_sliding_window(arrivals: np.ndarray, work: np.ndarray, keep_alive_s: float) -> int:
    """Cold starts of last-used-first reuse: a call that lifts concurrency to level m is warm only if level m was
    last left within the keep-alive."""
    steps = [(at, 1) for at in arrivals] + [(at, -1) for at in arrivals + work]
    level, cold, left_s = 0, 0, [-math.inf] * (len(arrivals) + 1)
    for at, step in sorted(steps):
        if step > 0:
            level += 1
            cold += at - left_s[level] > keep_alive_s
        else:
            left_s[level] = at
            level -= 1
    return cold
