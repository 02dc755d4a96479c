"""What the closed form leaves out: fan-in over S3's tails, and each mechanism of the simulator switched off."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from experiments.tools.cases import bert_problem, uniform_plan
from optimizer.evaluation import evaluate
from optimizer.solvers import solve
from simulator.cloud.network import Link
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.serving.simulate import simulate

PLANS = ("exact", "ods", "lambdaml", "best-uniform", "random")
FAN_IN_METHODS: tuple[tuple[Communication, int | None], ...] = (
    ("storage", None),
    ("pipelined", 64),
    ("direct", None),
)


# -- fan-in -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FanIn:
    """Latency of one plan by its replicas.

    Attributes:
        method, replicas: of every expert. closed_form_s: the latency by Eq. 7-11.
        medians_s: simulated with every distribution at its median.
        simulated_s: with all tails, of each seed, shape (seeds,).
    """

    method: str
    replicas: int
    closed_form_s: float
    medians_s: float
    simulated_s: np.ndarray

    @property
    def added_by_tails(self) -> np.ndarray:
        """What the tails add to the latency with medians, a share, shape (seeds,)."""
        return self.simulated_s / self.medians_s - 1

    @property
    def closed_form_error(self) -> np.ndarray:
        """How far the closed form is off, a share of the simulated latency, shape (seeds,)."""
        return self.closed_form_s / self.simulated_s - 1


def fan_in(
    seeds: int = 20,
    replicas: Iterable[int] = (1, 2, 4, 8, 16),
    methods: Sequence[tuple[Communication, int | None]] = FAN_IN_METHODS,
) -> list[FanIn]:
    """What the maximum over more and more requests does to the latency; the same seeds for every plan."""
    problem, profile = bert_problem(12, 4, 10_240), load_profile()
    medians, found = without_tails(profile), []
    for (method, beta), count in itertools.product(methods, replicas):
        plan = uniform_plan(problem, method, beta, count)
        seen = [simulate(problem, plan, profile, seed=seed).mean_latency_s for seed in range(seeds)]
        still = simulate(problem, plan, medians).mean_latency_s
        found.append(FanIn(method, count, evaluate(problem, plan).latency_s, still, np.array(seen)))
    return found


# -- mechanisms -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """The platform with one mechanism switched off, or none."""

    name: str
    profile: PlatformProfile
    warm: bool = False
    shared: bool = True


@dataclass(frozen=True)
class Effect:
    """What switching a mechanism off does.

    Attributes:
        mechanism: what is off.
        total_cost, latency: relative change for the exact plan, the mean of pairs of one seed; `*_spread`: its
            standard deviation over seeds.
        largest_plan, largest_cost: the plan whose mean total bill changes most, and by how much.
        ranking: plans by mean total bill, cheapest first.
        decision: the cheapest plan whose mean latency keeps the target; None where none does.
        decided: share of seeds each of which alone gives this decision.
    """

    mechanism: str
    total_cost: float
    total_cost_spread: float
    latency: float
    latency_spread: float
    largest_plan: str
    largest_cost: float
    ranking: tuple[str, ...]
    decision: str | None
    decided: float


@dataclass(frozen=True)
class Situation:
    """Plans that are compared on the platform with everything on, and with each mechanism off.

    Attributes:
        title: says what is served. target_s: latency that plans are made for and held against.
        effects: with nothing off first.
    """

    title: str
    target_s: float
    effects: list[Effect]


def situations(seeds: int) -> list[Situation]:
    """Small experts under two targets, and experts so large that a download can empty the token bucket.

    The closed form moves those whole, over one connection: its plans keep a wider target only.
    """
    profile, bert = load_profile(), bert_problem(12, 4, 10_240)
    small = "Bert MoE, 12 x 4, 10,240 tokens, experts of 19 MB"
    large = "Bert MoE, 6 x 4, 2,560 tokens, experts of 705 MB (Mixtral's in fp32), 8 connections an object"
    return [
        situation(small, bert, profile, 1.25, seeds),
        situation(small, bert, profile, 1.1, seeds),
        situation(large, large_experts(), with_constant(profile, ("storage", "parts"), 8.0), 1.5, seeds),
    ]


def large_experts() -> DeploymentProblem:
    """6 layers of 4 Bert experts whose parameters are as large as Mixtral 8x7B's: 3 x 4096 x 14336 fp32."""
    problem = bert_problem(6, 4, 2_560)
    layers = []
    for layer in problem.layers:
        experts = tuple(x.model_copy(update={"parameter_bytes": 3 * 4096 * 14336 * 4.0}) for x in layer.experts)
        layers.append(layer.model_copy(update={"experts": experts}))
    return problem.model_copy(update={"layers": tuple(layers)})


