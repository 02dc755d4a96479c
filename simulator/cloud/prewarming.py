"""Prewarming: policies that keep instances of a function by calling it, as a scheduled ping does on AWS."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from moe.errors import InputError, nearest, shortened
from moe.plugins import load_object
from simulator.cloud.call import Function
from simulator.cloud.lambda_service import LambdaService, Prewarming


class KeepWarm:
    """Pings a function every so often after its last call, for a while.

    Args:
        every_s: between pings; shorter than the platform's keep-alive.
        for_s: after the last call, no more pings.
        instances: that are kept: so many pings at once, each held for `hold_s` so that they do not share one.
    """

    def __init__(
        self, every_s: float = 300.0, for_s: float = 3600.0, instances: int = 1, hold_s: float = 0.1
    ) -> None:
        if not (0 < every_s < inf and 0 < for_s < inf and 1 <= instances < inf and 0 <= hold_s < inf):
            raise InputError(
                "keep-warm: expected every_s > 0, for_s > 0, instances >= 1, hold_s >= 0, all finite, "
                f"got every_s = {every_s}, for_s = {for_s}, instances = {instances}, hold_s = {hold_s}"
            )
        self._every_s, self._for_s, self._instances, self._hold_s = every_s, for_s, instances, hold_s
        self._last_call_s: dict[str, float] = {}

    def arrived(self, service: LambdaService, function: Function) -> None:
        """A call: pings run from now on, if they do not already."""
        running = function.name in self._last_call_s
        self._last_call_s[function.name] = service.env.now
        if not running:
            service.after(self._every_s, lambda: self._ping(service, function))

    def _ping(self, service: LambdaService, function: Function) -> None:
        if service.env.now - self._last_call_s[function.name] > self._for_s:
            del self._last_call_s[function.name]
            return
        for _ in range(self._instances):
            service.ping(function, self._hold_s if self._instances > 1 else 0.0)
        service.after(self._every_s, lambda: self._ping(service, function))


POLICIES: dict[str, type[Prewarming]] = {"keep-warm": KeepWarm}


def prewarming_policy(name: str, options: Mapping[str, Any]) -> Prewarming:
    """A packaged policy by name, or one of a user's own given as `module:Class`, made with its options.

    Raises:
        InputError: no such policy, or it does not take these options.
    """
    if ":" in name:
        policy = load_object(name, "prewarming", ("arrived",), functions=False)
    elif name in POLICIES:
        policy = POLICIES[name]
    else:
        raise InputError(f"prewarming: no policy {shortened(name)}{nearest(name, POLICIES)} (or module:Class)")
    try:
        made: Prewarming = policy(**options)
    except TypeError as error:
        raise InputError(f"prewarming: {name}: {error}") from None
    return made
