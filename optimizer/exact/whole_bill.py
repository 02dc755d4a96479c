"""The least whole bill (objective `total`): what a plan settles beside its layers is decided as well.

- `reload`: a warm instance that keeps its parameters has a shorter T_h and T_load and fewer requests, all else
  being the same, so no plan is dearer or slower with `when-cold`. It is taken unless the problem says otherwise.
- Memory of gate and non-MoE functions, one for all: with each size the problem is one of fixed gates. Sizes of the
  same B_s have the same labels of experts, so they share a search; what the others come to is bounded by the
  labels of a faster gate at the price of a second, and only those are searched whose bound is below the best plan.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from optimizer.cost_model import download_s, hand_on_s, load_s
from optimizer.evaluation import Solution, counted_gate, evaluate, fixed_cost, fixed_latency_s, latency_budget_s
from optimizer.exact.lagrangian import Found, Model, cheapest_of
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem, Reload
from simulator.serving.settled import served_so

Solved = TypeVar("Solved", bound=Solution)


@dataclass(frozen=True)
class Setting:
    """What a plan may settle beside its layers (None: nothing to settle), and the problem that is left then."""

    non_moe_memory_mb: int | None
    reload: Reload | None
    problem: DeploymentProblem

    def no_faster_than(self, other: "Setting") -> bool:
        """Whether every layer is at least as slow with it as with the other, however its experts are deployed."""
        mine, yours = self.problem, other.problem
        return mine.platform.gate_bandwidth <= yours.platform.gate_bandwidth and all(
            a.next_load_s >= b.next_load_s for a, b in zip(mine.layers, yours.layers, strict=True)
        )

    def settled(self, found: Solved, lower_bound: float | None) -> Solved:
        """A solution of its problem as one of the problem that it was made of."""
        return replace(
            found, lower_bound=lower_bound, non_moe_memory_mb=self.non_moe_memory_mb, reload=self.reload
        )


@dataclass(frozen=True)
class Cheapest:
    """The search over all settings.

    Attributes:
        setting, found: the cheapest, and its layers; the fastest where no plan meets the limit.
        latency_s: of the model.
        bounds: what no plan with each setting costs less than; infinite where none meets the limit.
        settings: in the same order.
    """

    setting: Setting
    found: Found
    latency_s: float
    bounds: np.ndarray
    settings: tuple[Setting, ...]


def settings_of(problem: DeploymentProblem) -> tuple[Setting, ...]:
    """All that a plan may settle; one that settles nothing where the objective is another, or all is settled."""
    if problem.objective != "total":
        return (Setting(None, None, problem),)
    reload: Reload | None = "when-cold" if problem.platform.reload is None else None
    sizes: list[int | None] = [x.memory_mb for x in problem.non_moe]
    return tuple(
        Setting(size, reload, served_so(problem, size, reload).model_copy(update={"non_moe": ()}))
        for size in sizes or [None]
    )


def cheapest_setting(problem: DeploymentProblem, methods: Sequence[Communication], gap: float = 0.0) -> Cheapest:
    """The cheapest plan over all settings within the limit, per-layer beta.

    Args:
        problem: the problem. methods: to choose from.
        gap: how much the plan may cost above the least bound, as a share of its cost.

    Raises InputError where an expert fits no memory size.
    """
    settings = settings_of(problem)
    fixed, fixed_s = (np.array([of(x.problem) for x in settings]) for of in (fixed_cost, fixed_latency_s))
    bounds, searched = np.full(len(settings), -np.inf), np.zeros(len(settings), bool)
    models: dict[object, tuple[Setting, Model]] = {}
    best: tuple[bool, float, Setting, Found, float] | None = None
    k = _first(settings, fixed)
    while True:
        mine = settings[k]
        searched[k] = True
        made_for, model = _model_for(mine, methods, models)
        for e, search in enumerate(model.layers):
            search.charge(counted_gate(mine.problem, e))
        found = cheapest_of(model, latency_budget_s(mine.problem), gap)
        latency = fixed_s[k] + found.selection.latency_s
        late = bool(np.isinf(found.bound))
        value = latency if late else fixed[k] + found.selection.cost
        if best is None or (late, value) < best[:2]:
            best = late, value, mine, found, latency
        bounds[k] = fixed[k] + found.bound
        for j in np.flatnonzero(~searched):
            if not settings[j].no_faster_than(made_for):
                continue
            if late and fixed_s[j] >= fixed_s[k]:
                bounds[j] = np.inf
            elif not late:
                bounds[j] = max(bounds[j], fixed[j] + _least(model, made_for, settings[j], found.price))
        left = np.flatnonzero(~searched & (bounds < (np.inf if best[0] else best[1] * (1 - gap))))
        if not len(left):
            return Cheapest(best[2], best[3], best[4], bounds, settings)
        k = min(left.tolist(), key=lambda j: (bounds[j], fixed_s[j]))


def each_setting(
    problem: DeploymentProblem, methods: Sequence[Communication], solver: Callable[[DeploymentProblem], Solved]
) -> Solved:
    """What a solver of problems with nothing left to settle finds, with the setting that suits it best.

    Settings are tried by what they cost at least, until none left can be cheaper.
    """
    settings = settings_of(problem)
    if len(settings) == 1:
        found = solver(settings[0].problem)
        return settings[0].settled(found, found.lower_bound)
    bounds = cheapest_setting(problem, methods).bounds.copy()
    best: tuple[tuple[bool, float], Setting, Solved] | None = None
    for k in np.argsort(bounds, kind="stable").tolist():
        if best is not None and (False, float(bounds[k])) >= best[0]:
            break
        found = solver(settings[k].problem)
        if found.lower_bound is not None:
            bounds[k] = max(bounds[k], found.lower_bound)
        came_to = evaluate(settings[k].problem, DeploymentPlan(solver="", layers=found.layers))
        rank = not came_to.feasible, came_to.objective_value if came_to.feasible else came_to.latency_s
        if best is None or rank < best[0]:
            best = rank, settings[k], found
    assert best is not None
    lower_bound = float(bounds.min())
    return best[1].settled(best[2], lower_bound if np.isfinite(lower_bound) else None)


def _first(settings: Sequence[Setting], fixed: np.ndarray) -> int:
    """Where to begin: what is cheapest apart from experts, of the settings that leave them time."""

    def rank(k: int) -> tuple[bool, float]:
        problem = settings[k].problem
        if latency_budget_s(problem) <= 0:
            return True, fixed_latency_s(problem)
        gates = sum(counted_gate(problem, e).exchange_usd for e in range(len(problem.layers)))
        return False, float(fixed[k]) + gates

    return min(range(len(settings)), key=rank)


def _model_for(
    setting: Setting, methods: Sequence[Communication], models: dict[object, tuple[Setting, Model]]
) -> tuple[Setting, Model]:
    """The searches that a setting shares with all of the same B_s and loads, and the one they were made for."""
    problem = setting.problem
    alike = problem.platform.gate_bandwidth, tuple(layer.next_load_s for layer in problem.layers)
    if alike not in models:
        models[alike] = setting, Model(problem, methods)
    return models[alike]


def _least(model: Model, made_for: Setting, setting: Setting, price: float) -> float:
    """What the layers cost at least with a setting whose gates are no faster than those the model was made for.

    Every label is later by what its download takes longer, with `direct` by what its load does; the upload and the
    load that an exchange may wait for make it no earlier.
    """
    before, after = made_for.problem, setting.problem
    total = 0.0
    for e, search in enumerate(model.layers):
        layers = (before.platform, before.layers[e]), (after.platform, after.layers[e])
        late_s = tuple(
            0.0 if not search.options.reached else seconds[1] - seconds[0]
            for seconds in (
                [download_s(*x) for x in layers],
                [hand_on_s(*x) + load_s(x[0], x[1].next_load_s) for x in layers],
            )
        )
        total += search.least_of(price, counted_gate(after, e), (late_s[0], late_s[1]))
    return total - (price * latency_budget_s(after) if price > 0 else 0.0)
