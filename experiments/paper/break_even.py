"""At which value of a constant a result turns: the reason behind a claim that holds or does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.paper.plans import within_lambdaml
from moe.spec import MoESpec
from optimizer.problem import make_problem
from optimizer.solvers import solve
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import constant_at, multiplied

STEPS = 12
"""Halvings of the range in which a factor is sought: it is known to 0.1% of it."""


@dataclass(frozen=True)
class Lever:
    """Constants of a profile that are multiplied together.

    Attributes:
        title: what they are. unit: of `scale` times the first one's median.
        paths: of the constants.
    """

    title: str
    unit: str
    scale: float
    paths: tuple[tuple[str, ...], ...]

    def median(self, profile: PlatformProfile) -> float:
        """The first constant's, in `unit`."""
        return constant_at(profile, self.paths[0]).median * self.scale

    def multiplied(self, profile: PlatformProfile, factor: float) -> PlatformProfile:
        """The profile with all of them multiplied."""
        return multiplied(profile, self.paths, factor)


LEVERS = (
    Lever("arithmetic of a vCPU", "GFLOP/s", 1e-9, (("compute", "flops_per_vcpu"),)),
    Lever(
        "S3 bandwidth of a function", "MB/s", 1e-6,
        (("storage", "connection_bytes_per_s"), ("storage", "put_connection_bytes_per_s"),
         ("network", "function_bytes_per_s_per_mb"), ("network", "function_upload_bytes_per_s_per_mb")),
    ),
    Lever("latency of an S3 GET and PUT", "s", 1.0, (("storage", "get_latency_s"), ("storage", "put_latency_s"))),
)  # fmt: skip


def crossing(f: Callable[[float], float], target: float, low: float, high: float) -> float | None:
    """The x > 0 between low and high where the monotone f is the target; None where it does not get there."""
    at_low, at_high = f(low) - target, f(high) - target
    if at_low == 0:
        return low
    if at_low * at_high > 0:
        return None
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        if (f(middle) - target) * at_low > 0:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def lambdaml_tokens_per_s(spec: MoESpec, popularity: np.ndarray, profile: PlatformProfile) -> float:
    """Throughput of 3008 MB for every expert, without replicas, by the closed form."""
    problem = make_problem(spec, popularity, profile)
    latency_s = solve(problem, "lambdaml").latency_s
    assert latency_s is not None
    return problem.served_tokens / latency_s


def saving_over_lambdaml(spec: MoESpec, popularity: np.ndarray, profile: PlatformProfile) -> float:
    """Share of LambdaML's GB-s that the optimum saves at 81.24% of its throughput, by the paper's equations as
    they stand: with `direct`, the results reach the next function in no time (Eq. 11)."""
    problem = make_problem(spec, popularity, profile)
    as_paper = problem.platform.model_copy(update={"direct_hands_on": False})
    problem = within_lambdaml(problem.model_copy(update={"platform": as_paper}))
    best, rule = (solve(problem, name).billed_gb_s for name in ("exact", "lambdaml"))
    assert best is not None
    assert rule
    return 1 - best / rule
