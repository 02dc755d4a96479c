"""Several experts in one function: grouping as a dimension of the deployment problem.

A grouped problem is a deployment problem whose "experts" are groups, so every solver and the simulator take it as
it is. What a group is made of:

- tokens and parameter bytes add; a replica downloads all parameters of its group with one GET;
- the runtime (`intermediate_bytes`) is held once, so the largest counts; memory per token is the largest as well;
- `seconds_per_call` (the weights are read) is charged for every member in each call, in all groups of a layer for
  those of the largest group: the file has one value for a layer;
- a token that goes to two experts of one group is sent and computed twice, as it would be to two functions.

Source: this project; blocks of experts as functions are FaaSMoE's.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from pydantic import Field

from moe.errors import InputError, nearest, shortened
from moe.files import FileModel
from optimizer.exact import Beta
from optimizer.exact.groupings import lpt
from optimizer.solvers import solve
from simulator.plan import DeploymentPlan, DeploymentProblem
from simulator.staged_plan import grouped_layer

GroupBy: TypeAlias = Literal["index", "popularity", "load"]


class Grouping(FileModel):
    """Which experts share a function: file `expert-groups/1`.

    Attributes:
        group_by: how they were grouped.
        layers: of each layer its groups, of each group its experts by index. Group k is "expert" k of the grouped
            problem and of plans for it.
    """

    schema_: Literal["expert-groups/1"] = Field("expert-groups/1", alias="schema")
    group_by: GroupBy
    layers: tuple[tuple[tuple[int, ...], ...], ...] = Field(min_length=1)

    def of_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens of each group.

        Args:
            tokens: of each expert, shape (..., layers, experts): popularity, routing of batches or samples.

        Returns:
            Shape (..., layers, groups).
        """
        tokens = np.asarray(tokens)
        columns = [
            np.stack([tokens[..., e, list(group)].sum(axis=-1) for group in groups], axis=-1)
            for e, groups in enumerate(self.layers)
        ]
        return np.stack(columns, axis=-2)

    def of_problem(self, problem: DeploymentProblem) -> DeploymentProblem:
        """The problem whose experts are the groups. Raises InputError unless these are the problem's experts."""
        if len(self.layers) != len(problem.layers):
            raise InputError(f"layers: expected {len(problem.layers)}, as in the problem, got {len(self.layers)}")
        for e, (layer, groups) in enumerate(zip(problem.layers, self.layers, strict=True)):
            if sorted(i for group in groups for i in group) != list(range(len(layer.experts))):
                raise InputError(
                    f"layers.{e}: expected each of the experts 0..{len(layer.experts) - 1} in one group, got "
                    f"{[list(group) for group in groups]}"
                )
        layers = [grouped_layer(x, groups) for x, groups in zip(problem.layers, self.layers, strict=True)]
        return problem.model_copy(update={"layers": tuple(layers)})


@dataclass(frozen=True)
class GroupedPlan:
    """A plan for groups.

    Attributes:
        problem: the grouped one.
        plan: for it.
        grouping: which experts are in which group.
    """

    problem: DeploymentProblem
    plan: DeploymentPlan
    grouping: Grouping


def group_experts(problem: DeploymentProblem, size: int, group_by: GroupBy = "index") -> Grouping:
    """Groups of `size` experts in each layer; where that does not divide their number, some are smaller.

    Args:
        problem: its popularity counts, unless the groups are by index.
        size: experts of a group.
        group_by: `index`: neighbours; `popularity`: hot with hot, so that a hot group can get what it needs;
            `load`: groups of like load, each expert from the busiest on to the group with the fewest tokens that
            is not full (LPT with a limit).

    Raises InputError for a size below 1 or above a layer's experts, and for an unknown way to group.
    """
    if group_by not in get_args(GroupBy):
        raise InputError(f"group_by: no grouping {shortened(group_by)}{nearest(group_by, get_args(GroupBy))}")
    fewest = min(len(layer.experts) for layer in problem.layers)
    if not 1 <= size <= fewest:
        raise InputError(f"group: expected 1 to {fewest} experts in a group, got {size}")
    layers = tuple(_groups(layer.tokens, size, group_by) for layer in problem.layers)
    return Grouping(group_by=group_by, layers=layers)


def plan_groups(
    problem: DeploymentProblem,
    size: int,
    group_by: GroupBy = "index",
    solver: str = "exact",
    beta: Beta = "per-layer",
    **options: Any,
) -> GroupedPlan:
    """Group the experts and plan for the groups, with any solver and its options."""
    grouping = group_experts(problem, size, group_by)
    grouped = grouping.of_problem(problem)
    return GroupedPlan(grouped, solve(grouped, solver, beta=beta, **options), grouping)


def blocks(problem: DeploymentProblem, size: int, beta: Beta = "per-layer") -> GroupedPlan:
    """FaaSMoE's blocks: `size` neighbouring experts in a function, one replica, the cheapest memory of each.

    Adapted: FaaSMoE leaves memory and method to its user; here each block gets its optimum (`memory-only`),
    since another choice would only be worse.
    """
    return plan_groups(problem, size, "index", "memory-only", beta)


def _groups(tokens: np.ndarray, size: int, group_by: GroupBy) -> tuple[tuple[int, ...], ...]:
    """The groups of one layer, each ascending, in the order of their first experts."""
    count = -(-len(tokens) // size)
    if group_by == "load":
        groups = lpt(tokens, count, size)
    else:
        order = np.arange(len(tokens)) if group_by == "index" else np.argsort(-tokens, kind="stable")
        groups = [order[k * size : (k + 1) * size].tolist() for k in range(count)]
    return tuple(sorted(tuple(sorted(group)) for group in groups))
