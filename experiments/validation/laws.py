"""Laws that hold whatever is served and whatever goes wrong: conservation, one seed one run, monotonicity.

Run as a module it prints the digest of one troubled run, for a comparison between processes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import simpy

from experiments.validation.checks import Check
from experiments.validation.closed_form import random_plan, random_problem
from experiments.validation.queueing import UNUSED, at_once, play, poisson
from simulator.cloud.lambda_service import LambdaService
from simulator.draws import Draws
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.records import Record
from simulator.serving.layer import DEFAULT_SERVING, Serving
from simulator.serving.simulate import SimulatedRun, simulate

T = TypeVar("T")

TROUBLE = {
    ("failures", "handler_error"): (0.0, 0.03, 0.1),
    ("failures", "straggler"): (0.0, 0.2),
    ("failures", "instances_lost_per_hour"): (0.0, 60.0, 300.0),
    ("concurrency", "account"): (1000.0, 24.0),
    ("concurrency", "timeout_s"): (900.0, 20.0, 5.0),
    ("storage", "error"): (0.0, 0.02, 0.2),
    ("storage", "get_limit_per_s"): (5500.0, 60.0),
    ("storage", "put_limit_per_s"): (3500.0, 60.0),
    ("retries", "attempts"): (12.0, 3.0),
}
"""Constants with which much goes wrong, and how often callers try again; the first of each is calm."""


@dataclass(frozen=True)
class Served:
    """What is played: a plan for a problem on a profile, with the real tokens of two batches.

    Attributes:
        routing: tokens of each batch, (layers, experts) integers each; None: the problem's tokens, divided.
    """

    problem: DeploymentProblem
    plan: DeploymentPlan
    profile: PlatformProfile
    routing: list[np.ndarray] | None
    serving: Serving = DEFAULT_SERVING
    warm: bool = True

    def run(self, seed: int = 0) -> SimulatedRun:
        """Play two batches."""
        return simulate(
            self.problem,
            self.plan,
            self.profile,
            serving=self.serving,
            routing=self.routing,
            runs=2,
            warm=self.warm,
            seed=seed,
        )

    def tokens(self, batch: int) -> np.ndarray:
        """Tokens of each expert in a batch, shape (layers, experts)."""
        if self.routing is not None:
            return self.routing[batch]
        return np.array([layer.tokens for layer in self.problem.layers])


@functools.cache
def _packaged() -> PlatformProfile:
    return load_profile()


def troubled(rng: np.random.Generator) -> PlatformProfile:
    """The packaged profile where calls fail, time out, are throttled or lose instances, and S3 refuses."""
    profile = _packaged()
    for path, values in TROUBLE.items():
        profile = with_constant(profile, path, _either(rng, *values))
    return profile


def random_served(rng: np.random.Generator) -> Served:
    """A random problem and plan, served in a random way on a troubled platform."""
    serving = Serving(
        start=_either(rng, "eager", "just-in-time"),
        next_layer_start=_either(rng, "eager", "just-in-time"),
        gather=_either(rng, "after-all", "as-ready"),
        overflow=_either(rng, "foreseen", "retry", "fail"),
    )
    problem = random_problem(rng)
    routing = random_routing(problem, rng) if rng.integers(3) else None
    plan = random_plan(problem, None, rng)
    warm = _either(rng, True, False)
    return Served(problem, plan, troubled(rng), routing, serving, warm)


def _either(rng: np.random.Generator, *values: T) -> T:
    return values[int(rng.integers(len(values)))]


def random_routing(problem: DeploymentProblem, rng: np.random.Generator) -> list[np.ndarray]:
    """Whole tokens of two batches, which are not those of the problem."""
    return [np.array([rng.permutation(layer.tokens).astype(int) for layer in problem.layers]) for _ in range(2)]


# -- conservation -----------------------------------------------------------------------------------------


def failed_batches(run: SimulatedRun) -> set[int]:
    """Batches that a failed call ended."""
    return set(np.flatnonzero(np.isnan(run.latency_s)).tolist())


def computed_tokens(served: Served, run: SimulatedRun, batch: int) -> np.ndarray:
    """Tokens of each expert that calls which succeeded have computed, shape (layers, experts)."""
    found = np.zeros_like(served.tokens(batch), dtype=float)
    for row in run.records:
        if row.batch == batch and row.role == "expert" and row.status == "ok":
            found[row.layer, row.expert] += row.tokens
    return found


def bytes_sent_and_received(served: Served, run: SimulatedRun, batch: int) -> tuple[float, float]:
    """Bytes that left the functions of a batch which did not fail, and that came in besides parameters.

    Each attempt of a `direct` replica is sent its input, also one that fails or is refused.
    """
    problem, constants = served.problem, served.problem.platform
    sent = received = 0.0
    for row in run.records:
        if row.batch != batch:
            continue
        if row.status != "ok":
            if row.role == "expert" and served.plan.layers[row.layer].communication == "direct":
                received += row.tokens * problem.layers[row.layer].token_in_bytes
            continue
        if row.role == "expert":
            parameters = problem.layers[row.layer].experts[row.expert].parameter_bytes
        else:
            load_s = problem.layers[row.layer - 1].next_load_s if row.layer else problem.head_s
            parameters = constants.loaded_bytes(load_s)
        sent += row.bytes_out
        received += row.bytes_in - parameters
    return sent, received


def bill_by_hand(served: Served, rows: Iterable[Record]) -> float:
    """The total bill from what each row did: billed time, an invocation where it ran, requests; USD."""
    prices, usd = served.profile.prices, 0.0
    for row in rows:
        ran = row.status not in ("throttled", "payload-too-large")
        usd += row.billed_s * row.memory_mb / 1024 * served.profile.gb_s_usd + ran * prices.invocation.median
        usd += row.gets * prices.s3_get.median + row.puts * prices.s3_put.median
    return usd


def longest_of_timeout(served: Served, rows: Iterable[Record]) -> float:
    """The longest that a handler ran, of its timeout."""
    timeout_s = served.profile.concurrency.timeout_s.median
    return max((row.ended_s - row.started_s) / timeout_s for row in rows)


def most_at_once(rows: Iterable[Record]) -> int:
    """The most calls that any instance serves at once."""
    steps: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for row in rows:
        if row.instance:
            steps[row.instance] += [(row.requested_s, 1), (row.ended_s, -1)]
    return max((int(np.cumsum([step for _, step in sorted(each)]).max()) for each in steps.values()), default=0)


# -- one seed, one run ------------------------------------------------------------------------------------


def digest(rows: Iterable[Record]) -> str:
    """A hash of every value of the record table."""
    return hashlib.sha256("\n".join(map(repr, rows)).encode()).hexdigest()


def troubled_digest() -> str:
    """The digest of one troubled run."""
    rng = np.random.default_rng(3)
    return digest([row for _ in range(3) for row in random_served(rng).run().records])


def digest_of_another_process(hash_seed: int) -> str:
    """The same, by a process of its own whose sets and dicts of strings have another order."""
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-m", "experiments.validation.laws"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


# -- monotonicity -----------------------------------------------------------------------------------------


def faster(problem: DeploymentProblem, times: float) -> DeploymentProblem:
    """The same problem where S3 and payloads have so many times the bandwidth."""
    platform = problem.platform
    more = {
        "storage_bandwidth_bytes_per_s": tuple((platform.storage_bandwidths * times).tolist()),
        "direct_bandwidth_bytes_per_s": platform.direct_bandwidth_bytes_per_s * times,
    }
    return problem.model_copy(update={"platform": platform.model_copy(update=more)})


def cold_starts(arrivals: np.ndarray, work: np.ndarray, keep_alive_s: float) -> int:
    """Cold starts of calls at known times where a cold start takes no longer than a warm one."""
    service = LambdaService(simpy.Environment(), at_once(start={"keep_alive": Draws(keep_alive_s, UNUSED)}))
    play(service, arrivals, work)
    return sum(row.cold for row in service.records)


# -- the page's rows --------------------------------------------------------------------------------------


def law_checks(cases: int = 40, seed: int = 2) -> list[Check]:
    """The worst of many random cases, by law."""
    rng = np.random.default_rng(seed)
    found: defaultdict[str, list[float]] = defaultdict(list)
    rows: list[Record] = []
    for _ in range(cases):
        served = random_served(rng)
        run = served.run()
        rows += run.records
        for batch in {0, 1} - failed_batches(run):
            routed, computed = served.tokens(batch), computed_tokens(served, run, batch)
            found["tokens that succeeding calls computed, over tokens routed, by expert"] += (
                computed[routed > 0] / routed[routed > 0]
            ).tolist()
            sent, received = bytes_sent_and_received(served, run, batch)
            found["bytes received besides parameters, over bytes sent"].append(received / sent)
        ratio = 2 * run.bill.total_cost_usd / bill_by_hand(served, run.records)
        found["bill, over the sum of what each row did"].append(ratio)
        found["calls that one instance serves at once, most"].append(most_at_once(run.records))
        again = digest(run.records) == digest(served.run().records)
        found["same seed, same rows (1: yes)"].append(float(again))
    failed = sum(row.status != "ok" for row in rows)
    source = f"{cases} cases, {failed:,} of {len(rows):,} attempts failed"
    checks = [_worst(what, source, values) for what, values in found.items()]
    here = troubled_digest()
    others = [float(digest_of_another_process(hash_seed) == here) for hash_seed in (1, 2)]
    checks.append(_worst("same seed, same rows in another process (1: yes)", "2 hash seeds", others))
    return [*checks, *_monotone(cases, rng)]


def _monotone(cases: int, rng: np.random.Generator) -> list[Check]:
    slower, colder = [], []
    for k in range(cases):
        problem = random_problem(rng)
        plan = random_plan(problem, None, rng)
        before, after = (simulate(each, plan).mean_latency_s for each in (problem, faster(problem, 1.3)))
        slower.append(after / before)
        calls = poisson(float(rng.uniform(0.5, 5.0)), 0.5, 500, k)
        counts = [cold_starts(*calls, keep_alive_s) for keep_alive_s in (0.5, 1.0, 2.0, 4.0, 8.0)]
        colder += [after / before for before, after in pairwise(counts)]
    what = (
        ("latency with 1.3 times the bandwidth, over latency, largest (at most)", slower),
        ("cold starts with twice the keep-alive, over cold starts, largest (at most)", colder),
    )
    return [Check(name, f"{cases} cases", 1.0, max(each), float(np.std(each, ddof=1))) for name, each in what]


def _worst(what: str, source: str, values: list[float]) -> Check:
    worst = max(values, key=lambda value: abs(value - 1))
    return Check(what, source, 1.0, worst, float(np.std(values, ddof=1)))


if __name__ == "__main__":
    print(troubled_digest())
