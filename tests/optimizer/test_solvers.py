"""solve(): one call for every solver, and baselines that are what their names say."""

import functools
import sys
from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from optimizer import SOLVERS, Infeasible, evaluate, solve
from optimizer.baselines import best_uniform
from simulator.plan import DeploymentProblem
from tests.conftest import reference
from tests.optimizer.random_problems import random_problem


@functools.cache
def optimum_of(name: str) -> float:
    """The objective's least value in a reference problem."""
    problem, _, _ = reference(name)
    return evaluate(problem, solve(problem)).objective_value


@pytest.mark.parametrize("beta", ["per-layer", "global"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["tiny", "zero-and-uneven", "whole-bill", "measured-platform"])
def test_every_solver_returns_an_evaluated_plan_that_is_not_better_than_the_optimum(
    name: str, solver: str, beta: str
) -> None:
    problem, _, _ = reference(name)
    options = {"time_limit_s": 1, "warm_start": "ods"} if solver == "miqcp" else {}
    plan = solve(problem, solver, beta=beta, **options)
    found = evaluate(problem, plan)
    assert (plan.solver, plan.objective) == ("miqcp-scip" if solver == "miqcp" else solver, problem.objective)
    assert plan.latency_s == found.latency_s
    assert plan.full_cost_usd == found.full_cost_usd
    assert plan.violations == found.violations
    assert plan.feasible == (not plan.violations)
    assert plan.solve_s is not None
    if beta == "global":
        assert len({x.minibatch_tokens for x in plan.layers if x.minibatch_tokens}) <= 1
    if plan.feasible:
        assert found.objective_value >= optimum_of(name) * (1 - 1e-12)


def test_wrong_names_are_answered_with_the_nearest() -> None:
    problem, _, _ = reference("tiny")
    with pytest.raises(InputError, match=r"solver: no solver 'exakt'; did you mean 'exact'"):
        solve(problem, "exakt")
    with pytest.raises(InputError, match=r"no option 'max_memory'; did you mean 'max_memory_mb'"):
        solve(problem, "lambdaml", max_memory=3008)
    with pytest.raises(InputError, match="beta: expected"):
        solve(problem, beta="layer")  # type: ignore[arg-type]


def test_only_the_exact_solver_refuses_an_unreachable_limit() -> None:
    """A baseline that misses the limit is still a bar in a figure, marked infeasible."""
    problem = reference("tiny")[0].with_limit(5.0)
    with pytest.raises(Infeasible):
        solve(problem)
    for solver in ("ods", "lambdaml", "best-uniform", "random"):
        assert (None, None, "latency") in solve(problem, solver).violations


def test_lambdaml_takes_the_largest_listed_memory_up_to_its_maximum() -> None:
    problem, _, _ = reference("bert-4")
    for maximum, taken in ((3008, 2880), (3072, 3072), (768, 768)):
        plan = solve(problem, "lambdaml", max_memory_mb=maximum, method="storage")
        assert {(x.memory_mb, x.replicas) for layer in plan.layers for x in layer.experts} == {(taken, 1)}
    with pytest.raises(InputError, match="max_memory_mb: expected at least the smallest size 128"):
        solve(problem, "lambdaml", max_memory_mb=64)
    with pytest.raises(InputError, match="did you mean 'direct'"):
        solve(problem, "lambdaml", method="directly")  # type: ignore[arg-type]


def test_lambdaml_chooses_the_cheapest_method_that_can_run() -> None:
    """Payloads of 10,240 tokens do not fit without replicas: a plan with `direct` would flatter LambdaML."""
    problem, _, _ = reference("bert-4")
    assert {x.communication for x in solve(problem, "lambdaml").layers} == {"storage"}
    assert solve(problem, "lambdaml", method="direct").feasible is False


@pytest.mark.parametrize("name", ["tiny", "zero-and-uneven", "whole-bill", "measured-platform"])
def test_the_best_uniform_plan_with_known_popularity_is_the_best_of_all_uniform_plans(name: str) -> None:
    problem = reference(name)[0].with_limit(None)
    plan = solve(problem, "best-uniform", popularity="known")
    kinds = {(x.memory_mb, x.replicas) for layer in plan.layers for x in layer.experts}
    assert len(kinds) == 1
    assert len({layer.communication for layer in plan.layers}) == 1
    assert plan.feasible
    value = evaluate(problem, plan).objective_value
    for memory_mb in problem.platform.memory_mb:
        rival = solve(problem, "lambdaml", max_memory_mb=memory_mb)  # one replica
        assert rival.violations or value <= evaluate(problem, rival).objective_value * (1 + 1e-12)


def test_the_best_uniform_plan_needs_no_popularity() -> None:
    """It must not change when tokens move between experts: else the gain of prediction is understated."""
    problem = random_problem(1)
    layer = problem.layers[0]
    tokens = [x.tokens for x in layer.experts]
    moved = tuple(x.model_copy(update={"tokens": d}) for x, d in zip(layer.experts, tokens[::-1], strict=True))
    turned = problem.model_copy(
        update={"layers": (layer.model_copy(update={"experts": moved}), *problem.layers[1:])}
    )
    assert solve(problem, "best-uniform").layers == solve(turned, "best-uniform").layers


@pytest.mark.parametrize("seed", range(5))
def test_of_equally_cheap_uniform_plans_the_fastest_is_taken(seed: int) -> None:
    """Where replicas have nothing to fetch, each costs what it computes: more of them are as cheap and faster."""
    problem = random_problem(seed)
    free = {"storage_delay_s": 0.0, "warm_start_s": 0.0, "price_per_invocation": 0.0, "price_per_put": 0.0}
    platform = problem.platform.model_copy(update=free | {"price_per_get": 0.0})
    layers = []
    for layer in problem.layers:
        experts = tuple(x.model_copy(update={"parameter_bytes": 0.0}) for x in layer.experts)
        layers.append(
            layer.model_copy(update={"seconds_per_call": (0.0,) * 3, "next_load_s": 0.0, "experts": experts})
        )
    problem = problem.model_copy(update={"platform": platform, "layers": tuple(layers)})
    plan = best_uniform(problem, popularity="known", methods=("storage",))
    assert plan.layers[0].experts[0].replicas == problem.platform.max_replicas


def test_random_plans_follow_the_seed() -> None:
    problem, _, _ = reference("bert-4")
    methods = [tuple(x.communication for x in solve(problem, "random", seed=seed).layers) for seed in (0, 0, 1, 2)]
    assert methods[0] == methods[1]
    assert len(set(methods)) == 3


def test_all_experts_without_tokens_cost_nothing() -> None:
    problem = random_problem(2)
    layers = tuple(
        layer.model_copy(update={"experts": tuple(x.model_copy(update={"tokens": 0.0}) for x in layer.experts)})
        for layer in problem.layers
    )
    idle: DeploymentProblem = problem.model_copy(update={"layers": layers})
    for solver in SOLVERS:
        for beta in ("per-layer", "global"):
            plan = solve(idle, solver, beta=beta)
            assert plan.full_cost_usd == 0
            assert plan.feasible
    assert np.isclose(solve(idle).latency_s or 0, idle.head_s + idle.tail_s + 2 * 0.3)


OWN = """
from optimizer import Solution
from simulator.plan import DeploymentPlan, ExpertPlan, LayerPlan

def largest(problem, replicas=1):
    expert = ExpertPlan(memory_mb=problem.platform.memory_mb[-1], replicas=replicas)
    layers = [LayerPlan(communication="storage", experts=(expert,) * len(x.experts)) for x in problem.layers]
    return DeploymentPlan(solver="", layers=tuple(layers))

def nothing(problem):
    return None

def short(problem):
    return Solution(largest(problem).layers[:1])

def empty(problem):
    return Solution(())

def bounded(problem):
    return Solution(largest(problem).layers, lower_bound=1.0)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_solvers.py").write_text(OWN)
    monkeypatch.setattr(sys, "modules", {name: x for name, x in sys.modules.items() if name != "own_solvers"})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


def test_a_solver_of_ones_own_is_evaluated_here(own_module: None) -> None:
    """A user's baseline gets the same bill as everybody else's, whatever it says of itself."""
    problem, _, _ = reference("bert-4")
    plan = solve(problem, "own_solvers:largest", replicas=2)
    assert plan.solver == "own_solvers:largest"
    assert plan.billed_gb_s == pytest.approx(evaluate(problem, plan).billed_gb_s)
    assert {x.replicas for layer in plan.layers for x in layer.experts} == {2}


def test_a_bound_of_ones_own_is_shown_with_its_gap(own_module: None) -> None:
    """A user's solver that proves something must be able to say so, as the packaged ones do."""
    plan = solve(reference("bert-4")[0], "own_solvers:bounded")
    assert plan.lower_bound == 1.0
    assert plan.gap == pytest.approx(1 - 1 / (plan.billed_gb_s or 0))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_solvers:nothing", "expected a Solution or a DeploymentPlan, got NoneType"),
        ("own_solvers:short", "solver 'own_solvers:short': layers: expected 12, as in the problem, got 1"),
        ("own_solvers:empty", "solver 'own_solvers:empty': layers: .* at least 1 item"),
        ("own_solvers:largst", "expected a function that it defines; did you mean 'largest'"),
        ("not_there:solver", "no module not_there of your own in"),
    ],
)
def test_a_solver_of_ones_own_that_is_none_is_said(own_module: None, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        solve(reference("bert-4")[0], name)
