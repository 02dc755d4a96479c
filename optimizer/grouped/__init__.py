"""Several experts in one function: problems are rewritten, then solved as any other."""

from optimizer.grouped.grouping import GroupedPlan, Grouping, blocks, group_experts, plan_groups
from optimizer.grouped.remoe import RemoePlan, realise_remoe, remoe

__all__ = [
    "GroupedPlan",
    "Grouping",
    "RemoePlan",
    "blocks",
    "group_experts",
    "plan_groups",
    "realise_remoe",
    "remoe",
]
