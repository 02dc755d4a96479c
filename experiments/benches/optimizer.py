"""Time of the solvers over layers x experts, beside a plain sweep; MIQCP at equal time (Fig. 12 at one limit)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moe.errors import InputError
from moe.routing.synthetic import zipf_shares
from moe.spec import MoESpec, load_spec
from optimizer import NoIncumbent, cost_model
from optimizer.evaluation import latency_budget_s
from optimizer.exact import PREFERRED, front, least_latency_s
from optimizer.exact.knapsack import Front, cheapest, undominated
from optimizer.exact.layer_fronts import minibatch_breakpoints
from optimizer.miqcp import Backend
from optimizer.problem import PAPER_MEMORY_MB, make_problem
from optimizer.solvers import solve
from simulator.plan import MB, DeploymentPlan, DeploymentProblem, ProblemLayer, needed_memory_bytes, payload_bytes
from simulator.profiles.schema import load_profile

SHAPES = ((12, 4), (12, 16), (24, 64), (58, 256))
EVERY_MEMORY_MB = (128, *range(768, 10_177, 192), 10_240)
GAP = 1e-4
THINNED = 0.01
"""Tolerance of the fronts that are timed on all shapes; exact ones have too many points beyond small ones."""
TIGHTNESS = 0.05
"""Where the latency limit lies between the least latency and that of the cheapest plan."""


@dataclass(frozen=True)
class Timed:
    """One job on one problem.

    Attributes:
        job: what was done. layers, experts: of the problem.
        seconds, cpu_s: wall and process time, medians of the rounds.
        of_first: wall time over that of the same shape's first job.
        gap: certified; None where the job certifies none.
    """

    job: str
    layers: int
    experts: int
    seconds: float
    cpu_s: float
    of_first: float
    gap: float | None


def optimizer_speed(shapes: Sequence[tuple[int, int]] = SHAPES, rounds: int = 3) -> list[Timed]:
    """Every job on every shape, the jobs of a shape in turn; shapes of more than 10,000 experts run once."""
    return [
        row
        for layers, experts in shapes
        for row in _timed(shaped_problem(layers, experts), rounds if layers * experts < 10_000 else 1)
    ]


def _timed(problem: DeploymentProblem, rounds: int) -> list[Timed]:
    layers, experts = len(problem.layers), len(problem.layers[0].experts)
    jobs: dict[str, Callable[[], float | None]] = {
        "exact": lambda: solve(problem, "exact").gap,
        f"exact, gap {GAP:g}": lambda: solve(problem, "exact", gap=GAP).gap,
        "ODS": lambda: solve(problem, "ods").gap,
        f"front within {THINNED:.0%}": lambda: _no_gap(front(problem, THINNED)),
    }
    if layers * experts < 100:
        jobs = {"plain sweep": lambda: _no_gap(plain_sweep(problem))} | jobs
        jobs["whole front"] = lambda: _no_gap(front(problem))
    wall_s: dict[str, list[float]] = {job: [] for job in jobs}
    cpu_s: dict[str, list[float]] = {job: [] for job in jobs}
    gaps: dict[str, float | None] = {}
    for _ in range(rounds):
        for job, run in jobs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            gaps[job] = run()
            wall_s[job].append(time.perf_counter() - wall)
            cpu_s[job].append(time.process_time() - cpu)
    seconds = {job: statistics.median(found) for job, found in wall_s.items()}
    first = seconds[next(iter(jobs))]
    return [
        Timed(job, layers, experts, seconds[job], statistics.median(cpu_s[job]), seconds[job] / first, gaps[job])
        for job in jobs
    ]


def _no_gap(_: object) -> None:
    """What a job returns that certifies nothing."""


def slope(rows: Sequence[Timed], job: str) -> float:
    """The exponent of time over layers x experts, fitted to the process times of one job."""
    chosen = [row for row in rows if row.job == job]
    size = np.log([row.layers * row.experts for row in chosen])
    return float(np.polyfit(size, np.log([row.cpu_s for row in chosen]), 1)[0])


def shaped_problem(layers: int, experts: int, seed: int = 0) -> DeploymentProblem:
    """A problem of that shape under a tight limit: DeepSeek-V3's sizes from 256 experts on, else the paper's Bert.

    Popularity falls like rank^-1.2, otherwise ordered and perturbed in each layer; 10,240 tokens a batch.
    """
    large = experts >= 256
    spec: MoESpec = load_spec("deepseek-v3" if large else "bert-moe", experts=experts)
    spec = spec.model_copy(update={"moe_layers": layers})
    memory = EVERY_MEMORY_MB if large else PAPER_MEMORY_MB
    popularity = zipf_popularity(layers, experts, 10_240, spec.top_k, seed)
    problem = make_problem(spec, popularity, load_profile(), memory_mb=memory)
    slowest = solve(problem, "exact", gap=0.01).latency_s or 0.0
    return problem.with_limit((1 - TIGHTNESS) * least_latency_s(problem) + TIGHTNESS * slowest)


def zipf_popularity(
    layers: int, experts: int, tokens: int, top_k: int, seed: int = 0, exponent: float = 1.2
) -> np.ndarray:
    """Tokens of each expert, shape (layers, experts): each layer's sum to top_k x tokens, none has more than all.

    Args:
        layers, experts, top_k: of the model.
        tokens: of a batch.
        seed: of the order of the experts, and of a log-normal perturbation of 20%.
        exponent: popularity is rank^-exponent before that.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(layers):
        share = zipf_shares(experts, exponent) * rng.lognormal(0, 0.2, experts)
        d = rng.permutation(share) / share.sum() * tokens * top_k
        while (d > tokens).any():  # what is too much for one goes to the others, by their share
            full = d >= tokens
            d[full] = tokens
            d[~full] *= (tokens * (top_k - full.sum())) / d[~full].sum()
        whole = np.floor(d)
        rest = round(tokens * top_k - whole.sum())
        whole[np.argsort(whole - d, kind="stable")[:rest]] += 1
        found.append(whole)
    return np.array(found)


