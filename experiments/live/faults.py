"""Faults that are provoked on purpose: each must be reported, and nothing of it may stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.live.plans import uniform
from experiments.live.session import Session
from simulator.plan import DeploymentPlan, ExpertPlan

SMALLEST_MB = 128


@dataclass(frozen=True)
class Fault:
    """What was provoked, what status was expected of the batch's first failure, and what was told."""

    name: str
    expected: str
    told: str

    @property
    def reported(self) -> bool:
        """Whether it was told."""
        return self.expected in self.told


def provoke_faults(session: Session) -> list[Fault]:
    """An expert without memory for its tokens, and a payload that is too large, neither of them foreseen."""
    tokens = max(session.loads)
    problem, found = session.problem(tokens), []
    middle = problem.platform.memory_mb[len(problem.platform.memory_mb) // 2]
    batch = session.loads[tokens].tokens
    small = _with_memory(uniform(problem, "storage", middle), SMALLEST_MB)
    for name, expected, plan, served in (
        ("out of memory", "out-of-memory", small, np.concatenate([batch] * 3)),
        ("payload beyond 6 MB", "RequestTooLarge", uniform(problem, "direct", middle), batch),
    ):
        session.say(f"provoking a fault: {name}")
        session.deploy(problem, plan, foresee=False)
        failed = session.serve_batch(served, name).failed
        found.append(Fault(name, expected, failed or "the batch was served"))
    return found


def _with_memory(plan: DeploymentPlan, memory_mb: int) -> DeploymentPlan:
    expert = ExpertPlan(memory_mb=memory_mb, replicas=1)
    layers = tuple(x.model_copy(update={"experts": (expert,) * len(x.experts)}) for x in plan.layers)
    return plan.model_copy(update={"layers": layers})
