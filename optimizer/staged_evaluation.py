"""What a plan with stages comes to in closed form: stages of blocks, runs of expert functions, and their seams.

A run of layers of expert functions is a problem of its own (`run_problem`), evaluated as any other: Eq. 3-11.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe.shown import Shown
from optimizer.cost_model import gate_of, usd_per_s
from optimizer.evaluation import ROUNDING, evaluate
from optimizer.stage_cost import front_itself, front_usd_per_s, gets_usd, stage_costs
from simulator.plan import DeploymentProblem, Violation
from simulator.serving.settled import served_so
from simulator.stage_rules import (
    ACCOUNT_CONCURRENCY,
    functions_of,
    handover_gets,
    input_handover,
    peak_concurrency_of,
    plan_of_run,
    run_problem,
    staged_violations,
)
from simulator.staged_plan import BlocksStage, Runs, StagedPlan, blocks_of, runs_of


@dataclass(frozen=True, repr=False)
class StagedEvaluation(Shown):
    """What a plan with stages comes to by the closed form.

    Attributes:
        total_cost_usd: the whole bill. full_cost_usd, billed_gb_s: of experts' functions and stages of blocks.
        latency_s: of the model, from the client's request to its answer.
        run_usd, run_latency_s: of each stage of blocks or run of expert functions, shape (runs,); the front's
            start and answer come on top.
        functions, peak_concurrency: that are deployed, and of one batch.
        violations: constraints that the plan breaks, latency included.
    """

    total_cost_usd: float
    full_cost_usd: float
    billed_gb_s: float
    latency_s: float
    run_usd: np.ndarray
    run_latency_s: np.ndarray
    functions: int
    peak_concurrency: int
    violations: tuple[Violation, ...]

    @property
    def feasible(self) -> bool:
        """Whether the plan keeps every constraint."""
        return not self.violations

    @property
    def fits_account(self) -> bool:
        """Whether one batch needs no more executions at once than an account allows."""
        return self.peak_concurrency <= ACCOUNT_CONCURRENCY

    def _facts(self) -> dict[str, Any]:
        names = ("total_cost_usd", "latency_s", "functions", "peak_concurrency", "feasible")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class _Run:
    """What a stage of blocks, or a run of expert functions, comes to with its seams."""

    total_usd: float
    full_usd: float
    billed_gb_s: float
    latency_s: float


def evaluate_staged(problem: DeploymentProblem, plan: StagedPlan) -> StagedEvaluation:
    """Cost, latency and violations of a plan with stages, feasible or not.

    Raises InputError when the plan has other layers, experts, memory sizes or more lanes than the problem.
    """
    violations = staged_violations(problem, plan)
    problem = served_so(problem, plan.non_moe_memory_mb, plan.reload)
    runs = runs_of(plan)
    found = [
        _blocks(problem, runs, k) if isinstance(run, BlocksStage) else _experts(problem, runs, k)
        for k, run in enumerate(runs)
    ]
    front_usd = front_s = 0.0
    last = plan.stages[-1]
    if any(isinstance(run, BlocksStage) for run in runs):
        by_payload = isinstance(last, BlocksStage) and last.handover == "payload"
        front_usd, front_s = front_itself(problem, by_payload)
    latency = front_s + sum(x.latency_s for x in found)
    limit = problem.latency_limit_s
    if limit is not None and latency > limit * (1 + ROUNDING):
        violations.append((None, None, "latency"))
    return StagedEvaluation(
        total_cost_usd=front_usd + sum(x.total_usd for x in found),
        full_cost_usd=sum(x.full_usd for x in found),
        billed_gb_s=sum(x.billed_gb_s for x in found),
        latency_s=latency,
        run_usd=np.array([x.total_usd for x in found]),
        run_latency_s=np.array([x.latency_s for x in found]),
        functions=functions_of(problem, plan),
        peak_concurrency=peak_concurrency_of(problem, plan),
        violations=tuple(violations),
    )


def _blocks(problem: DeploymentProblem, runs: Runs, k: int) -> _Run:
    """Run number k, a stage of blocks, and the GETs of what comes from the run before it."""
    stage, before = runs[k], runs[k - 1] if k else None
    assert isinstance(stage, BlocksStage)
    blocks, lanes = blocks_of(problem), np.array([stage.lanes])
    arrives = before.handover if isinstance(before, BlocksStage) else "storage"
    if before is None:
        arrives = input_handover(problem)
    costs = stage_costs(
        problem, np.array([stage.first_layer]), np.array([stage.last_layer + 1]), lanes, arrives, stage.handover
    )
    j = blocks.memory_mb.index(stage.memory_mb)
    source_lanes = before.lanes if isinstance(before, BlocksStage) else stage.lanes
    gets = handover_gets(blocks.sequences, source_lanes, stage.lanes) if arrives == "storage" else 0
    latency, billed = float(costs.latency_s[0, j, 0]), float(costs.billed_gb_s[0, j, 0])
    total = float(costs.total_usd[0, j, 0] + gets_usd(problem, gets))
    return _Run(total, total - front_usd_per_s(problem) * latency, billed, latency)


def _experts(problem: DeploymentProblem, runs: Runs, k: int) -> _Run:
    """Run number k, layers of expert functions, and what comes from and goes to stages of blocks."""
    run, p = runs[k], problem.platform
    assert not isinstance(run, BlocksStage)
    mine = run_problem(problem, run)
    found = evaluate(mine, plan_of_run(run))
    total, latency = found.total_cost_usd, found.latency_s
    seams = (
        (runs[k - 1] if k else None, 0, run[0].first_layer, p.price_per_get),
        (
            runs[k + 1] if k + 1 < len(runs) else None,
            gate_of(mine, len(run)),
            run[-1].last_layer + 1,
            p.price_per_put,
        ),
    )
    for neighbour, function, cut, price in seams:
        if isinstance(neighbour, BlocksStage):
            size = problem.served_tokens * problem.layers[cut].token_in_bytes
            moved_s = p.storage_delay_s + size / p.gate_bandwidth
            total += usd_per_s(mine, function) * moved_s + neighbour.lanes * price
            latency += moved_s
    if len(runs) > 1:  # there are lanes, whose front waits for this run as well
        total += front_usd_per_s(problem) * latency
    return _Run(total, found.full_cost_usd, found.billed_gb_s, latency)


def with_staged_evaluation(
    problem: DeploymentProblem,
    plan: StagedPlan,
    lower_bound: float | None = None,
    solve_s: float | None = None,
) -> StagedPlan:
    """The plan with its cost, latency, violations, bound and gap filled in.

    Args:
        problem: what the plan is for.
        plan: stages and solver name; the rest is overwritten.
        lower_bound: a bound on every feasible plan's whole bill, USD; None if unknown.
        solve_s: wall time of the solver, s.
    """
    found, gap = evaluate_staged(problem, plan), None
    if lower_bound is not None:
        cost = found.total_cost_usd
        gap = 0.0 if cost <= lower_bound * (1 + ROUNDING) else 1 - lower_bound / cost
    bills = ("total_cost_usd", "full_cost_usd", "billed_gb_s", "latency_s")
    rest = ("functions", "peak_concurrency", "fits_account", "feasible", "violations")
    changes = {name: getattr(found, name) for name in (*bills, *rest)}
    return plan.model_copy(update=changes | {"lower_bound": lower_bound, "gap": gap, "solve_s": solve_s})
