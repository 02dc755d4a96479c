"""Play a deployment plan on a platform: `simulate(problem, plan, profile)`."""

from __future__ import annotations

import gc
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import simpy

from moe.errors import InputError
from moe.shown import Shown
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.platform import Platform, ideal_platform, platform_of_profile
from simulator.plan import DeploymentPlan, DeploymentProblem, Violation
from simulator.profiles.schema import PlatformProfile
from simulator.records import Bill, Record, bill, to_pandas
from simulator.serving.decode import Decode
from simulator.serving.deployed import deploy_plan
from simulator.serving.forward_pass import ForwardPass
from simulator.serving.lane import decode_violations
from simulator.serving.layer import DEFAULT_SERVING, Serving, as_served
from simulator.serving.overflow import replicas_run
from simulator.serving.replicas import problem_of_size, whole_tokens
from simulator.serving.settled import settled
from simulator.serving.stages import StagedPass, Stages
from simulator.stage_rules import violations_of
from simulator.staged_plan import AnyPlan, StagedPlan, whole_model

if TYPE_CHECKING:
    import pandas as pd

Pass: TypeAlias = ForwardPass | StagedPass


@dataclass(frozen=True, repr=False)
class SimulatedRun(Shown):
    """What happened when a plan served one or more batches, one after the other.

    Attributes:
        records: the record table's rows (`simulator.records`).
        latency_s: of each batch, head to tail, shape (batches,); with `decode`, the time to the first token.
        decode_s: of each decode step of each batch, the time per token, shape (batches, steps).
        served_tokens: tokens of a batch.
        bill: of the mean batch. decode_usd: of it, what generating costs after the first token.
        violations: constraints that the plan breaks for the tokens it was made for, and the latency limit if
            a batch's latency is over it.
        overflowed: replicas' calls beyond the planned ones that were foreseen, over all batches.
        failed: batches that a failed call ended, and which; their latency is NaN.
    """

    records: list[Record]
    latency_s: np.ndarray
    decode_s: np.ndarray
    served_tokens: float
    bill: Bill
    violations: tuple[Violation, ...]
    overflowed: int
    failed: tuple[str, ...] = ()
    decode_usd: float = 0.0

    @property
    def mean_latency_s(self) -> float:
        """Mean latency of the batches that did not fail, s."""
        return float(np.nanmean(self.latency_s)) if len(self.failed) < len(self.latency_s) else math.nan

    @property
    def tokens_per_s(self) -> float:
        """Throughput: tokens of a batch over its mean latency."""
        return self.served_tokens / self.mean_latency_s

    def _facts(self) -> dict[str, Any]:
        return {
            "batches": len(self.latency_s),
            "latency_s": self.mean_latency_s,
            "tokens_per_s": self.tokens_per_s,
            "billed_gb_s": self.bill.billed_gb_s,
            "billed_cost_usd": self.bill.billed_cost_usd,
            "total_cost_usd": self.bill.total_cost_usd,
            "invocations": len(self.records),
            "violations": len(self.violations),
            "failed": len(self.failed) or None,
        }

    def to_pandas(self) -> pd.DataFrame:
        """The record table."""
        return to_pandas(self.records)

    def bill_of_batch(self, batch: int) -> Bill:
        """The bill of one batch."""
        return bill(row for row in self.records if row.batch == batch)


