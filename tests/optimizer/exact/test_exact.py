"""The certified optimum: if it is not the optimum, every gap and every claim of a saving is wrong."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe.errors import InputError
from optimizer.evaluation import evaluate
from optimizer.exact import Infeasible, front, least_latency_s, model_fronts
from optimizer.exact import layer_fronts as fronts_module
from optimizer.exact import layer_ranges as ranges
from optimizer.exact import whole_fronts as whole
from optimizer.exact.candidates import Window
from optimizer.exact.layer_fronts import LayerFront
from optimizer.solvers import solve
from tests.conftest import NAMES, reference
from tests.optimizer.random_problems import distinct, front_by_trying, random_problem, with_many_tokens


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_is_what_an_independent_program_found(name: str) -> None:
    problem, _, expected = reference(name)
    fronts = model_fronts(problem)
    for optimum in expected["optimum"]:
        limited = problem.with_limit(optimum["latency_limit_s"])
        if not optimum["feasible"]:
            with pytest.raises(Infeasible):
                solve(limited, "exact", fronts=fronts)
            continue
        plan = solve(limited, "exact", fronts=fronts)
        key = "full_cost_usd" if problem.objective == "usd" else "billed_gb_s"
        assert getattr(plan, key) == pytest.approx(optimum[key], rel=1e-6)
        assert plan.feasible
        assert evaluate(limited, plan).feasible
        assert plan.gap == 0.0
        assert plan.lower_bound == pytest.approx(optimum[key], rel=1e-6)


TIES = (1 + 1e-12, 1 - 1e-12)
"""Finish times that differ by less are the same but for rounding."""


@pytest.fixture(params=["as it is", "all pruned"])
def pruning(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems leave most ranges whole and no deployment out; here they do what large ones do."""
    if request.param == "all pruned":
        monkeypatch.setattr(ranges, "MANY", 0)
        monkeypatch.setattr(ranges, "FIRST_RANGES", 2)
        monkeypatch.setattr(ranges, "PARTS", 2)
        monkeypatch.setattr(ranges, "AT_ONCE", 1)
        monkeypatch.setattr(ranges, "BLOCK", 1)
        monkeypatch.setattr(whole, "PARTS", 2)
        monkeypatch.setattr(whole, "BLOCK", 1)


