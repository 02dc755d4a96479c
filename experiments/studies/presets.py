"""Public MoE models on Lambda: what serving each costs in all, how fast it is, beside LambdaML and a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from experiments.tools.markdown import number, table
from moe.errors import InputError
from moe.files import write_whole
from moe.routing.synthetic import zipf
from moe.spec import MoESpec, load_spec
from optimizer.grouped import group_experts
from optimizer.problem import make_problem
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import PlatformProfile
from simulator.serving.cluster import run_on_cluster
from simulator.serving.layer import JUST_IN_TIME
from simulator.serving.simulate import simulate

MEMORY_MB = (256, 512, 1024, 1769, 2048, 3008, 4096, 5120, 6144, 7168, 8192, 9216, 10240)
LARGEST_MB = 10240
GROUPS = 16
"""Experts are put together until a layer has at most so many functions."""
MILLION = 1e6


@dataclass(frozen=True)
class PresetRow:
    """One model; money is USD per million tokens, everything included.

    Attributes:
        model: preset. experts: of a layer. group: experts in a function. functions: deployed, replicas included.
        usd, tokens_per_s: of the plan with the least whole bill.
        lambdaml_usd, lambdaml_tokens_per_s: all experts at the largest memory, no replicas; memory of gates and
            `reload`, of which its rule says nothing, as suits it best.
        experts_over_lambdaml: the paper's bill over LambdaML's.
        cluster_second_usd, cluster_month_usd: the CPU cluster by the second used, and by the month.
        cluster_tokens_per_s: its throughput.
        fits: whether the model's weights fit the largest function. problem: what went wrong, empty if nothing.
    """

    model: str
    experts: int
    group: int
    functions: int = 0
    usd: float = np.nan
    tokens_per_s: float = np.nan
    lambdaml_usd: float = np.nan
    lambdaml_tokens_per_s: float = np.nan
    experts_over_lambdaml: float = np.nan
    cluster_second_usd: float = np.nan
    cluster_month_usd: float = np.nan
    cluster_tokens_per_s: float = np.nan
    problem: str = ""


def study_presets(
    names: Sequence[str],
    profile: PlatformProfile,
    batch_tokens: int,
    skew: float,
    seed: int = 0,
    update: Callable[[int, int], None] = lambda done, total: None,
) -> list[PresetRow]:
    """A row for each preset; one that cannot be served says why.

    Args:
        names: presets, or files of a model's sizes. profile: the platform.
        batch_tokens: tokens of a batch. skew: Zipf exponent of expert popularity. update: told (done, all).
    """
    rows = []
    for done, name in enumerate(names):
        spec = load_spec(name)
        group = max(1, -(-spec.experts // GROUPS))
        try:
            rows.append(_row(spec, profile, batch_tokens, skew, group, seed))
        except InputError as error:
            rows.append(PresetRow(spec.name, spec.experts, group, problem=str(error)))
        update(done + 1, len(names))
    return rows


def _row(
    spec: MoESpec, profile: PlatformProfile, batch_tokens: int, skew: float, group: int, seed: int
) -> PresetRow:
    tokens = batch_tokens * spec.top_k * zipf(spec.moe_layers, spec.experts, skew, np.random.default_rng(seed))
    problem = make_problem(
        spec, tokens, profile, memory_mb=MEMORY_MB, non_moe_memory_mb=LARGEST_MB, objective="total"
    )
    problem = group_experts(problem, group, "load").of_problem(problem)
    plan, lambdaml = solve(problem, "exact"), solve(problem, "lambdaml", max_memory_mb=LARGEST_MB)
    if not plan.feasible:
        raise InputError(f"{spec.name}: no plan fits the largest function: {plan.violations[:1]}")
    (usd, experts, speed), (base_usd, base_experts, base_speed) = (
        _played(problem, x, profile, batch_tokens, seed) for x in (plan, lambdaml)
    )
    cluster = run_on_cluster(spec, tokens, batch_tokens, profile)
    second = profile.cluster.price_per_hour.median / 3600 * cluster.latency_s / batch_tokens * MILLION
    return PresetRow(
        model=spec.name,
        experts=spec.experts,
        group=group,
        functions=sum(x.replicas for layer in plan.layers for x in layer.experts) + len(plan.layers) + 1,
        usd=usd,
        tokens_per_s=speed,
        lambdaml_usd=base_usd,
        lambdaml_tokens_per_s=base_speed,
        experts_over_lambdaml=experts / base_experts,
        cluster_second_usd=second,
        cluster_month_usd=second / profile.cluster.month_utilisation.median,
        cluster_tokens_per_s=batch_tokens / cluster.latency_s,
    )


def _played(
    problem: DeploymentProblem, plan: DeploymentPlan, profile: PlatformProfile, batch_tokens: int, seed: int
) -> tuple[float, float, float]:
    """Total and experts' bill per million tokens, and tokens/s, of a plan on the simulated platform."""
    run = simulate(problem, plan, profile, serving=JUST_IN_TIME, seed=seed)
    if run.failed:
        raise InputError(f"{problem.name}: {run.failed[0]}")
    return (
        run.bill.total_cost_usd / batch_tokens * MILLION,
        run.bill.billed_cost_usd / batch_tokens * MILLION,
        run.tokens_per_s,
    )


HEADER = (
    *("model", "functions", "whole\nbill", "tokens\n/s", "LambdaML\nbill", "tokens\n/s"),
    *("CPU\nsecond", "CPU\nmonth", "tokens\n/s", "experts' compute\nof LambdaML", "in one\nfunction"),
)
SHOWN = 9  # columns that fit a terminal


def cells(row: PresetRow) -> list[str]:
    """A row's text; one that cannot be served says why."""
    if row.problem:
        return [row.model, *[""] * 8, row.problem, str(row.group)]
    return [
        *(row.model, f"{row.functions:,}", number(row.usd), number(row.tokens_per_s)),
        *(number(row.lambdaml_usd), number(row.lambdaml_tokens_per_s)),
        *(number(row.cluster_second_usd), number(row.cluster_month_usd), number(row.cluster_tokens_per_s)),
        *(f"{row.experts_over_lambdaml:.0%}", str(row.group)),
    ]


def write_presets(rows: Sequence[PresetRow], title: str, folder: Path) -> None:
    """presets.csv, and presets.md, which shows presets.png."""
    import pandas as pd

    write_whole(folder / "presets.csv", pd.DataFrame([asdict(row) for row in rows]).to_csv(index=False))
    shown = table([name.replace("\n", " ") for name in HEADER], map(cells, rows))
    write_whole(folder / "presets.md", f"# {title}\n\n![Cost and throughput](presets.png)\n\n{shown}\n")
