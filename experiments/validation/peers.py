"""Another simulator, SimFaaS, on the same calls, and a model of 20 lines that knows both rules of reuse.

SimFaaS reuses the idle instance that was *started* last, this simulator the one *used* last. The model plays
either rule, so that the difference between the simulators can be told from the difference between the rules.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import simpy

from experiments.validation.checks import Check, over_seeds
from experiments.validation.queueing import UNUSED, at_once, play, poisson
from simulator.cloud.lambda_service import LambdaService
from simulator.draws import Draws

Reuse: TypeAlias = Literal["started", "used"]

RATE, WORK_S, KEEP_ALIVE_S, SPAN_S = 5.0, 0.5, 4.0, 4000.0
WORKLOAD = f"{RATE:g} calls/s of {WORK_S:g} s, keep-alive {KEEP_ALIVE_S:g} s"


@dataclass(frozen=True)
class Reused:
    """What a rule of reuse comes to: share of calls that start cold, and mean number of instances."""

    cold_share: float
    instances: float


def peer_checks(seeds: int) -> list[Check]:
    """Cold starts and instances of SimFaaS, of this simulator and of the model; nothing without SimFaaS."""
    if not importlib.util.find_spec("simfaas"):
        return []
    calls = [poisson(RATE, WORK_S, int(RATE * SPAN_S), seed) for seed in range(seeds)]
    theirs, ours = ([run(*each) for each in calls] for run in (simfaas_run, our_run))
    model: dict[Reuse, list[Reused]] = {
        "started": [reuse_model(*each, "started") for each in calls],
        "used": [reuse_model(*each, "used") for each in calls],
    }
    rows = [
        ("SimFaaS", theirs, "this simulator", ours),
        ("SimFaaS", theirs, "model, started last", model["started"]),
        ("model, used last", model["used"], "this simulator", ours),
        ("model, started last", model["started"], "model, used last", model["used"]),
    ]
    checks = []
    for source, expected, name, found in rows:
        for quantity, field in (("cold-start share", "cold_share"), ("mean instances", "instances")):
            mean = float(np.mean([getattr(each, field) for each in expected]))
            checks.append(
                over_seeds(f"{quantity}: {name}", source, mean, [getattr(each, field) for each in found])
            )
    return checks


def reuse_model(arrivals: np.ndarray, work: np.ndarray, reuse: Reuse) -> Reused:
    """Play calls on instances that a rule reuses: no events, no service, only who is free when.

    Args:
        arrivals, work: of each call, s, shapes (calls,).
        reuse: which idle instance is taken: the one `started` last or the one `used` last.
    """
    instances: list[list[float]] = []  # when each was started, and when it is free
    alive_s, cold = 0.0, 0
    for at, work_s in zip(arrivals.tolist(), work.tolist(), strict=True):
        gone = [x for x in instances if x[1] + KEEP_ALIVE_S < at]
        alive_s += sum(free + KEEP_ALIVE_S - started for started, free in gone)
        instances = [x for x in instances if x[1] + KEEP_ALIVE_S >= at]
        idle = [x for x in instances if x[1] <= at]
        if idle:
            max(idle, key=lambda x: x[0 if reuse == "started" else 1])[1] = at + work_s
        else:
            instances.append([at, at + work_s])
            cold += 1
    end = float(arrivals[-1])
    alive_s += sum(min(end, free + KEEP_ALIVE_S) - started for started, free in instances)
    return Reused(cold / len(arrivals), alive_s / end)


def simfaas_run(arrivals: np.ndarray, work: np.ndarray) -> Reused:
    """The same calls by SimFaaS."""
    from simfaas.ServerlessSimulator import ServerlessSimulator
    from simfaas.SimProcess import SimProcess

    class Recorded(SimProcess):
        """Values that are known beforehand, one after the other."""

        def __init__(self, values: Iterator[float]) -> None:
            super().__init__()
            self._values = values

        def generate_trace(self) -> float:
            return next(self._values, math.inf)

    service = Recorded(iter(work.tolist()))
    simulator = ServerlessSimulator(
        arrival_process=Recorded(iter(np.diff(arrivals, prepend=0.0).tolist())),
        warm_service_process=service,
        cold_service_process=service,
        expiration_threshold=KEEP_ALIVE_S,
        max_time=float(arrivals[-1]),
    )
    simulator.generate_trace(debug_print=False, progress=False)
    return Reused(simulator.total_cold_count / simulator.total_req_count, simulator.get_average_server_count())


def our_run(arrivals: np.ndarray, work: np.ndarray) -> Reused:
    """The same calls by this simulator."""
    service = LambdaService(simpy.Environment(), at_once(start={"keep_alive": Draws(KEEP_ALIVE_S, UNUSED)}))
    play(service, arrivals, work)
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for row in service.records:
        first[row.instance] = min(first.get(row.instance, math.inf), row.requested_s)
        last[row.instance] = max(last.get(row.instance, 0.0), row.ended_s)
    end = float(arrivals[-1])
    alive_s = sum(min(end, last[name] + KEEP_ALIVE_S) - first[name] for name in first)
    return Reused(float(np.mean([row.cold for row in service.records])), alive_s / end)
