"""What a plan's shape is called, and its colour: the same in every table and picture."""

from experiments.tools import style
from simulator.staged_plan import AnyPlan, BlocksStage, StagedPlan

WHOLE, LANES, BLOCKS, EXPERTS, BOTH = (
    "whole model, one function",
    "whole model, n lanes",
    "blocks",
    "expert functions",
    "blocks and expert functions",
)

COLOURS = {
    WHOLE: style.BLUE,
    LANES: style.SKY,
    BLOCKS: style.GREEN,
    EXPERTS: style.ORANGE,
    BOTH: style.PURPLE,
}


def shape_of(plan: AnyPlan) -> str:
    """One of COLOURS."""
    if not isinstance(plan, StagedPlan):
        return EXPERTS
    blocks = [stage for stage in plan.stages if isinstance(stage, BlocksStage)]
    if not blocks:
        return EXPERTS
    if len(blocks) < len(plan.stages):
        return BOTH
    if len(blocks) > 1:
        return BLOCKS
    return WHOLE if blocks[0].lanes == 1 else LANES
