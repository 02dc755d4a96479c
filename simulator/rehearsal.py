"""What a program is expected to take: the program itself, played on the platform's medians."""

from __future__ import annotations

import math

from simulator.lambda_service import Instance, LambdaService
from simulator.network import Link
from simulator.program import Call, CallFailed, Program
from simulator.records import Record


def expected_end_s(
    service: LambdaService,
    program: Program,
    memory_mb: int,
    invoked_s: float = 0.0,
    published_s: float = 0.0,
    begins_s: float | None = None,
) -> float:
    """When a program is expected to end, s, well or not, with every distribution at its median and a warm start.

    Args:
        service: on which it will run. memory_mb: of its function.
        invoked_s: when it is invoked. begins_s: when its handler begins, instead.
        published_s: when what it waits for is there.
    """
    still = service.platform.still()
    rates = still.link_rates(memory_mb)
    instance = Instance("", Link(rates, 0.0), Link(rates, 0.0), 0.0, math.inf)
    call = Call(service, still, instance, Record(0, 0, "", "", memory_mb), math.inf, "")
    at = invoked_s + still.warm_start.next() if begins_s is None else begins_s
    try:
        for phase in program:
            at = phase.run(call, at) if phase.alone else max(at, published_s)
    except CallFailed as failure:
        return failure.at_s
    return at