@pytest.mark.usefixtures("pruning")
@pytest.mark.parametrize("seed", range(25))
def test_no_plan_beats_the_optimum_of_one_limit(seed: int) -> None:
    """The search that one limit asks for finds what trying every plan finds."""
    problem = random_problem(seed)
    cost, latency = front_by_trying(seed)
    assert least_latency_s(problem) == pytest.approx(latency[0], rel=1e-9)
    for k in (*range(0, len(cost), max(1, len(cost) // 6)), len(cost) - 1):
        plan = solve(problem.with_limit(latency[k] * (1 + 1e-12)), "exact")
        assert plan.feasible, plan.violations
        assert plan.objective_value == pytest.approx(cost[k], rel=1e-9)
    assert solve(problem, "exact").objective_value == pytest.approx(cost[-1], rel=1e-9)
    with pytest.raises(Infeasible) as error:
        solve(problem.with_limit(latency[0] * (1 - 1e-8)), "exact")
    assert error.value.least_latency_s == pytest.approx(latency[0], rel=1e-9)


@pytest.mark.usefixtures("pruning")
@pytest.mark.parametrize("beta", ["per-layer", "global"])
@pytest.mark.parametrize("gap", [1e-4, 0.02, 0.3])
def test_a_gap_is_certified(gap: float, beta: str) -> None:
    """A user who stops early is told, rightly, how much there may be to gain."""
    left = 0
    for seed in range(0, 25, 2):
        problem = random_problem(seed)
        cost, latency = front_by_trying(seed, beta == "global")
        for k in (0, len(cost) // 3, len(cost) - 1):
            plan = solve(problem.with_limit(latency[k] * (1 + 1e-12)), "exact", beta=beta, gap=gap)
            value, bound = plan.objective_value, plan.lower_bound or 0.0
            assert plan.feasible, plan.violations
            assert bound <= cost[k] * (1 + 1e-12)
            assert cost[k] <= value * (1 + 1e-12)
            assert plan.gap is not None
            assert plan.gap <= gap
            assert plan.gap == pytest.approx(1 - bound / value, abs=1e-12)
            left += plan.gap > 0
    assert left > 0 or gap < 0.01


@pytest.mark.parametrize("name", NAMES)
def test_one_limit_and_all_limits_agree(name: str) -> None:
    """Two ways to the optimum: whole fronts, and the search that one limit asks for."""
    problem, _, expected = reference(name)
    fronts = model_fronts(problem)
    for optimum in expected["optimum"]:
        if optimum["feasible"]:
            limited = problem.with_limit(optimum["latency_limit_s"])
            value = solve(limited, "exact").objective_value
            assert value == pytest.approx(solve(limited, "exact", fronts=fronts).objective_value, rel=1e-12)
            rough = solve(limited, "exact", gap=1e-3)
            assert (rough.lower_bound or 0) <= value * (1 + 1e-12) <= rough.objective_value * (1 + 2e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.tuples(st.floats(0, 1), st.floats(0, 1)), late=st.floats(0, 1))
def test_a_range_s_labels_bound_those_of_its_rows(seed: int, cut: tuple[float, float], late: float) -> None:
    """A bound that is none cuts the optimum off, and calls what is left certified."""
    problem = random_problem(seed)
    options = fronts_module.LayerOptions(problem, 0)
    if not options.reached:
        return
    for method in ("pipelined", "direct"):
        rows = options.rows(method)
        if not len(rows):
            continue
        first, last = sorted(round(x * (len(rows) - 1)) for x in cut)
        _, cost, latency, finish = options.points(method, rows[first : first + 1], rows[last : last + 1])
        exact = [options.labels(method, rows[k : k + 1]) for k in range(first, last + 1)]
        for labels in exact:
            at = np.searchsorted(latency, labels.latency_s * (1 + 1e-12), side="right") - 1
            assert at.min(initial=0) >= 0
            assert np.all(cost[at] <= labels.cost * (1 + 1e-12))
        if not len(finish):
            continue
        # Deployments of no use from a finish time on are in no label from there on.
        from_s = float(np.quantile(finish, late))
        place = options.useful(method, rows[first], rows[last], Window(), from_s)
        for row, labels in zip(rows[first : last + 1], exact, strict=True):
            kept = options.labels(method, np.array([row]), Window(place, from_s))
            later = labels.take(np.flatnonzero(labels.finish_s >= max(from_s, kept.finish_s.min(initial=np.inf))))
            soon, before = (np.searchsorted(kept.finish_s, later.finish_s * x, side="right") - 1 for x in TIES)
            assert np.all(kept.cost[soon] <= later.cost * (1 + 1e-12))
            assert np.all((before < 0) | (kept.cost[before] >= later.cost * (1 - 1e-12)))
            early = labels.take(np.flatnonzero(labels.finish_s < from_s))
            assert np.all(early.cost >= cost[np.searchsorted(finish, from_s)] * (1 - 1e-12))


@pytest.mark.parametrize("one_beta", [False, True], ids=["per-layer", "global"])
@pytest.mark.parametrize("seed", range(25))
def test_no_plan_beats_the_optimum(seed: int, one_beta: bool) -> None:
    """Every plan of a small problem is tried, under limits at, and just below, every point of its front."""
    problem = random_problem(seed)
    cost, latency = front_by_trying(seed, one_beta)
    fronts = model_fronts(problem)
    beta = "global" if one_beta else "per-layer"
    step = max(1, len(cost) // 12)
    for k in (*range(0, len(cost), step), len(cost) - 1):
        plan = solve(problem.with_limit(latency[k] * (1 + 1e-12)), "exact", beta=beta, fronts=fronts)
        assert plan.feasible, plan.violations
        assert plan.objective_value == pytest.approx(cost[k], rel=1e-9)
        if k > 0:
            plan = solve(problem.with_limit(latency[k] * (1 - 1e-8)), "exact", beta=beta, fronts=fronts)
            assert plan.objective_value == pytest.approx(cost[k - 1], rel=1e-9)
    assert solve(problem, "exact", beta=beta, fronts=fronts).objective_value == pytest.approx(cost[-1], rel=1e-9)
    with pytest.raises(Infeasible) as error:
        solve(problem.with_limit(latency[0] * (1 - 1e-8)), "exact", beta=beta, fronts=fronts)
    assert error.value.least_latency_s == pytest.approx(latency[0], rel=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_one_beta_for_all_is_optimal_with_pipelined_alone(seed: int) -> None:
    """The paper's setting: here a minibatch size of one layer can be too large for another (Eq. 12e), as no
    other method takes its place."""
    problem = random_problem(seed)
    cost, latency = front_by_trying(seed, one_beta=True, others=())
    only = model_fronts(problem).restricted([("pipelined",)] * 2)
    for k in (*range(0, len(cost), max(1, len(cost) // 6)), len(cost) - 1):
        limited = problem.with_limit(latency[k] * (1 + 1e-12))
        plan = solve(limited, "exact", beta="global", fronts=only)
        assert plan.feasible, plan.violations
        assert plan.objective_value == pytest.approx(cost[k], rel=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_the_curve_of_the_model_is_exact(seed: int) -> None:
    problem = random_problem(seed)
    cost, latency = front_by_trying(seed)
    found_cost, found_latency = distinct(*front(problem))
    np.testing.assert_allclose(found_cost, cost, rtol=1e-9)
    np.testing.assert_allclose(found_latency, latency, rtol=1e-9)


@pytest.mark.parametrize("name", ["tiny", "whole-bill", "zero-and-uneven", "measured-platform"])
def test_every_sampled_point_of_the_curve_is_a_plan_and_the_best_one(name: str) -> None:
    """A point that no plan attains, or that a plan beats, is a promise that cannot be kept."""
    problem, _, _ = reference(name)
    cost, latency = front(problem)
    assert np.all(np.diff(latency) > 0)
    assert np.all(np.diff(cost) < 0)
    for k in np.unique(np.linspace(0, len(cost) - 1, 7).astype(int)):
        plan = solve(problem.with_limit(float(latency[k])), "exact")
        found = evaluate(problem, plan)
        assert found.objective_value == pytest.approx(cost[k], rel=1e-9)
        assert found.latency_s <= latency[k] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("name", "tolerance"), [("measured-platform", 0.01), ("measured-platform", 0.1), ("bert-4", 0.01)]
)
def test_a_thinned_curve_is_within_its_tolerance(name: str, tolerance: float) -> None:
    """A user trades points for seconds, not for truth: each limit's optimum is missed by that share at most."""
    problem, _, _ = reference(name)
    cost, latency = front(problem)
    rough_cost, rough_latency = front(problem, tolerance)
    assert len(rough_cost) < 0.6 * len(cost)
    at = np.searchsorted(rough_latency, latency * (1 + 1e-12), side="right") - 1
    assert at.min() >= 0
    assert np.all(rough_cost[at] <= cost * (1 + tolerance) * (1 + 1e-9))
    assert np.all(rough_cost[at] >= cost * (1 - 1e-9))


@pytest.mark.parametrize("seed", range(25))
def test_rows_that_are_not_solved_are_not_on_the_front(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound or a window that is too sharp would lose a point of the curve without a word."""
    monkeypatch.setattr(whole, "PARTS", 2)
    monkeypatch.setattr(whole, "BLOCK", 1)
    options = fronts_module.LayerOptions(with_many_tokens(seed), 0)
    for method in ("pipelined", "direct") if options.reached else ():
        rows = options.rows(method)
        each = [options.labels(method, rows[k : k + 1]) for k in range(len(rows))]
        every = LayerFront.joined([LayerFront.empty(), *each])
        found = whole.whole_front(options, method)
        assert found.cost == pytest.approx(every.cost, rel=1e-11)
        assert found.latency_s == pytest.approx(every.latency_s, rel=1e-11)


@pytest.mark.parametrize("name", ["bert-4", "whole-bill"])
def test_more_time_never_costs_more(name: str) -> None:
    problem, _, _ = reference(name)
    fronts = model_fronts(problem)
    least = front(problem, tolerance=0.05)[1]
    limits = np.linspace(least[0], least[-1], 15)
    costs = [solve(problem.with_limit(x), "exact", fronts=fronts).objective_value for x in limits]
    assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(costs))


def test_one_beta_for_all_never_beats_one_for_each() -> None:
    for seed in range(10):
        problem = random_problem(seed)
        limited = problem.with_limit(float(front(problem)[1].mean()))
        each, one = solve(limited, "exact"), solve(limited, "exact", beta="global")
        assert one.objective_value >= each.objective_value * (1 - 1e-12)
        assert len({x.minibatch_tokens for x in one.layers if x.minibatch_tokens}) <= 1


def test_the_same_problem_gives_the_same_plan() -> None:
    problem, _, _ = reference("bert-8")
    assert solve(problem, "exact").layers == solve(problem, "exact").layers


def test_an_expert_that_fits_nowhere_is_named() -> None:
    """The user learns which expert, and how much memory it needs, in one line."""
    problem, _, _ = reference("tiny")
    layer = problem.layers[1]
    huge = layer.experts[2].model_copy(update={"parameter_bytes": 5e9})
    layers = (problem.layers[0], layer.model_copy(update={"experts": (*layer.experts[:2], huge)}))
    with pytest.raises(InputError, match=r"layers\.1\.experts\.2: needs 49\d\d MB .* 3072"):
        solve(problem.model_copy(update={"layers": layers}), "exact")


@pytest.mark.parametrize("gap", [-0.1, 1.0, float("nan")])
def test_a_gap_is_a_share(gap: float) -> None:
    with pytest.raises(InputError, match="gap: expected a share from 0 to below 1"):
        solve(reference("tiny")[0], "exact", gap=gap)


def test_an_unreachable_limit_says_what_is_reachable() -> None:
    problem, _, _ = reference("tiny")
    with pytest.raises(Infeasible, match=r"latency_limit_s: 5 s is out of reach, .* 6\.21228 s") as error:
        solve(problem.with_limit(5.0), "exact")
    assert solve(problem.with_limit(error.value.least_latency_s), "exact").feasible