def situation(
    title: str, problem: DeploymentProblem, profile: PlatformProfile, slack: float, seeds: int
) -> Situation:
    """Each mechanism switched off in turn, with the same seeds.

    Args:
        slack: the target is so many times the latency of LambdaML's plan with everything on.
    """
    everything = Variant("(nothing)", profile)
    target_s = slack * float(play(problem, solve(problem, "lambdaml"), everything, seeds)[1].mean())
    limited = problem.with_limit(target_s)
    plans = {name: solve(limited, name) for name in PLANS}
    base = {name: play(problem, plan, everything, seeds) for name, plan in plans.items()}
    effects = [_effect(everything.name, base, base, target_s)]
    for variant in (
        Variant("cold starts (all warm)", profile, warm=True),
        Variant("chance (all medians)", without_tails(profile)),
        Variant("slow requests (none)", without(profile, "storage", "slow_gets", "slow_puts")),
        Variant("other instances (all alike)", without(profile, "compute", "instance_factor")),
        Variant("token bucket (always burst)", with_sustained_burst(profile)),
        Variant("sharing (each transfer alone)", profile, shared=False),
    ):
        found = {name: play(problem, plan, variant, seeds) for name, plan in plans.items()}
        effects.append(_effect(variant.name, base, found, target_s))
    return Situation(title, target_s, effects)


def _effect(name: str, base: dict[str, np.ndarray], found: dict[str, np.ndarray], target_s: float) -> Effect:
    change = found["exact"] / base["exact"] - 1
    spread = change.std(axis=1, ddof=1) if change.shape[1] > 1 else np.zeros(2)
    (cost, latency), (cost_spread, latency_spread) = change.mean(axis=1).tolist(), spread.tolist()
    mean = {plan: values.mean(axis=1) for plan, values in found.items()}
    ranking = sorted(mean, key=lambda plan: float(mean[plan][0]))
    costs = {plan: float(mean[plan][0] / base[plan][0].mean() - 1) for plan in found}
    largest = max(costs, key=lambda plan: abs(costs[plan]))
    decision = _cheapest(mean, target_s)
    each = Counter(
        _cheapest({plan: values[:, k] for plan, values in found.items()}, target_s) for k in range(change.shape[1])
    )
    decided = each[decision] / change.shape[1]
    return Effect(
        name,
        cost,
        cost_spread,
        latency,
        latency_spread,
        largest,
        costs[largest],
        tuple(ranking),
        decision,
        decided,
    )


def _cheapest(outcomes: dict[str, np.ndarray], target_s: float) -> str | None:
    """The plan of least total bill that keeps the target; of (bill, latency) each."""
    keep = [plan for plan, (_, latency_s) in outcomes.items() if latency_s <= target_s]
    return min(keep, key=lambda plan: float(outcomes[plan][0]), default=None)


def play(problem: DeploymentProblem, plan: DeploymentPlan, variant: Variant, seeds: int) -> np.ndarray:
    """Total bill (USD) and latency (s) of one batch, of each seed, shape (2, seeds)."""
    with nullcontext() if variant.shared else each_transfer_alone():
        runs = [simulate(problem, plan, variant.profile, warm=variant.warm, seed=seed) for seed in range(seeds)]
    return np.array([[run.bill.total_cost_usd for run in runs], [run.mean_latency_s for run in runs]])


def without_tails(profile: PlatformProfile) -> PlatformProfile:
    """The profile with every distribution replaced by its median, and no request slow by chance."""
    calm = without(profile, "storage", "slow_gets", "slow_puts")
    return calm.mapped(lambda constant: constant.with_value(constant.median))


def without(profile: PlatformProfile, group: str, *names: str) -> PlatformProfile:
    """The profile without some of its mechanisms: keys of a group that are None where they are off."""
    section = getattr(profile, group).model_copy(update=dict.fromkeys(names))
    return profile.model_copy(update={group: section})


def with_sustained_burst(profile: PlatformProfile) -> PlatformProfile:
    """The profile whose functions keep their burst bandwidth for ever."""
    return with_constant(profile, ("network", "sustained_bytes_per_s"), profile.network.burst_bytes_per_s.median)


@contextmanager
def each_transfer_alone() -> Iterator[None]:
    """Meanwhile each of several transfers finds all of a link's bandwidth, and a token bucket, of its own."""
    shared = Link.batch

    def alone(link: Link, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        pairs = zip(starts.tolist(), sizes.tolist(), strict=True)
        ends = np.array([copy.copy(link).alone(at, size) for at, size in pairs])
        link.bytes_moved += float(sizes.sum())
        return ends

    Link.batch = alone  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Link.batch = shared  # type: ignore[method-assign]
