"""The least whole bill: if it is not the least, a user pays for gates and waiting that nobody needs."""

import itertools
from typing import Any

import numpy as np
import pytest

from moe.errors import InputError
from moe.routing.synthetic import zipf
from moe.spec import load_spec
from optimizer.evaluation import evaluate
from optimizer.exact import Infeasible, least_latency_s
from optimizer.exact.layer_fronts import LayerOptions
from optimizer.problem import make_problem
from optimizer.solvers import EXPERTS_BILL_ONLY, SOLVERS, solve
from simulator.plan import DeploymentProblem, NonMoESize
from simulator.profiles.schema import load_profile
from simulator.serving.layer import Serving
from simulator.serving.settled import served_so
from simulator.serving.simulate import simulate
from tests.optimizer.random_problems import every_label, random_problem

JUST_IN_TIME = Serving(start="just-in-time")


def whole_problem(seed: int) -> DeploymentProblem:
    """A random problem whose non-MoE functions may have three sizes, the smaller the slower."""
    problem = random_problem(seed)
    rng = np.random.default_rng(1000 + seed)
    prices = {"price_per_invocation": 2e-7, "price_per_put": 5e-6, "price_per_get": 4e-7}
    hands_on = {"direct_hands_on": bool(rng.integers(2))}
    platform = problem.platform.model_copy(update=prices | hands_on)
    fixed = platform.warm_start_s + platform.storage_delay_s
    bandwidths = np.sort(rng.uniform(15e6, 90e6, 3))
    if rng.integers(2):
        bandwidths[1:] = bandwidths[2]
    parameters = rng.uniform(0, 30e6, len(problem.layers)) * rng.integers(0, 2, len(problem.layers))
    sizes = [
        NonMoESize(
            memory_mb=memory_mb,
            storage_bandwidth_bytes_per_s=float(bandwidth),
            head_s=fixed + 20e6 / bandwidth,
            tail_s=600 / memory_mb,
            non_moe_s=(900 / memory_mb,) * len(problem.layers),
            next_load_s=tuple((fixed + parameters / bandwidth).tolist()),
        )
        for memory_mb, bandwidth in zip((448, 1769, 3008), bandwidths, strict=True)
    ]
    return problem.model_copy(update={"objective": "total", "platform": platform, "non_moe": tuple(sizes)})


def every_total(problem: DeploymentProblem, memory_mb: int, reload: str) -> tuple[np.ndarray, np.ndarray]:
    """Whole bill and latency of every plan with a memory and a reload, gates by hand from the numbers."""
    served = served_so(problem, memory_mb, reload)  # type: ignore[arg-type]
    p, price = served.platform, problem.platform.price_per_gb_s * memory_mb / 1024
    usd = served.model_copy(update={"objective": "usd"})

    def load(seconds: float) -> tuple[float, float]:
        """Seconds and requests of the start of a non-MoE function."""
        if reload == "when-cold":
            return min(seconds, p.warm_start_s), p.price_per_invocation
        gets = seconds - p.warm_start_s - p.storage_delay_s > 1e-12
        return seconds, p.price_per_invocation + gets * p.price_per_get

    head_s, requests = load(served.head_s)
    busy_s = head_s + served.tail_s + sum(layer.non_moe_s for layer in served.layers)
    cost, latency = np.array([price * busy_s + requests]), np.array([busy_s])
    for layer in served.layers:
        tokens = layer.tokens.sum()
        if not tokens:
            continue
        load_s, requests = load(layer.next_load_s)
        upload_s = p.storage_delay_s + tokens * layer.token_in_bytes / p.gate_bandwidth
        gather_s = p.storage_delay_s + tokens * layer.token_out_bytes / p.gate_bandwidth
        part = []
        for name, (experts_usd, seconds) in every_label(usd, layer).items():
            gate_s = seconds if name == "direct" else upload_s + load_s + gather_s
            size = tokens * layer.token_out_bytes * p.payload_encoding_factor
            handed = name == "direct" and p.direct_hands_on and size > p.payload_limit_bytes
            handed_usd = (p.price_per_put + p.price_per_get) * handed
            part.append((experts_usd + price * gate_s + requests + handed_usd, seconds))
        costs, seconds = (np.concatenate(column) for column in zip(*part, strict=True))
        order = np.lexsort((costs, seconds))
        kept = order[np.append(True, np.diff(np.minimum.accumulate(costs[order])) < 0)]
        cost, latency = np.add.outer(cost, costs[kept]).ravel(), np.add.outer(latency, seconds[kept]).ravel()
    return cost, latency


