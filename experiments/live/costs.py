"""What a live validation comes to before anything is created: expected by simulation, and at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.live.plans import calibrating_plans, calibrating_stages, plans_for, staged_plans, uniform
from experiments.live.problem import MAX_REPLICAS, Load, guessed_blocks, guessed_problem, with_blocks
from experiments.live.settings import LiveSettings
from lambda_probe.campaign.costs import LONGEST_INIT_S, Estimate
from lambda_probe.campaign.steps import DEPLOYING_S, STARTING_S
from lambda_probe.live.functions import TIMEOUT_S, WARM_UP_S
from moe.pretrained.export import ExportedModel
from simulator.plan import DeploymentPlan, DeploymentProblem, non_moe_memory_mb
from simulator.profiles.schema import PlatformProfile
from simulator.serving.layer import EAGER
from simulator.serving.overflow import replicas_that_fit
from simulator.serving.settled import served_so
from simulator.serving.simulate import simulate
from simulator.staged_plan import AnyPlan, BlocksStage, StagedPlan

FAULTS = 2  # that are provoked, a batch each
LONGEST_S = TIMEOUT_S + LONGEST_INIT_S


@dataclass(frozen=True)
class _Stage:
    """A plan that is deployed, and the tokens of every batch that it serves; `fixed`: it is the user's."""

    plan: AnyPlan
    batches: tuple[int, ...]
    fixed: bool = False


def live_estimate(
    model: ExportedModel,
    loads: dict[int, Load],
    settings: LiveSettings,
    profile: PlatformProfile,
    given: DeploymentPlan | None,
) -> Estimate:
    """What serving all plans comes to, at a profile's prices.

    The plans are those for the profile's constants. What is validated are plans for constants that are measured
    then, so the most is for experts at the largest memory size with the most replicas, each call into its timeout.
    A load that overflows a plan further than foreseen now is not in it; only the budget stops that.

    Args:
        given: the user's plan, instead of the list.
    """
    blocks = guessed_blocks(model, profile, settings)
    problems = {
        tokens: with_blocks(guessed_problem(model, x.routing, profile, settings), model, blocks, settings)
        for tokens, x in loads.items()
    }
    stages = list(_stages(problems, settings, given))
    prices = profile.prices
    expected, wall_s = _expected(stages, problems, loads, settings, profile)
    longest = [_longest(problems[tokens], stage, settings) for stage in stages for tokens in stage.batches]
    longest += [_longest(problems[max(problems)], stage, settings) for stage in stages]  # that are started
    call_usd = prices.invocation.median + LONGEST_S / settings.poll_s * profile.storage_class.get_usd
    most_usd = [_gb(x) * LONGEST_S * prices.gb_s.median + len(x) * call_usd for x in longest]
    layers = len(problems[max(problems)].layers)
    functions = layers * (1 + len(model.experts[0])) + 1 + 2 * layers  # and of stages of blocks, at most
    return Estimate(
        functions=functions,
        invocations=round(expected[0]),
        gb_s=float(expected[1]),
        usd=float(expected[1] * prices.gb_s.median + expected[2]),
        wall_s=wall_s + functions * DEPLOYING_S,
        most_invocations=sum(map(len, longest)),
        most_gb_s=sum(map(_gb, longest)) * LONGEST_S,
        most_usd=sum(most_usd) + MAX_REPLICAS * float(expected[2]),
        most_call_usd=max(most_usd),
    )


