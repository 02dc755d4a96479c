"""What a campaign costs: expected, at most, and by what was billed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lambda_probe.campaign.backend import BackendPrices, ProbeFunction
from lambda_probe.campaign.steps import ATTEMPTS_PER_SAMPLE, DEPLOYING_S, STARTING_S, Step, together
from lambda_probe.campaign.works import GetObjects, PutObjects, Send

LONGEST_INIT_S = 10.0
NEVER_RAN = ("throttled", "payload-too-large")


@dataclass(frozen=True)
class Estimate:
    """What a plan comes to.

    Attributes:
        functions: deployed, one after another. invocations: those that functions make included.
        gb_s, usd, wall_s: expected. most_invocations, most_gb_s, most_usd: if every call ran into its timeout, and
            as many were needed as are allowed. most_call_usd: of the dearest call, burst or live batch. idle_s: of
            wall_s, what instances only wait to see how long they are kept.
    """

    functions: int
    invocations: int
    gb_s: float
    usd: float
    wall_s: float
    most_invocations: int
    most_gb_s: float
    most_usd: float
    most_call_usd: float
    idle_s: float = 0.0


def estimate(steps: Iterable[Step], prices: BackendPrices) -> Estimate:
    """What steps are expected to come to, and the most that they can."""
    steps, names = list(steps), set[str]()
    idle_s = sum(gap_s for _, gap_s in together(steps))
    wall_s, dearest_usd = idle_s + sum(step.expected_s for step in steps), 0.0
    expected, most = _Bill(), _Bill()
    for step in steps:
        calls = step.calls + step.samples * (step.manner == "sized")
        new = [each for each in step.functions if each.name not in names]
        names.update(each.name for each in new)
        cold = calls if step.manner in ("cold", "burst") else 0
        expected.add(step, calls, prices, step.call_s, STARTING_S * cold)
        worst_s = step.function.timeout_s + LONGEST_INIT_S
        most.add(step, ATTEMPTS_PER_SAMPLE * calls, prices, worst_s)
        one = _Bill()
        one.add(step, step.at_once, prices, worst_s)
        dearest_usd = max(dearest_usd, one.usd(prices))
        for function in new:
            expected.start(function, prices, STARTING_S)
            most.start(function, prices, ATTEMPTS_PER_SAMPLE * worst_s)
            wall_s += DEPLOYING_S
    return Estimate(
        functions=len(names),
        invocations=expected.invocations,
        gb_s=expected.gb_s,
        usd=expected.usd(prices),
        wall_s=wall_s,
        most_invocations=most.invocations,
        most_gb_s=most.gb_s,
        most_usd=most.usd(prices),
        most_call_usd=dearest_usd,
        idle_s=idle_s,
    )


@dataclass
class _Bill:
    """A sum over calls: invocations, GB-s, and their requests' price."""

    invocations: int = 0
    gb_s: float = 0.0
    requests_usd: float = 0.0

    def add(self, step: Step, calls: int, prices: BackendPrices, call_s: float, init_s: float = 0.0) -> None:
        """Calls of so many seconds each, and what they start; a function that is called takes as long."""
        inner = calls * step.work.repeats if isinstance(step.work, Send) else 0
        functions = 2 if inner else 1
        self.invocations += calls + inner
        self.gb_s += step.function.memory_mb / 1024 * (calls * call_s * functions + init_s)
        self.requests_usd += calls * _request_usd(step, prices) + inner * prices.invocation

    def start(self, function: ProbeFunction, prices: BackendPrices, seconds: float) -> None:
        """A first call."""
        self.invocations += 1
        self.gb_s += function.memory_mb / 1024 * seconds
        self.requests_usd += prices.invocation

    def usd(self, prices: BackendPrices) -> float:
        """All of it."""
        return self.gb_s * prices.gb_s + self.requests_usd


def _request_usd(step: Step, prices: BackendPrices) -> float:
    """Requests of one call: itself, and those to S3."""
    work = step.work
    if isinstance(work, GetObjects):
        return prices.invocation + work.repeats * work.connections * prices.get
    if isinstance(work, PutObjects):
        parts = work.connections + 2 if work.connections > 1 else 1  # an upload in parts is begun and completed
        return prices.invocation + work.repeats * parts * prices.put
    return prices.invocation


def row_usd(row: dict[str, Any], prices: BackendPrices) -> float:
    """What an attempt cost, by its row.

    One that may have run and has no REPORT line that can be read counts with the client's whole wait. A function
    that was called by a function is not in the table: it counts with what its handler took.
    """
    usd = float(row["compute_cost_usd"] + row["request_cost_usd"])
    gb = row["memory_mb"] / 1024
    if math.isnan(row.get("duration_s", math.nan)) and row["status"] not in NEVER_RAN:
        usd += row["client_s"] * gb * prices.gb_s
    if row.get("target_s"):
        billed_s = sum(math.ceil(1000 * seconds) / 1000 for seconds in row["target_s"])
        usd += billed_s * gb * prices.gb_s + len(row["target_s"]) * prices.invocation
    return usd
