"""The optimum over shapes: if these fail, a plan is called the cheapest one that is not."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from moe.errors import InputError
from moe.spec import load_spec
from optimizer.blocks import NAMED, SHAPES, ShapeName
from optimizer.exact import Infeasible, solve_exact
from optimizer.exact.groupings import groupings
from optimizer.exact.shape_graph import all_handover_gets
from optimizer.exact.shapes import solve_shapes
from optimizer.problem import make_problem
from optimizer.stage_cost import front_itself, gets_usd, stage_costs
from optimizer.staged_evaluation import evaluate_staged, with_staged_evaluation
from simulator.plan import COMMUNICATIONS, DeploymentProblem, ExpertPlan, LayerPlan
from simulator.profiles.schema import load_profile
from simulator.stage_rules import handover_gets, input_handover
from simulator.staged_plan import BlocksStage, ExpertStage, Groups, Stage, StagedPlan, blocks_of, grouped_layer
from tests.optimizer.staged_problems import BLOCK_SIZES, staged_problem

HANDOVERS = ("payload", "storage")


def blocks_stages(first: int, end: int, lanes: int, sizes: tuple[int, ...]) -> Iterator[BlocksStage]:
    """Every stage of blocks of these layers."""
    for memory_mb, n, handover in itertools.product(sizes, range(1, lanes + 1), HANDOVERS):
        yield BlocksStage(first_layer=first, last_layer=end - 1, memory_mb=memory_mb, lanes=n, handover=handover)


def expert_stages(problem: DeploymentProblem, e: int, groups: Groups | None = None) -> Iterator[ExpertStage]:
    """Every deployment of a layer's experts, or groups of them, of at most two replicas."""
    layer, p = problem.layers[e], problem.platform
    layer = layer if groups is None else grouped_layer(layer, groups)
    each = [ExpertPlan(memory_mb=m, replicas=g) for m in p.memory_mb for g in range(1, p.max_replicas + 1)]
    for method, experts in itertools.product(COMMUNICATIONS, itertools.product(each, repeat=len(layer.experts))):
        most = max(1, int(np.ceil(layer.tokens.max())))
        for beta in range(1, most + 1) if method == "pipelined" else (None,):
            plan = LayerPlan(communication=method, minibatch_tokens=beta, experts=experts)
            yield ExpertStage(first_layer=e, last_layer=e, groups=groups, layer=plan)


def every_plan(options: dict[tuple[int, int], list[Stage]], layers: int) -> Iterator[tuple[Stage, ...]]:
    """Every way to cut the model, with every stage."""
    for cuts in itertools.product([False, True], repeat=layers - 1):
        ends = [0, *(e + 1 for e, cut in enumerate(cuts) if cut), layers]
        yield from itertools.product(*(options[pair] for pair in itertools.pairwise(ends)))


