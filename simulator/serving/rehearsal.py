"""What a program is expected to take: the program itself, played on the platform's medians."""

from __future__ import annotations

import math

from simulator.cloud.call import Call, CallFailed, Function, Instance, Program
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.network import Link
from simulator.records import Record

PARAMETERS = "parameters"  # what an instance that keeps them remembers of its first call


def expected_end_s(
    service: LambdaService,
    program: Program,
    memory_mb: int,
    invoked_s: float = 0.0,
    published_s: float = 0.0,
    begins_s: float | None = None,
) -> float:
    """When a program is expected to end, s, well or not: medians only, on an instance that has served before.

    Args:
        service: on which it will run. memory_mb: of its function.
        invoked_s: when it is invoked. begins_s: when its handler begins, instead.
        published_s: when what it waits for is there.
    """
    still = service.platform.still
    down, up = still.network.rates(memory_mb), still.network.upload_rates(memory_mb)
    function = Function("", memory_mb, still.start.package, math.inf)
    call = Call(service, still, function, Record(0, 0, "", "", memory_mb), program)
    call.instance = Instance("", Link(down, 0.0), Link(up, 0.0), done=(PARAMETERS,))
    at = invoked_s + still.start.warm.next() if begins_s is None else begins_s
    try:
        for phase in program:
            at = phase.run(call, at) if phase.alone else max(at, published_s)
    except CallFailed as failure:
        return failure.at_s
    return at