def simulate(
    problem: DeploymentProblem,
    plan: AnyPlan,
    profile: PlatformProfile | None = None,
    *,
    serving: Serving = DEFAULT_SERVING,
    routing: Sequence[np.ndarray] | None = None,
    runs: int = 1,
    warm: bool = True,
    apart: bool = False,
    decode: Decode | None = None,
    poll_s: float = 0.0,
    seed: int = 0,
) -> SimulatedRun:
    """Play a plan, batch after batch.

    Args:
        problem: the deployment problem that the plan is for.
        plan: the deployment plan; violations of its constraints are played as they stand.
        profile: the platform; None for the ideal one, on which the closed form holds.
        serving: how the plan is served.
        routing: real tokens of each expert, one (layers, experts) integer array a batch: then tokens are whole,
            and replicas that meet more than fits overflow. None: the problem's tokens, divided.
        runs: batches without `routing`; with it, each of its batches is served once.
        warm: whether planned instances are initialised before the first batch, and have loaded what they keep.
        apart: whether each batch finds what the first one found (without `warm`: no instance) and begins at 0 s;
            else it finds the instances that the batch before it has left.
        decode: token-by-token generation after each batch: every layer, or stage, is invoked again for each step;
            a model in one stage generates in the instances that hold the batch.
        poll_s: how often a function that waits looks into S3 for what it waits for; 0: it is told.
        seed: of all random streams.

    Raises:
        InputError: plan, problem and routing do not fit together.

    >>> import serverless_moe as smoe
    >>> spec, tokens, profile = smoe.load_spec("bert-moe"), [[5120, 2560, 1536, 1024]] * 12, smoe.load_profile()
    >>> problem = smoe.make_problem(spec, tokens, profile)
    >>> run = smoe.simulate(problem, smoe.plan(problem), profile, runs=3, seed=0)
    >>> run.latency_s.shape, run.bill.total_cost_usd > run.bill.billed_cost_usd
    ((3,), True)
    """
    broken = _broken(problem, plan, decode)
    problem, serving = settled(problem, plan, serving)
    platform = _platform(problem, profile, serving, poll_s, seed)
    passes: list[Pass] = []
    durations_s: list[np.ndarray] = []
    batches = list(enumerate([None] * runs if routing is None else [_layers_of(problem, x) for x in routing]))
    served = of_plan(problem, plan, serving)
    for some in [[each] for each in batches] if apart else [batches]:
        service = LambdaService(simpy.Environment(), platform)
        deploy_plan(service, problem, plan, serving, warm, loaded=warm)
        here = [make_pass(service, served, number, real, decode) for number, real in some]
        in_order = [one for each in here for one in (each, *decode_steps(each, decode))]
        durations_s.append(_serve(service, in_order).reshape(len(here), -1))
        passes += here
    return _outcome(problem, broken, passes, np.concatenate(durations_s))


def _broken(problem: DeploymentProblem, plan: AnyPlan, decode: Decode | None) -> list[Violation]:
    """Constraints that a plan breaks, latency aside: for its batch, and for what its instances then generate."""
    broken, whole = violations_of(problem, plan), whole_model(plan)
    if decode is None or whole is None:
        return broken
    kept = decode_violations(problem, whole, decode.steps, decode.sequences)
    return broken + [each for each in kept if each not in broken]


def _platform(
    problem: DeploymentProblem, profile: PlatformProfile | None, serving: Serving, poll_s: float, seed: int
) -> Platform:
    """The profile's platform, with its random streams, or the ideal one, as batches are served."""
    rng = np.random.default_rng(seed)
    found = ideal_platform(problem) if profile is None else platform_of_profile(profile, problem.platform, rng)
    return as_served(found.changed(own_work={"poll_s": poll_s}), serving)


def _outcome(
    problem: DeploymentProblem, violations: list[Violation], passes: list[Pass], durations_s: np.ndarray
) -> SimulatedRun:
    """What happened when these passes over a batch, and the decode steps of each, took so long.

    Args:
        violations: of the plan, latency aside.
        durations_s: of each pass, then of its steps, shape (batches, 1 + steps).
    """
    records = [row for service in dict.fromkeys(each.service for each in passes) for row in service.records]
    latency_s, limit_s = durations_s[:, 0], problem.latency_limit_s
    if limit_s is not None and (latency_s > limit_s * (1 + 1e-9)).any():
        violations = [*violations, (None, None, "latency")]
    return SimulatedRun(
        records=records,
        latency_s=latency_s,
        decode_s=durations_s[:, 1:],
        served_tokens=problem.served_tokens,
        bill=bill(records).per_batch(len(passes)),
        violations=tuple(violations),
        overflowed=sum(each.beyond_plan for each in passes),
        failed=tuple(
            f"batch {each.batch}: {each.failed.function} {each.failed.status}, attempt {each.failed.attempt}"
            for each in passes
            if each.failed is not None
        ),
        decode_usd=_decode_usd(records, passes) / len(passes),
    )