def _expected(
    stages: Sequence[_Stage],
    problems: dict[int, DeploymentProblem],
    loads: dict[int, Load],
    settings: LiveSettings,
    profile: PlatformProfile,
) -> tuple[np.ndarray, float]:
    """Calls, GB-s and USD of requests of all stages, by simulation; and seconds."""
    total, wall_s, largest = np.zeros(3), 0.0, problems[max(problems)]
    for stage in stages:
        started = _starts(largest, stage.plan)
        requests_usd = len(started) * profile.prices.invocation.median
        total += (len(started), _gb(started) * (WARM_UP_S + STARTING_S), requests_usd)
        wall_s += WARM_UP_S + STARTING_S
        for tokens, times in Counter(stage.batches).items():
            routing = [loads[tokens].routing]
            run = simulate(
                problems[tokens], stage.plan, profile, serving=EAGER, routing=routing, poll_s=settings.poll_s
            )
            gb_s = sum(row.billed_gb_s for row in run.records)
            requests_usd = sum(row.request_cost_usd for row in run.records)
            total += times * np.array([len(run.records), gb_s, requests_usd])
            wall_s += times * run.mean_latency_s
    return total, wall_s


def _stages(
    problems: dict[int, DeploymentProblem], settings: LiveSettings, given: DeploymentPlan | None
) -> Iterator[_Stage]:
    """As `Session` serves them: calibration, the plans, faults, calibration."""
    largest = max(problems)
    problem, loads = problems[largest], tuple(problems)
    layers, sizes = len(problem.layers), settings.blocks_memory_mb
    made: list[AnyPlan] = [*calibrating_plans(problem, settings.quick), *calibrating_stages(layers, sizes)]
    calibrating = [_Stage(plan, (largest, *loads)) for plan in made]
    yield from calibrating
    batches = (largest, *(tokens for tokens in loads for _ in range(settings.repeats)))
    plans: list[AnyPlan] = [*plans_for(problem, settings.quick).values(), *staged_plans(layers, sizes).values()]
    if given is not None:
        plans = [given]
    for plan in plans:
        yield _Stage(plan, batches, fixed=given is not None)
    if given is None:
        middle = problem.platform.memory_mb[len(problem.platform.memory_mb) // 2]
        for _ in range(FAULTS):
            yield _Stage(uniform(problem, "storage", middle), (largest,))
    yield from calibrating


def _starts(problem: DeploymentProblem, plan: AnyPlan) -> np.ndarray:
    """Memory (MB) of every instance that a plan has started."""
    if isinstance(plan, StagedPlan):
        return _lanes(plan)
    experts = [x.memory_mb for layer in plan.layers for x in layer.experts for _ in range(x.replicas)]
    return np.array([*experts, *_non_moe(problem, plan)], float)


def _non_moe(problem: DeploymentProblem, plan: DeploymentPlan) -> list[int]:
    """Memory (MB) of every non-MoE function."""
    served = served_so(problem, plan.non_moe_memory_mb, plan.reload)
    return [non_moe_memory_mb(served, e) for e in range(len(plan.layers) + 1)]


def _lanes(plan: StagedPlan) -> np.ndarray:
    """Memory (MB) of every lane."""
    stages = [stage for stage in plan.stages if isinstance(stage, BlocksStage)]
    return np.repeat([float(stage.memory_mb) for stage in stages], [stage.lanes for stage in stages])


def _longest(problem: DeploymentProblem, stage: _Stage, settings: LiveSettings) -> np.ndarray:
    """Memory (MB) of every call of a batch, at most."""
    if isinstance(stage.plan, StagedPlan):
        return _lanes(stage.plan)
    experts: list[float] = []
    for e, layer in enumerate(stage.plan.layers):
        runs = np.ceil(replicas_that_fit(problem, e, layer, problem.layers[e].tokens)).astype(int)
        if stage.fixed:
            memory_mb = layer.memory_mb
        else:
            runs = np.maximum(runs, MAX_REPLICAS)
            memory_mb = np.full(len(runs), max(settings.memory_mb))
        experts += np.repeat(memory_mb, runs).tolist()
    non_moe = _non_moe(problem, stage.plan)
    if not stage.fixed:
        non_moe = [max(*settings.memory_mb, settings.non_moe_memory_mb)] * len(non_moe)
    return np.array([*experts, *non_moe], float)


def _gb(memory_mb: np.ndarray) -> float:
    return float(memory_mb.sum()) / 1024
