"""The handler of every function of a live model: one zip, the event says which part it is."""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

from lambda_probe.handlers import blocks, exchange, expert, layers, non_moe

_INSTANCE = uuid.uuid4().hex[:8]


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """One call on Lambda."""
    world = exchange.Boto(event["bucket"])
    if event["role"] == "warm-up":  # one instance for each such call at a time is there afterwards
        world.has("nothing")
        time.sleep(event["seconds"])
        return {}
    return serve(world, event, context.aws_request_id)


def serve(world: exchange.World, event: dict[str, Any], request_id: str = "") -> dict[str, Any]:
    """One call: done, and told in the log. A failure is told to whoever waits."""
    account = exchange.Account(
        batch=event["batch"],
        layer=event["layer"],
        role=event["role"],
        function=event["function"],
        caller=event["caller"],
        sent_s=event["sent_s"],
        request_id=request_id,
        instance=_INSTANCE,
        expert=event.get("expert", -1),
        replica=event.get("replica", 0),
        tokens=event.get("tokens", 0),
    )
    account.tell()
    part = {"expert": expert, "blocks": blocks}.get(event["role"], non_moe)
    try:
        return part.serve(exchange.Exchange(world, account, event["poll_s"]), event)
    except Exception as error:
        account.error = f"{type(error).__name__}: {' '.join(str(error).split())}"
        world.put(exchange.failed_key(account.batch), account.error.encode())
        raise
    finally:
        account.ended_s = time.time()
        account.tell()


def _prepare() -> None:
    """What a first call would otherwise pay: imports, clients, the buffers of matrix products."""
    import numpy as np

    exchange.clients()
    width = 64
    arrays = {
        "expert_in.weight": np.ones((width, width), np.float32),
        "expert_in.bias": np.ones(width, np.float32),
        "expert_out.weight": np.ones((width, width), np.float32),
        "expert_out.bias": np.ones(width, np.float32),
    }
    layers.expert(np.ones((width, width + 2), np.float32), arrays)


if "AWS_LAMBDA_RUNTIME_API" in os.environ:  # at INIT, which has more CPU than a small function's calls
    _prepare()