def assert_optimal_at_all_limits(
    problem: DeploymentProblem, cost: np.ndarray, latency_s: np.ndarray, shapes: tuple[str, ...]
) -> None:
    """Against a brute force's plans, at limits between, below and above their latencies."""
    front = np.sort(latency_s[[cost[latency_s <= t].min() == c for c, t in zip(cost, latency_s, strict=True)]])
    limits = np.unique(np.concatenate([front * (1 + 1e-9), np.quantile(latency_s, [0.05, 0.3, 0.9]), [1e6]]))
    for limit in limits[:: max(1, len(limits) // 12)].tolist():
        limited = problem.with_limit(limit)
        found = solve_shapes(limited, shapes)
        plan = with_staged_evaluation(limited, found.plan("exact"), found.lower_bound)
        assert plan.feasible, plan.violations
        assert plan.total_cost_usd == pytest.approx(cost[latency_s <= limit].min(), rel=1e-10)
        assert plan.gap == 0
    with pytest.raises(Infeasible) as error:
        solve_shapes(problem.with_limit(0.9 * float(latency_s.min())), shapes)
    assert error.value.least_latency_s == pytest.approx(float(latency_s.min()), rel=1e-9)


@pytest.mark.parametrize("seed", [3, 11, 40, 57])
def test_a_brute_force_over_cuts_memories_and_lanes_finds_nothing_cheaper(seed: int) -> None:
    """Stages' costs are added up one by one, as tests/optimizer/test_stage_cost.py shows that they may be."""
    problem = staged_problem(seed, 3, max_lanes=3)
    pairs = [(i, j) for i in range(3) for j in range(i + 1, 4)]
    options = {pair: list(blocks_stages(*pair, 3, BLOCK_SIZES)) for pair in pairs}
    first, end = np.array(pairs).T
    tables = {
        ways: stage_costs(problem, first, end, np.arange(1, 4), *ways)
        for ways in itertools.product(HANDOVERS, repeat=2)
    }
    came_to = []
    for stages in every_plan(options, 3):
        usd, seconds = front_itself(problem, stages[-1].handover == "payload")
        fits, arrives, before = True, input_handover(problem), stages[0].lanes
        for stage in stages:
            at = (pairs.index((stage.first_layer, stage.last_layer + 1)), BLOCK_SIZES.index(stage.memory_mb))
            costs = tables[arrives, stage.handover]
            gets = handover_gets(7, before, stage.lanes) if arrives == "storage" else 0
            usd += costs.total_usd[at][stage.lanes - 1] + gets_usd(problem, gets)
            seconds += costs.latency_s[at][stage.lanes - 1]
            fits &= bool(costs.fits[at][stage.lanes - 1])
            arrives, before = stage.handover, stage.lanes
        if fits:
            came_to.append((usd, seconds))
    assert len(came_to) > 1000
    assert_optimal_at_all_limits(problem, *np.array(came_to).T, ("blocks", "whole-model"))


@pytest.mark.parametrize(
    ("seed", "front", "reload", "shapes"),
    [(1, "client", "when-cold", SHAPES), (2, "function", "every-invocation", NAMED)],
)
def test_a_brute_force_with_expert_functions_between_blocks_finds_nothing_cheaper(
    seed: int, front: str, reload: str, shapes: tuple[ShapeName, ...]
) -> None:
    """Experts and blocks cost about the same, so that mixed plans are among the best."""
    problem = small_mixed_problem(seed, front, reload)
    every: list[Groups | None] = [None, ((0, 1),)] if "grouped" in shapes else [None]
    options: dict[tuple[int, int], list[Stage]] = {}
    for pair in ((i, j) for i in range(3) for j in range(i + 1, 4)):
        options[pair] = [*blocks_stages(*pair, 2, BLOCK_SIZES[:2])]
        if pair[1] == pair[0] + 1:
            each = [stage for groups in every for stage in expert_stages(problem, pair[0], groups)]
            options[pair] += undominated_alone(problem, each)
    plans = list(every_plan(options, 3))
    found = [evaluate_staged(problem, StagedPlan(solver="", stages=stages)) for stages in plans]
    cost, latency_s = np.array([(x.total_cost_usd if x.feasible else np.inf, x.latency_s) for x in found]).T
    assert len({type(stage) for stage in plans[int(cost.argmin())]}) == 2, (
        "else the test says little of mixed plans"
    )
    kept = np.isfinite(cost)
    assert_optimal_at_all_limits(problem, cost[kept], latency_s[kept], shapes)


@pytest.mark.parametrize("front", ["client", "function"])
def test_a_brute_force_over_groups_finds_nothing_cheaper(front: str) -> None:
    """Three experts of two layers, in all five groupings; no blocks, so no front is billed."""
    problem = small_mixed_problem(1, front, "when-cold")
    layers = []
    for layer, tokens in zip(problem.layers[:2], [(5.0, 1.0, 0.0), (2.0, 2.0, 2.0)], strict=True):
        experts = tuple(layer.experts[0].model_copy(update={"tokens": d}) for d in tokens)
        layers.append(layer.model_copy(update={"experts": experts}))
    blocks = blocks_of(problem)
    platform = problem.platform.model_copy(update={"max_replicas": 1})
    changes = {"layers": tuple(layers), "platform": platform}
    problem = problem.model_copy(update=changes).with_blocks(
        blocks.model_copy(update={"layers": blocks.layers[:2]})
    )
    every = [None, ((0,), (1, 2)), ((0, 1), (2,)), ((0, 2), (1,)), ((0, 1, 2),)]
    assert {groups for groups in every if groups} == {tuple(sorted(x)) for x in groupings(np.ones(3))}
    options = [
        undominated_alone(problem, [x for groups in every for x in expert_stages(problem, e, groups)])
        for e in range(2)
    ]
    plans = [StagedPlan(solver="", stages=stages) for stages in itertools.product(*options)]
    found = [evaluate_staged(problem, plan) for plan in plans]
    cost, latency_s = np.array([(x.total_cost_usd, x.latency_s) for x in found if x.feasible]).T
    best = plans[int(np.argmin([x.total_cost_usd for x in found]))]
    assert any(isinstance(x, ExpertStage) and x.groups for x in best.stages), "else it says little of groups"
    assert_optimal_at_all_limits(problem, cost, latency_s, ("expert-functions", "grouped"))


def test_groups_of_many_experts_hold_each_once_and_are_never_dearer() -> None:
    """Groups are one more choice: with them allowed the optimum cannot rise."""
    assert all(sorted(i for group in x for i in group) == list(range(13)) for x in groupings(np.arange(13.0)))
    spec = load_spec("bert-moe")
    tokens = np.tile([900.0, 60.0, 40.0, 24.0], (spec.moe_layers, 1))
    problem = make_problem(spec, tokens, load_profile(), objective="total", shapes=NAMED)
    alone = with_staged_evaluation(problem, solve_shapes(problem, ("expert-functions",), 1e-3).plan("exact"))
    both = with_staged_evaluation(problem, solve_shapes(problem, NAMED[::3], 1e-3).plan("exact"))
    assert (both.total_cost_usd or 0) < (alone.total_cost_usd or 0)


def small_mixed_problem(seed: int, front: str, reload: str) -> DeploymentProblem:
    """Few tokens and few deployments; the second layer's block is slow."""
    problem = staged_problem(seed, 3, max_lanes=2, front=front, reload=reload, head_bytes=1e6)
    blocks = problem.blocks
    assert blocks is not None
    slow = blocks.layers[1].model_copy(update={"seconds_per_token": (3.0, 2.0, 1.0)})
    blocks = blocks.model_copy(
        update={"layers": (blocks.layers[0], slow, blocks.layers[2]), "memory_mb": BLOCK_SIZES[:2]}
    )
    rest = {key: getattr(blocks, key) for key in ("tail_seconds_per_token", "storage_bandwidth_bytes_per_s")}
    blocks = blocks.model_copy(update={key: value and value[:2] for key, value in rest.items()})
    short = tuple(
        x.model_copy(
            update={
                "parameter_bytes": 1e6,
                "seconds_per_token": x.seconds_per_token[:2],
                "seconds_per_call": None,
            }
        )
        for x in blocks.layers
    )
    platform = problem.platform.model_copy(
        update={
            "memory_mb": problem.platform.memory_mb[:2],
            "storage_bandwidth_bytes_per_s": problem.platform.storage_bandwidths[:2].tolist(),
            "max_replicas": 2,
            "reload": reload,
        }
    )
    layers = []
    for layer in problem.layers:
        experts = tuple(
            layer.experts[0].model_copy(update={"tokens": d, "parameter_bytes": 1e6}) for d in (4.0, 2.0)
        )
        times = {"seconds_per_token": (0.4, 0.1), "seconds_per_call": None, "non_moe_s": 0.05, "next_load_s": 0.1}
        layers.append(layer.model_copy(update={"experts": experts} | times))
    changes = {"platform": platform, "layers": tuple(layers), "batch_tokens": 6.0, "head_s": 0.1}
    return problem.model_copy(update=changes).with_blocks(blocks.model_copy(update={"layers": short}))


def undominated_alone(problem: DeploymentProblem, stages: list[ExpertStage]) -> list[ExpertStage]:
    """Deployments of a layer that none beats in a run before another layer, or before a stage of blocks."""
    e = stages[0].first_layer
    kept: dict[int, ExpertStage] = {}
    for next_load_s in (problem.layers[e].next_load_s, problem.platform.warm_start_s):
        layer = problem.layers[e].model_copy(update={"next_load_s": next_load_s})
        one = problem.model_copy(update={"layers": (layer,)}).with_blocks(None)
        alone = [x.model_copy(update={"first_layer": 0, "last_layer": 0}) for x in stages]
        found = [evaluate_staged(one, StagedPlan(solver="", stages=(x,))) for x in alone]
        for k, x in enumerate(found):
            beaten = any(
                y.feasible
                and y.total_cost_usd <= x.total_cost_usd
                and y.latency_s <= x.latency_s
                and (i < k or y.total_cost_usd < x.total_cost_usd or y.latency_s < x.latency_s)
                for i, y in enumerate(found)
            )
            if x.feasible and not beaten:
                kept[k] = stages[k]
    return list(kept.values())


def test_expert_functions_alone_are_as_before() -> None:
    problem = staged_problem(9, 3)
    for limit in (None, 4.9):
        limited = problem.with_limit(limit)
        old = solve_exact(limited.with_blocks(None))
        new = solve_shapes(limited, ("expert-functions",))
        stages = [stage for stage in new.stages if isinstance(stage, ExpertStage)]
        assert tuple(stage.layer for stage in stages) == old.layers
        assert new.lower_bound == pytest.approx(old.lower_bound, rel=1e-12)


def test_lanes_read_as_many_objects_as_the_rule_says() -> None:
    for sequences in (5, 12, 17):
        lanes = np.arange(1, sequences + 1)
        by_rule = [[handover_gets(sequences, int(a), int(b)) for b in lanes] for a in lanes]
        assert all_handover_gets(sequences, lanes).tolist() == by_rule


def bert(limit_s: float | None = None) -> DeploymentProblem:
    spec = load_spec("bert-moe")
    tokens = np.outer(np.ones(12), 10_240 * np.array([0.5, 0.25, 0.15, 0.1]))
    return make_problem(spec, tokens, load_profile(), shapes=SHAPES, objective="total", latency_limit_s=limit_s)


def test_bert_moe_is_cheapest_whole_and_lanes_make_it_fast() -> None:
    """All of it on one vCPU, 0.134 USD per million tokens: an expert a function costs 1.4 times as much and takes
    longer. Under a limit of 5 s it is still whole, in lanes."""
    free, limited = (solve_shapes(bert(limit)) for limit in (None, 5.0))
    for found, most in ((free, 0.137), (limited, 0.141)):
        (stage,) = found.stages
        assert isinstance(stage, BlocksStage)
        assert (stage.first_layer, stage.last_layer) == (0, 11)
        usd = evaluate_staged(bert(), found.plan("")).total_cost_usd
        assert 0.134 < usd / 10_240 * 1e6 < most
    experts = solve_exact(bert().with_blocks(None))
    alone = tuple(ExpertStage(first_layer=e, last_layer=e, layer=x) for e, x in enumerate(experts.layers))
    plan = StagedPlan(solver="", stages=alone, non_moe_memory_mb=experts.non_moe_memory_mb, reload=experts.reload)
    cut = evaluate_staged(bert(), plan)
    whole = evaluate_staged(bert(), free.plan(""))
    assert 1.2 < cut.total_cost_usd / whole.total_cost_usd < 1.7
    assert cut.latency_s > whole.latency_s


def test_a_shape_that_nothing_fits_says_what_would() -> None:
    spec = load_spec("mixtral-8x7b")
    problem = make_problem(spec, np.full((32, 8), 256.0), load_profile(), shapes=SHAPES, weights="int8")
    with pytest.raises(InputError, match=r"whole-model: .* needs 4\d,\d\d\d MB .* fits in no precision"):
        solve_shapes(problem, ("whole-model",))
    found = solve_shapes(problem, ("blocks",), gap=1e-3)
    assert all(isinstance(stage, BlocksStage) for stage in found.stages)
    assert len(found.stages) > 4