def _decode_usd(records: list[Record], passes: list[Pass]) -> float:
    """What calls of decode steps cost, and steps inside of calls."""
    inside = [each.usd for one in passes if isinstance(one, StagedPass) for each in one.generated]
    return bill(row for row in records if row.step).total_cost_usd + sum(inside)


def decode_steps(first: Pass, decode: Decode | None) -> list[Pass]:
    """The passes after a batch's first: one token of each sequence, routed as the batch was; none where the
    instances that hold the sequences generate."""
    if decode is None or (isinstance(first, StagedPass) and first.decode is not None):
        return []
    small = problem_of_size(first.problem, decode.sequences, decode.sequences)
    share = decode.sequences / first.problem.served_tokens
    routed = [layer.tokens for layer in first.problem.layers] if first.tokens is None else first.tokens
    tokens = [whole_tokens(each * share) for each in routed]
    steps, service = range(1, decode.steps + 1), first.service
    if isinstance(first, StagedPass):
        stages = replace(first.stages, problem=small)
        return [StagedPass(service, stages, first.batch, step, tokens) for step in steps]
    replicas = [layer.replicas for layer in first.plan.layers]
    return [
        ForwardPass(service, small, first.plan, tokens, replicas, first.serving, first.batch, step, limits=False)
        for step in steps
    ]


def _serve(service: LambdaService, passes: list[Pass]) -> np.ndarray:
    """Run the passes one after the other; their latencies and those of steps in them, s, shape (durations,)."""
    env, latencies = service.env, []

    def one_after_the_other() -> Generator[simpy.Event, None, None]:
        for each in passes:
            began = env.now
            yield each.run()
            latencies.extend(each.durations_s(began))

    env.process(one_after_the_other())
    with _no_garbage_collection():
        env.run()
    return np.array(latencies)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Rows and programs are kept until the end: looking for garbage among them would cost a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True)
class Layers:
    """A plan of layers, for batches of one size: what is served, and how."""

    problem: DeploymentProblem
    plan: DeploymentPlan
    serving: Serving


def of_plan(problem: DeploymentProblem, plan: AnyPlan, serving: Serving) -> Layers | Stages:
    """What the passes of a plan, `/1` or `/2`, have in common."""
    return Stages(problem, plan, serving) if isinstance(plan, StagedPlan) else Layers(problem, plan, serving)


def make_pass(
    service: LambdaService,
    served: Layers | Stages,
    batch: int,
    real: list[np.ndarray] | None,
    decode: Decode | None,
) -> Pass:
    """A pass with real, whole tokens, on as many replicas as they need; or with the problem's, divided evenly.

    Args:
        service: where it runs. served: what, made by `of_plan`. batch: its number.
        real: tokens of each expert of each layer, (experts,) per layer; None: the problem's.
        decode: what is generated after it, where its instances do so themselves.
    """
    whole = real is not None
    if isinstance(served, Stages):
        here = decode if whole_model(served.plan) is not None else None
        return StagedPass(service, served, batch, 0, real, whole, here)
    plan = served.plan
    if real is None:
        tokens = [layer.tokens for layer in served.problem.layers]
        replicas = [layer.replicas for layer in plan.layers]
    else:
        tokens, replicas = real, replicas_run(served.problem, plan, real, served.serving.overflow)
    return ForwardPass(
        service, served.problem, plan, tokens, replicas, served.serving, batch, whole_tokens=whole, limits=whole
    )


def _layers_of(problem: DeploymentProblem, tokens: np.ndarray) -> list[np.ndarray]:
    expected = (len(problem.layers), len(problem.layers[0].experts))
    if np.shape(tokens) != expected:
        raise InputError(f"routing: expected {expected} layers and experts, got {np.shape(tokens)}")
    return list(np.asarray(tokens))