def plain_sweep(problem: DeploymentProblem) -> float:
    """The optimum's cost, made plainly: a loop over layers, methods and rows, each row swept by itself.

    What the exact solver is timed beside; no bounds, nothing shared, nothing left out but sizes that cannot be
    optimal. Raises InputError where no plan meets the limit.
    """
    fronts = [_plain_front(problem, layer) for layer in problem.layers]
    found = cheapest(fronts, latency_budget_s(problem))
    if found is None:
        raise InputError(f"latency_limit_s: {problem.latency_limit_s} s is out of reach")
    return found.cost


def _plain_front(problem: DeploymentProblem, layer: ProblemLayer) -> Front:
    platform, reached = problem.platform, np.flatnonzero(layer.tokens > 0)
    if not len(reached):
        return np.zeros(1), np.zeros(1)
    x = cost_model.all_deployments(platform, layer)
    shape = (len(layer.experts), len(platform.memory_mb), platform.max_replicas)
    r = np.broadcast_to(x.replica_tokens, shape)
    fits = needed_memory_bytes(layer, r) <= np.broadcast_to(x.memory_mb, shape) * MB
    payload = payload_bytes(layer, platform, r) <= platform.payload_limit_bytes
    costs, latencies = [], []
    for method in PREFERRED:
        rows: list[float] = [0.0]
        if method == "pipelined":
            rows = minibatch_breakpoints(x.replica_tokens).tolist()
        if method == "direct":
            rows = np.unique(r[reached]).tolist()
        for row in rows:
            result = cost_model.outcome(platform, layer, x, method, row if method == "pipelined" else 1.0)
            allowed = fits if method != "direct" else fits & payload & (r <= row)
            cost = np.where(allowed, result.objective(problem), np.inf)
            finish = np.where(allowed, result.finish_s, np.inf)
            times = np.unique(finish[reached])
            times = times[np.isfinite(times)]
            total = np.zeros(len(times))
            for i in reached:
                order = np.argsort(finish[i], axis=None, kind="stable")
                least = np.minimum.accumulate(cost[i].ravel()[order])
                at = np.searchsorted(finish[i].ravel()[order], times, side="right") - 1
                total += np.where(at >= 0, least[np.maximum(at, 0)], np.inf)
            latency = np.maximum(result.floor_s, times) + result.rest_s
            if method == "direct":
                latency = latency + row * layer.token_in_bytes / platform.direct_bandwidth_bytes_per_s
            costs.append(total[np.isfinite(total)])
            latencies.append(latency[np.isfinite(total)])
    cost, latency = np.concatenate(costs), np.concatenate(latencies)
    kept = undominated(cost, latency)
    return cost[kept], latency[kept]


@dataclass(frozen=True)
class AtEqualTime:
    """How one solver did.

    Attributes:
        name: of the solver.
        cost, lower_bound: in the objective's unit; None: no plan, no bound.
        gap: by the solver's own bound; over_optimum: cost over the exact solver's, minus 1.
        feasible: None without a plan.
        seconds: it took, wall time; a warm start's included.
    """

    name: str
    cost: float | None
    lower_bound: float | None
    gap: float | None
    over_optimum: float | None
    feasible: bool | None
    seconds: float


def at_equal_time(
    problem: DeploymentProblem, time_limit_s: float = 20.0, backend: Backend = "scip"
) -> list[AtEqualTime]:
    """Exact, ODS, MIQCP, and MIQCP warm-started with ODS's plan, whose seconds count against it.

    Args:
        problem: with the latency limit to compare at.
        time_limit_s: of each MIQCP.
        backend: `scip` or `gurobi`.

    Raises Infeasible where the limit is out of reach, InputError where the back end cannot be used.
    """
    jobs: dict[str, Callable[[], DeploymentPlan]] = {
        "exact": lambda: solve(problem, "exact"),
        "ods": lambda: solve(problem, "ods"),
        "miqcp": lambda: solve(problem, "miqcp", backend=backend, time_limit_s=time_limit_s),
        "miqcp from ods": lambda: solve(
            problem, "miqcp", backend=backend, time_limit_s=time_limit_s, warm_start="ods"
        ),
    }
    found: list[AtEqualTime] = []
    optimum = 0.0
    for name, job in jobs.items():
        try:
            plan = job()
        except NoIncumbent as error:
            found.append(AtEqualTime(name, None, error.lower_bound, None, None, None, error.time_limit_s))
            continue
        cost = plan.objective_value
        optimum = optimum if found else cost
        over = cost / optimum - 1 if optimum else 0.0
        found.append(AtEqualTime(name, cost, plan.lower_bound, plan.gap, over, plan.feasible, plan.solve_s or 0.0))
    return found
