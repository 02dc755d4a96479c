"""Deployed functions and their instances."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.cloud.network import Link

if TYPE_CHECKING:
    from simulator.cloud.platform import Package
    from simulator.program import Program


@dataclass(slots=True)
class Instance:
    """One sandbox of a function: serves one call at a time, keeps its network links.

    Attributes:
        slowdown: how many times slower it computes than others.
        provisioned: it never expires. done: what it remembers of its first calls.
    """

    name: str
    inbound: Link
    outbound: Link
    born_s: float = 0.0
    expires_s: float = math.inf
    slowdown: float = 1.0
    provisioned: bool = False
    done: tuple[str, ...] = ()


@dataclass
class Function:
    """A deployed function: its limits, and its instances.

    Attributes:
        name, memory_mb, tmp_mb: what is deployed. package: how; package_bytes: of code beyond a small one.
        timeout_s: a call is ended after so long, and billed for it.
        reserved: concurrency set aside for it, which is also its limit; None: it shares the account's.
        provisioned: instances that are kept initialised for it, and charged for, since `deployed_s`.
        program: what its calls do that bring no program of their own.
        running: calls under way. idle: instances, most recently used last. started: instances so far.
        new_instances, refilled_s: the token bucket of instances that may still be started, and when it was so.
    """

    name: str
    memory_mb: int
    package: Package
    timeout_s: float
    package_bytes: float = 0.0
    tmp_mb: int = 512
    reserved: int | None = None
    provisioned: int = 0
    program: Program | None = None
    deployed_s: float = 0.0
    running: int = 0
    idle: list[Instance] = field(default_factory=list)
    started: int = 0
    new_instances: float = 0.0
    refilled_s: float = 0.0

    def take_idle(self, now: float) -> Instance | None:
        """A provisioned instance, else the most recently used idle one that has not expired."""
        idle = self.idle
        if self.provisioned:
            kept = [k for k, instance in enumerate(idle) if instance.provisioned]
            if kept:
                return idle.pop(kept[-1])
        while idle:
            instance = idle.pop()
            if instance.expires_s >= now:
                return instance
        return None