@pytest.mark.parametrize("seed", range(25))
def test_no_plan_memory_or_reload_beats_the_optimum(seed: int) -> None:
    problem = whole_problem(seed)
    ways = itertools.product((448, 1769, 3008), ("every-invocation", "when-cold"))
    parts = [every_total(problem, *way) for way in ways]
    cost, latency = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert least_latency_s(problem) == pytest.approx(latency.min(), rel=1e-9)
    for limit_s in (*np.quantile(latency, [0, 0.01, 0.1, 0.5]), None):
        within = cost if limit_s is None else cost[latency <= limit_s * (1 + 1e-12)]
        plan = solve(problem.with_limit(None if limit_s is None else float(limit_s) * (1 + 1e-12)), "exact")
        assert plan.feasible
        assert plan.total_cost_usd == pytest.approx(within.min(), rel=1e-9)
        assert plan.lower_bound == pytest.approx(within.min(), rel=1e-9)
        assert plan.gap == 0.0
        rough = solve(problem.with_limit(plan.latency_s), "exact", gap=0.05)
        assert (rough.lower_bound or 0) <= cost[latency <= (plan.latency_s or 0) * (1 + 1e-12)].min() * (1 + 1e-9)
        assert rough.gap is not None
        assert rough.gap <= 0.05
    with pytest.raises(Infeasible) as error:
        solve(problem.with_limit(float(latency.min()) * (1 - 1e-8)), "exact")
    assert error.value.least_latency_s == pytest.approx(latency.min(), rel=1e-9)


RIVALS = [name for name in SOLVERS if name not in ("exact", *EXPERTS_BILL_ONLY)]


@pytest.mark.parametrize("rival", RIVALS)
def test_no_rival_is_cheaper_in_total_at_equal_or_better_latency(rival: str) -> None:
    for seed in range(4):
        problem = whole_problem(seed)
        for slack in (1.1, 2.0):
            limited = problem.with_limit(slack * least_latency_s(problem))
            plan = solve(limited, rival)
            best = solve(limited.with_limit(plan.latency_s), "exact")
            assert best.total_cost_usd is not None
            assert plan.total_cost_usd is not None
            if {kind for _, _, kind in plan.violations} <= {"latency"}:
                assert best.total_cost_usd <= plan.total_cost_usd * (1 + 1e-9)
            if plan.feasible:
                assert (plan.lower_bound or 0) <= plan.total_cost_usd * (1 + 1e-9)


@pytest.mark.parametrize("solver", EXPERTS_BILL_ONLY)
def test_a_solver_that_knows_no_gates_says_so(solver: str) -> None:
    with pytest.raises(InputError, match="gb_s or usd, got total"):
        solve(whole_problem(0), solver)


@pytest.mark.parametrize("seed", range(12))
def test_the_ideal_platform_bills_what_was_planned(seed: int) -> None:
    """With `storage` to 1e-9; a pipeline's blocks and the payloads of `direct` are at most what is planned."""
    problem = whole_problem(seed)
    for objective in ("total", "gb_s"):
        asked = problem.model_copy(update={"objective": objective})
        plan = solve(asked, "exact")
        run, closed = simulate(asked, plan, serving=JUST_IN_TIME), evaluate(asked, plan)
        assert run.mean_latency_s <= closed.latency_s * (1 + 1e-9)
        assert run.bill.total_cost_usd <= closed.total_cost_usd * (1 + 1e-9)
        assert run.bill.total_cost_usd >= closed.total_cost_usd * 0.8
    no_pipeline = {"communication": "storage", "minibatch_tokens": None}
    layers = tuple(layer.model_copy(update=no_pipeline) for layer in plan.layers)
    for memory_mb, reload in itertools.product((448, 3008), ("every-invocation", "when-cold")):
        settled = {"layers": layers, "non_moe_memory_mb": memory_mb, "reload": reload}
        by_storage = plan.model_copy(update=settled)
        run, closed = simulate(problem, by_storage, serving=JUST_IN_TIME), evaluate(problem, by_storage)
        assert run.bill.total_cost_usd == pytest.approx(closed.total_cost_usd, rel=1e-9)
        assert run.mean_latency_s == pytest.approx(closed.latency_s, rel=1e-9)


def test_deciding_gates_takes_at_most_three_times_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in deployments that are looked at, which no busy machine changes."""
    looked_at = {"gb_s": 0, "total": 0}
    outcomes = LayerOptions.outcomes

    def counted(options: LayerOptions, *args: Any) -> Any:
        looked_at[options.problem.objective] += len(args[1]) * args[3].size
        return outcomes(options, *args)

    monkeypatch.setattr(LayerOptions, "outcomes", counted)
    spec, profile = load_spec("bert-moe"), load_profile()
    tokens = 10_240 * zipf(spec.moe_layers, spec.experts, 1.0, np.random.default_rng(0))
    problem = make_problem(spec, tokens, profile)
    least_s = least_latency_s(problem)
    looked_at.update(gb_s=0)
    for slack in (1.05, 1.5, 5.0):
        for objective in ("gb_s", "total"):
            asked = problem.model_copy(update={"objective": objective}).with_limit(slack * least_s)
            assert solve(asked, "exact").gap == 0.0
    assert 0 < looked_at["total"] <= 3 * looked_at["gb_s"]
