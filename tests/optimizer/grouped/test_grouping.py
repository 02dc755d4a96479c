"""Several experts in one function: nothing is lost or won by accounting."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe.errors import InputError
from optimizer import evaluate, solve
from optimizer.grouped import Grouping, blocks, group_experts, plan_groups
from optimizer.grouped.grouping import lpt
from simulator.plan import DeploymentProblem, needed_memory_bytes
from simulator.serving.simulate import simulate
from tests.conftest import reference
from tests.optimizer.random_problems import every_label, random_problem

GROUPINGS = ("index", "popularity", "load")


def _four_experts(seed: int) -> DeploymentProblem:
    """One layer of four experts."""
    problem = random_problem(seed)
    first, second = problem.layers
    tokens = np.random.default_rng(seed).integers(1, 8, 4).astype(float).tolist()
    several = (*first.experts, *second.experts)[:4]
    experts = tuple(x.model_copy(update={"tokens": d}) for x, d in zip(several, tokens, strict=True))
    return problem.model_copy(update={"layers": (first.model_copy(update={"experts": experts}),)})


@pytest.mark.parametrize("group_by", GROUPINGS)
@pytest.mark.parametrize("name", ["bert-4", "zero-and-uneven", "measured-platform"])
def test_groups_of_one_are_the_problem_itself(name: str, group_by: str) -> None:
    problem, _, _ = reference(name)
    assert group_experts(problem, 1, group_by).of_problem(problem) == problem  # type: ignore[arg-type]


@pytest.mark.parametrize("group_by", GROUPINGS)
@given(st.integers(0, 60), st.integers(1, 4))
def test_tokens_and_bytes_are_conserved(group_by: str, seed: int, size: int) -> None:
    problem = _four_experts(seed)
    grouping = group_experts(problem, size, group_by)  # type: ignore[arg-type]
    grouped = grouping.of_problem(problem)
    (before,), (after,), (groups,) = problem.layers, grouped.layers, grouping.layers
    assert max(map(len, groups)) <= size
    assert len(groups) == -(-4 // size)
    assert sorted(i for group in groups for i in group) == [0, 1, 2, 3]
    assert after.tokens.sum() == before.tokens.sum()
    assert after.tokens.tolist() == grouping.of_tokens(before.tokens[None])[0].tolist()
    assert sum(x.parameter_bytes for x in after.experts) == sum(x.parameter_bytes for x in before.experts)
    assert grouped.served_tokens == problem.served_tokens
    # A group's memory: all parameters, one runtime, its tokens.
    for group, needed in zip(groups, needed_memory_bytes(after, after.tokens), strict=True):
        alone = needed_memory_bytes(before, before.tokens)[list(group)].sum()
        runtimes = sum(before.experts[i].intermediate_bytes for i in group[1:])
        assert needed == pytest.approx(alone - runtimes)


def test_each_member_is_called_once_a_call() -> None:
    problem = random_problem(4)
    assert problem.layers[0].seconds_per_call == (0.1, 0.05, 0.02)
    grouped = group_experts(problem, 2).of_problem(problem)
    assert grouped.layers[0].seconds_per_call == (0.2, 0.1, 0.04)


@pytest.mark.parametrize("seed", range(5))
def test_on_every_grouping_of_a_small_layer_the_exact_plan_is_the_best_of_all_plans(seed: int) -> None:
    problem = _four_experts(seed)
    values = {}
    for pair in itertools.combinations(range(4), 2):
        rest = tuple(i for i in range(4) if i not in pair)
        grouped = Grouping(group_by="index", layers=((pair, rest),)).of_problem(problem)
        cost = np.concatenate([cost for cost, _ in every_label(grouped, grouped.layers[0]).values()])
        values[frozenset((pair, rest))] = evaluate(grouped, solve(grouped)).objective_value
        assert values[frozenset((pair, rest))] == pytest.approx(cost.min(), rel=1e-10)
    for group_by in GROUPINGS:
        found = plan_groups(problem, 2, group_by)  # type: ignore[arg-type]
        value = evaluate(found.problem, found.plan).objective_value
        assert value == pytest.approx(values[frozenset(found.grouping.layers[0])], rel=1e-10)


def test_hot_joins_hot_by_popularity_and_cold_by_load() -> None:
    problem = random_problem(6)
    layer = problem.layers[0]
    experts = tuple(layer.experts[0].model_copy(update={"tokens": d}) for d in (9.0, 1.0, 8.0, 2.0))
    problem = problem.model_copy(update={"layers": (layer.model_copy(update={"experts": experts}),)})
    by = {name: group_experts(problem, 2, name).layers[0] for name in GROUPINGS}  # type: ignore[arg-type]
    assert by == {"index": ((0, 1), (2, 3)), "popularity": ((0, 2), (1, 3)), "load": ((0, 1), (2, 3))}
    assert group_experts(problem, 3, "popularity").layers[0] == ((0, 2, 3), (1,))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 3))
def test_lpt_is_within_four_thirds_of_the_best(tokens: list[int], groups: int) -> None:
    """Graham 1969: at most 4/3 - 1/(3 groups) times the least possible largest load."""
    d = np.array(tokens, float)
    members = lpt(d, groups, len(d))
    assert sorted(i for group in members for i in group) == list(range(len(d)))
    largest = max(d[group].sum() for group in members)
    best = min(
        np.bincount(where, weights=d, minlength=groups).max()
        for where in itertools.product(range(groups), repeat=len(d))
    )
    assert largest <= best * (4 / 3 - 1 / (3 * groups)) + 1e-9


def test_real_routing_reaches_the_groups_of_its_experts() -> None:
    problem = reference("bert-8")[0].with_limit(None)
    found = plan_groups(problem, 4, "load")
    rng = np.random.default_rng(0)
    real = np.array([rng.multinomial(10_240, np.full(8, 1 / 8)) for _ in problem.layers])
    run = simulate(found.problem, found.plan, routing=[found.grouping.of_tokens(real)])
    tokens = np.zeros((12, 2))
    for row in run.records:
        if row.role == "expert":
            tokens[row.layer, row.expert] += row.tokens
    for e, groups in enumerate(found.grouping.layers):
        assert tokens[e].tolist() == [real[e, list(group)].sum() for group in groups]


def test_blocks_have_one_replica_and_neighbours_only() -> None:
    problem = reference("bert-8")[0].with_limit(None)
    found = blocks(problem, 2)
    assert found.grouping.layers == (((0, 1), (2, 3), (4, 5), (6, 7)),) * 12
    assert all((layer.replicas == 1).all() for layer in found.plan.layers)
    exact = plan_groups(problem, 2, "index")
    assert (found.plan.billed_gb_s or 0) >= (exact.plan.billed_gb_s or 0) * (1 - 1e-12)


def test_impossible_groups_are_refused() -> None:
    problem = reference("bert-4")[0]
    with pytest.raises(InputError, match="group: expected 1 to 4 experts in a group, got 5"):
        group_experts(problem, 5)
    with pytest.raises(InputError, match="no grouping 'lode'; did you mean 'load'"):
        group_experts(problem, 2, "lode")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"layers.0: expected each of the experts 0..3 in one group"):
        Grouping(group_by="index", layers=(((0, 1), (1, 2)),) * 12).of_problem(problem)
    with pytest.raises(InputError, match="layers: expected 12"):
        Grouping(group_by="index", layers=(((0, 1), (2, 3)),)).of_problem(problem)
