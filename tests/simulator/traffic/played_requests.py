"""Requests that arrive at a deployed model, played one by one: what its tests look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import simpy

from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.platform import Platform, platform_of_profile
from simulator.plan import DeploymentProblem
from simulator.profiles.schema import PlatformProfile
from simulator.records import STANDBY, Bill, Record
from simulator.serving.decode import Decode
from simulator.serving.layer import DEFAULT_SERVING, Serving, as_served
from simulator.staged_plan import AnyPlan
from simulator.traffic.model import DeployedModel
from simulator.traffic.open_loop import at_each


@dataclass
class PlayedRequests:
    """Requests that were played, in the order of their arrival; arrays of shape (requests,).

    Attributes:
        latency_s: from arrival to the answer; NaN where it failed.
        first_token_s: from arrival to the first token. token_s: mean time of a further one; NaN without.
        cold: whether an instance was started for it.
        bill: of all requests that count, by parts. peak_concurrency: most calls under way at once.
    """

    latency_s: np.ndarray
    first_token_s: np.ndarray
    token_s: np.ndarray
    cold: np.ndarray
    bill: Bill = field(default_factory=Bill)
    peak_concurrency: int = 0

    @property
    def cold_share(self) -> float:
        """Share of the requests for which an instance was started."""
        return float(self.cold.mean())


def play_requests(
    problem: DeploymentProblem,
    plan: AnyPlan,
    profile: PlatformProfile,
    arrived_s: np.ndarray | Sequence[float],
    tokens_in: np.ndarray | int,
    tokens_out: np.ndarray | int = 0,
    *,
    serving: Serving = DEFAULT_SERVING,
    warm: bool = False,
    provisioned: bool = False,
    uncounted: int = 0,
    seed: int = 0,
    platform: Platform | None = None,
) -> PlayedRequests:
    """Play requests that arrive whether or not earlier ones are answered, each a batch of its own.

    Args:
        problem, plan: what is deployed; of any batch size. profile: the platform.
        arrived_s: when each arrives, sorted, s, shape (requests,).
        tokens_in: of each, shape (requests,), or of all. tokens_out: that each generates.
        serving: how. warm, provisioned: as of `DeployedModel`.
        uncounted: so many first requests warm the functions up: they are in no number and not in the bill.
        seed: of all random streams. platform: instead of the profile's.
    """
    arrived = np.asarray(arrived_s, float)
    size, generated = (np.broadcast_to(np.asarray(x, int), arrived.shape) for x in (tokens_in, tokens_out))
    rng = np.random.default_rng(seed)
    platform = platform or as_served(platform_of_profile(profile, problem.platform, rng), serving)
    times_s = np.full((3, len(arrived)), math.nan)
    found = PlayedRequests(times_s[0], times_s[1], times_s[2], np.zeros(len(arrived), bool))

    def keep(row: Record) -> None:
        if row.role in STANDBY:
            found.bill.add(row)
        elif row.batch >= uncounted:
            found.bill.add(row)
            found.cold[row.batch] |= row.cold
            running = sum(x.running for x in service.functions.values()) + (row.status != "throttled")
            found.peak_concurrency = max(found.peak_concurrency, running)

    service = LambdaService(simpy.Environment(), platform, keep)
    model = DeployedModel(service, problem, plan, serving, warm, provisioned)

    def arrive(k: int) -> None:
        at, more = service.env.now, int(generated[k])

        def done(took_s: list[float]) -> None:
            found.latency_s[k] = service.env.now - at if not any(map(math.isnan, took_s)) else math.nan
            found.first_token_s[k] = took_s[0]
            found.token_s[k] = float(np.mean(took_s[1:])) if took_s[1:] else math.nan

        model.serve(k, int(size[k]), Decode(more - 1, 1) if more > 1 else None, done)  # the pass gives the first

    numbers = iter(range(len(arrived)))
    at_each(service.env, iter(arrived.tolist()), lambda: arrive(next(numbers)))
    service.env.run()
    service.charge_provisioned()
    each = ("latency_s", "first_token_s", "token_s", "cold")
    return replace(found, **{name: getattr(found, name)[uncounted:] for name in each})
