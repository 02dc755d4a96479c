"""Plans and limits that several figures compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.paper.routing import Cell, with_interval
from experiments.run.routing import HeldOutBatches, Routing
from experiments.tools.known_batches import played_s
from experiments.tools.paper_numbers import SLOWER_THAN_LAMBDAML
from optimizer.margin import Lateness, Optima, batches_needed
from optimizer.margin import planning_limit as limit_to_plan_for
from optimizer.popularity import predictor
from optimizer.problem import PAPER_MEMORY_MB, make_problem
from optimizer.realised import realised_latency_s
from optimizer.robust import held_out_batches
from optimizer.solvers import solve
from simulator.plan import DeploymentProblem
from simulator.serving.layer import AS_PAPER, Serving
from simulator.serving.simulate import SimulatedRun, simulate
from simulator.staged_plan import AnyPlan

MILLION = 1e6


def problem_of(
    cell: Cell, popularity: np.ndarray, memory_mb: Sequence[int] = PAPER_MEMORY_MB
) -> DeploymentProblem:
    """The deployment problem of a batch with that popularity, shape (layers, experts), and these memory sizes."""
    return make_problem(cell.spec, popularity, cell.platform, memory_mb=memory_mb)


def predicted_popularity(cell: Cell, routing: Routing) -> np.ndarray:
    """Popularity of a batch as `bayes` predicts it for the held-out tokens, shape (layers, experts)."""
    test = routing.held_out
    tokens: np.ndarray = predictor("bayes", counting="expected").fit(routing.profiled).predict(test.token_id)
    return tokens * (cell.batch_tokens / test.tokens)


def within_lambdaml(problem: DeploymentProblem) -> DeploymentProblem:
    """The problem under the limit that keeps the paper's share of LambdaML's throughput, 81.24%."""
    latency_s = solve(problem, "lambdaml").latency_s
    assert latency_s is not None
    return problem.with_limit(latency_s / (1 - SLOWER_THAN_LAMBDAML))


def planning_limit(
    cell: Cell,
    routing: Routing,
    problem: DeploymentProblem,
    late_share: float | None,
    by_play: bool = False,
    optima: Optima | None = None,
) -> float | None:
    """What plans are made for: the problem's limit less the margin that keeps enough batches within it.

    Args:
        routing: whose profile says by how much `bayes` errs.
        problem: of the predicted popularity, with its limit.
        late_share: of the batches may be late; None: the limit itself.
        by_play: whether batches are played to find it, or served by the closed form, as the figure's own are.
        optima: the plans that are made; None: of expert functions.
    """
    if late_share is None:
        return problem.latency_limit_s
    batches = held_out_batches(
        lambda: predictor("bayes", counting="expected"),
        routing.profiled,
        np.array([layer.tokens for layer in problem.layers]),
        cell.batch_tokens,
        batches_needed(late_share),
        cell.seed,
    )

    def latencies_s(plan: AnyPlan, first: int | None) -> np.ndarray:
        if by_play:
            return played_s(problem, plan, cell.platform, AS_PAPER, batches[:first], cell.seed)
        return np.array([realised_latency_s(problem, plan, tokens) for tokens in batches[:first]])

    return limit_to_plan_for(problem, late_share, latencies_s, optima).limit_s


def late_columns(latencies_s: Sequence[float] | np.ndarray, limit_s: float, independent: float) -> dict[str, Any]:
    """Share of the served batches over the limit, with Wilson's interval."""
    late = Lateness.of(np.asarray(latencies_s), limit_s, independent)
    assert late is not None
    return {"late_share": late.share, "late_share_low": late.low, "late_share_high": late.high}


def play(
    cell: Cell,
    problem: DeploymentProblem,
    plan: AnyPlan,
    batches: HeldOutBatches,
    serving: Serving = AS_PAPER,
) -> SimulatedRun:
    """The test batches, served with a plan: warm, experts started just in time."""
    return simulate(problem, plan, cell.platform, routing=batches.real, serving=serving, seed=cell.seed)


def usd_per_million(problem: DeploymentProblem, gb_s: float | None) -> float | None:
    """GB-s of a batch as USD per million tokens."""
    return None if gb_s is None else gb_s * problem.platform.price_per_gb_s / problem.served_tokens * MILLION


def played_columns(run: SimulatedRun, batches: HeldOutBatches) -> dict[str, Any]:
    """A run's bills, USD per million tokens, its GB-s and its throughput, each with its interval over batches; the
    whole bill as of a run that is served `AS_PAPER`."""
    million = run.served_tokens / MILLION
    bills = [run.bill_of_batch(k) for k in range(len(run.latency_s))]
    n = batches.independent
    return (
        with_interval("billed_usd", [x.billed_cost_usd / million for x in bills], n)
        | {"full_usd": float(np.mean([x.full_cost_usd for x in bills])) / million}
        | {"total_eager_usd": float(np.mean([x.total_cost_usd for x in bills])) / million}
        | with_interval("billed_gb_s", [x.billed_gb_s for x in bills], n)
        | with_interval("tokens_per_s", run.served_tokens / run.latency_s, n)
        | {"latency_s": run.mean_latency_s, "overflowed": run.overflowed, "batches": batches.kind}
    )
