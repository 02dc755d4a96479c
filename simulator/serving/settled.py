"""A problem with what a plan settles beside its layers: memory of gate and non-MoE functions, and `reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from moe.errors import InputError
from simulator.plan import DeploymentProblem, Reload
from simulator.staged_plan import AnyPlan

if TYPE_CHECKING:
    from simulator.serving.layer import Serving

Way = TypeVar("Way", bound="Serving")


def served_so(
    problem: DeploymentProblem, non_moe_memory_mb: int | None, reload: Reload | None
) -> DeploymentProblem:
    """The problem with these settled; None leaves them as they are.

    Args:
        problem: the problem.
        non_moe_memory_mb: of all gate and non-MoE functions, one of the sizes of `problem.non_moe`.
        reload: how often parameters are downloaded.

    Raises InputError for another size.
    """
    platform = problem.platform.model_copy(update={"reload": reload or problem.platform.reload})
    size = next((x for x in problem.non_moe if x.memory_mb == non_moe_memory_mb), None)
    if size is None:
        if non_moe_memory_mb in (None, *(layer.non_moe_memory_mb for layer in problem.layers)):
            return problem.model_copy(update={"platform": platform})
        listed = [x.memory_mb for x in problem.non_moe]
        raise InputError(f"non_moe_memory_mb: expected one of non_moe: {listed}, got {non_moe_memory_mb}")
    columns = zip(problem.layers, size.non_moe_s, size.next_load_s, strict=True)
    layers = [
        layer.model_copy(update={"non_moe_s": s, "next_load_s": load_s, "non_moe_memory_mb": non_moe_memory_mb})
        for layer, s, load_s in columns
    ]
    gate = {"gate_bandwidth_bytes_per_s": size.storage_bandwidth_bytes_per_s}
    return problem.model_copy(
        update={
            "platform": platform.model_copy(update=gate),
            "layers": tuple(layers),
            "head_s": size.head_s,
            "tail_s": size.tail_s,
        }
    )


def settled(problem: DeploymentProblem, plan: AnyPlan, serving: Way) -> tuple[DeploymentProblem, Way]:
    """Problem and serving with what the plan settles; a `reload` that is asked for goes first, for blocks too."""
    problem, asked = served_so(problem, plan.non_moe_memory_mb, plan.reload), serving.reload
    if asked is None:
        return problem, serving.model_copy(update={"reload": problem.platform.reload})
    if problem.blocks is not None:
        problem = problem.with_blocks(problem.blocks.model_copy(update={"reload": asked}))
    return problem, serving
