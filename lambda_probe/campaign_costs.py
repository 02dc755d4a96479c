"""What a campaign costs: expected, at most, and by what was billed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lambda_probe.backend import BackendPrices, ProbeFunction
from lambda_probe.probes import ATTEMPTS_PER_SAMPLE, DEPLOYING_S, STARTING_S, Step
from lambda_probe.works import GetObjects, PutObjects, Send

NEVER_RAN = ("throttled", "payload-too-large")


@dataclass(frozen=True)
class Estimate:
    """What a plan comes to.

    Attributes:
        functions: deployed, one after another. invocations: those that functions make included.
        gb_s, usd, wall_s: expected. most_gb_s, most_usd: if every call ran into its timeout, and as many calls as
            are allowed were needed.
    """

    functions: int
    invocations: int
    gb_s: float
    usd: float
    wall_s: float
    most_gb_s: float
    most_usd: float


def estimate(steps: Iterable[Step], prices: BackendPrices) -> Estimate:
    """What steps are expected to come to, and the most that they can."""
    functions: dict[str, ProbeFunction] = {}
    invocations, gb_s, most_gb_s, wall_s = 0, 0.0, 0.0, 0.0
    requests_usd, most_requests_usd = 0.0, 0.0
    for step in steps:
        calls = step.calls + step.samples * (step.manner == "sized")
        usd = _request_usd(step, prices)
        for function in filter(None, (step.function, step.target)):
            new = function.name not in functions
            functions[function.name] = function
            gb = function.memory_mb / 1024
            inner = step.work.repeats if isinstance(step.work, Send) and function is step.target else 1
            cold = STARTING_S * (calls if step.manner in ("cold", "burst") else new)
            invocations += calls * inner + new
            gb_s += gb * (calls * step.call_s + cold)
            most_gb_s += gb * (ATTEMPTS_PER_SAMPLE * calls * inner + new) * (function.timeout_s + 10)
            usd += prices.invocation * inner * (function is step.target)
            wall_s += DEPLOYING_S * new
        requests_usd += calls * usd
        most_requests_usd += ATTEMPTS_PER_SAMPLE * calls * usd
        wall_s += step.expected_s
    return Estimate(
        functions=len(functions),
        invocations=invocations,
        gb_s=gb_s,
        usd=gb_s * prices.gb_s + requests_usd,
        wall_s=wall_s,
        most_gb_s=most_gb_s,
        most_usd=most_gb_s * prices.gb_s + most_requests_usd,
    )


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
