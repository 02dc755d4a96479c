"""The least whole bill over shapes: where a model is cut, and each stage as blocks or as expert functions.

A plan is a path through `shape_graph`. A layer of expert functions is an arc whose labels are searched as far as
the path asks (`layer_ranges`); seams are as in `optimizer.staged_evaluation`. Memory of the gates is settled as in
`whole_bill`: a search for each size that may hold the cheapest plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe.errors import InputError
from optimizer.blocks import BLOCKS, SHAPES, ShapeName, check_fits
from optimizer.evaluation import ROUNDING
from optimizer.exact.expert_arcs import Choices, Experts, Searches, bound_with_experts
from optimizer.exact.groupings import groupings
from optimizer.exact.paths import Search, Within
from optimizer.exact.shape_graph import ShapeGraph, shape_graph
from optimizer.exact.solve import Infeasible, solve_exact
from optimizer.exact.whole_bill import settings_of
from optimizer.stage_cost import front_usd_per_s
from optimizer.staged_evaluation import evaluate_staged
from simulator.plan import DeploymentProblem, Reload
from simulator.staged_plan import ExpertStage, Stage, StagedPlan, blocks_of


@dataclass(frozen=True)
class StagedSolution:
    """What a solver over shapes returns.

    Attributes:
        stages: of the model, in order.
        lower_bound: no plan of these shapes within the limit costs less, USD; None if unknown.
        non_moe_memory_mb, reload: of the stages of expert functions.
    """

    stages: tuple[Stage, ...]
    lower_bound: float | None = None
    non_moe_memory_mb: int | None = None
    reload: Reload | None = None

    def plan(self, solver: str) -> StagedPlan:
        """As a plan that is not evaluated yet."""
        settled = {"non_moe_memory_mb": self.non_moe_memory_mb, "reload": self.reload}
        return StagedPlan(solver=solver, stages=self.stages, **settled)


def solve_shapes(
    problem: DeploymentProblem,
    shapes: Sequence[ShapeName] = SHAPES,
    gap: float = 0.0,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> StagedSolution:
    """The cheapest plan of these shapes within the latency limit, with its certificate.

    Args:
        problem: with `blocks`; the objective is the whole bill.
        shapes: `whole-model`: one stage of blocks; `blocks`: several; `expert-functions`: layers of them;
            `grouped`: layers whose experts share functions, of more than four experts as `groupings` says.
        gap: how far the plan may be from its bound, as a share of its cost; 0: the optimum.
        pairs: first and end of the layers that a stage of blocks may have; None: any.

    Raises Infeasible when no plan meets the limit, InputError where no shape fits its functions or the gap is no
    share.
    """
    if not 0 <= gap < 1:
        raise InputError(f"gap: expected a share from 0 to below 1, got {gap}")
    problem = problem.model_copy(update={"objective": "total"})
    found = _Best(problem, gap)
    if set(shapes) <= {"expert-functions"}:
        found.take_experts_alone()
        return found.solution()
    has_experts, has_blocks = ({*shapes} & names for names in ({"expert-functions", "grouped"}, {*BLOCKS}))
    if not has_experts:
        check_fits(problem, "blocks" if "blocks" in shapes else "whole-model")
    graph = shape_graph(problem, pairs if "blocks" in shapes else [(0, len(problem.layers))])
    graph = graph if has_blocks else graph.without_blocks()
    found.take_blocks(graph)
    if has_experts:
        choices = _choices(problem, shapes)
        if not graph.has_blocks or front_usd_per_s(problem) > 0:  # alone they need no front
            if "grouped" in shapes:
                unwatched = blocks_of(problem).model_copy(update={"front": "client"})
                found.take_mixed(graph.without_blocks(), problem.with_blocks(unwatched), choices)
            else:
                found.take_experts_alone()
        if graph.has_blocks:
            found.take_mixed(graph, problem, choices)
    return found.solution()


def _choices(problem: DeploymentProblem, shapes: Sequence[ShapeName]) -> Choices:
    """Of each layer the groupings that these shapes allow."""
    own: tuple[None, ...] = (None,) if "expert-functions" in shapes else ()
    return [(*own, *(groupings(x.tokens) if "grouped" in shapes else ())) for x in problem.layers]


class _Best:
    """The cheapest plan so far, and what none costs less than."""

    def __init__(self, problem: DeploymentProblem, gap: float) -> None:
        self.problem, self.gap = problem, gap
        self.limit_s = np.inf if problem.latency_limit_s is None else problem.latency_limit_s
        self.cost, self.bound, self.price, self.least_latency_s = np.inf, np.inf, 0.0, np.inf
        self.best: StagedSolution | None = None

    def solution(self) -> StagedSolution:
        """The cheapest plan with its bound. Infeasible where there is none, InputError where nothing fits."""
        if self.best is None:
            if np.isinf(self.least_latency_s):
                check_fits(self.problem, "blocks")
            raise Infeasible(self.limit_s, self.least_latency_s)
        value = evaluate_staged(self.problem, self.best.plan("exact")).total_cost_usd
        exact = self.bound >= self.cost * (1 - ROUNDING)
        return replace(self.best, lower_bound=value if exact else min(self.bound, value))

    def _take(self, within: Within) -> bool:
        """Whether a search's path is cheaper than the best so far; its bound counts either way."""
        self.bound = min(self.bound, within.bound)
        if within.path is None:
            if np.isinf(within.bound) and within.least_latency_s:
                self.least_latency_s = min(self.least_latency_s, within.least_latency_s)
            return False
        self.price = within.price
        if within.path.cost >= self.cost:
            return False
        self.cost = within.path.cost
        return True

    def take_experts_alone(self) -> None:
        """Plans of expert functions alone: today's optimum."""
        alone = self.problem.with_blocks(None)
        try:
            found = solve_exact(alone, gap=self.gap)
        except Infeasible as error:
            self.least_latency_s = min(self.least_latency_s, error.least_latency_s)
            return
        except InputError:  # an expert fits no function
            if self.best is None:
                raise
            return
        stages = tuple(ExpertStage(first_layer=e, last_layer=e, layer=x) for e, x in enumerate(found.layers))
        mine = StagedSolution(stages, found.lower_bound, found.non_moe_memory_mb, found.reload)
        cost = evaluate_staged(self.problem, mine.plan("exact")).total_cost_usd
        self.bound = min(self.bound, cost if found.lower_bound is None else found.lower_bound)
        if cost < self.cost:
            self.cost, self.best = cost, mine

    def take_blocks(self, graph: ShapeGraph) -> None:
        """Plans of stages of blocks alone."""
        if not graph.has_blocks:
            return
        within = Search(graph.graph, {}, self.limit_s).cheapest(self.gap)
        if self._take(within) and within.path is not None:
            stages = [graph.stage(self.problem, arc) for arc in within.path.arcs]
            self.best = StagedSolution(tuple(x for x in stages if x is not None))

    def take_mixed(self, graph: ShapeGraph, problem: DeploymentProblem, choices: Choices) -> None:
        """Plans with stages of both kinds, or of expert functions where the graph has no blocks, and with any
        memory of the gates."""
        settings = settings_of(problem)
        searches: Searches = {}
        bound = bound_with_experts(problem, settings, graph, searches, choices, self.price, self.limit_s)
        if bound >= self.cost * (1 - self.gap):
            self.bound = min(self.bound, bound)
            return
        for setting in settings:
            experts = Experts(problem, setting, graph, searches, choices)
            search, cutoff = Search(experts.graph, experts.lazy, self.limit_s), self.cost * (1 - self.gap)
            values = {arc: lazy.least(self.price) for arc, lazy in experts.lazy.items()}
            bound = search.bound_through(values, self.price)
            if bound >= cutoff:
                self.bound = min(self.bound, bound)
                continue
            within = search.cheapest(self.gap, cutoff)
            if self._take(within) and within.path is not None:
                stages = experts.stages(within.path)
                mixed = any(isinstance(stage, ExpertStage) for stage in stages)
                settled = (setting.non_moe_memory_mb, setting.reload) if mixed else (None, None)
                self.best = StagedSolution(stages, None, *settled)
