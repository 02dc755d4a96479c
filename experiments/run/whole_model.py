"""The model that is not cut: its rows in a run's table, and what is found of shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.run.methods import Row, compared, dollars, row_named
from moe.errors import InputError
from optimizer.baselines.shapes import cut_pays_from, whole_model
from optimizer.blocks import check_fits, needed_mb
from optimizer.exact import Infeasible
from optimizer.margin import Optima
from optimizer.staged_evaluation import with_staged_evaluation
from simulator.plan import DeploymentProblem
from simulator.staged_plan import BlocksStage, StagedPlan, blocks_of

DEARER = 0.05
"""Lanes are taken as long as the bill is at most this share above the cheapest whole model's."""


@dataclass(frozen=True)
class Cut:
    """Whether the model must be cut, and from which size on it pays; bytes of parameters.

    Attributes:
        parameter_bytes: of the model. needs_mb: in one function.
        pays_from_bytes: from so many on blocks in several functions cost less. must_from_bytes: from so many on no
            function holds the model.
    """

    parameter_bytes: float
    needs_mb: float
    pays_from_bytes: float
    must_from_bytes: float


def cut_of(problem: DeploymentProblem) -> Cut:
    """Of a problem with `blocks`."""
    blocks, problem = blocks_of(problem), problem.model_copy(update={"objective": "total"})
    held = sum(layer.parameter_bytes for layer in blocks.layers) + blocks.head_bytes
    return Cut(held, needed_mb(problem), *cut_pays_from(problem))


def whole_plans(
    problem: DeploymentProblem, planned_s: Callable[[Optima], float | None]
) -> list[tuple[str, StagedPlan]]:
    """The whole model in one function, and in as many lanes as cost little more; none where no function holds it.

    Args:
        problem: with `blocks`.
        planned_s: the limit less the margin that such plans need, s; where it is out of reach, the cheapest.
    """
    problem = problem.model_copy(update={"objective": "total"})
    try:
        check_fits(problem, "whole-model")
    except InputError:
        return []

    def solved(lanes: int | None, dearer: float) -> StagedPlan:
        def within(limited: DeploymentProblem) -> StagedPlan:
            return with_staged_evaluation(problem, whole_model(limited, lanes, dearer).plan("whole-model"))

        optima = Optima.of_stages(problem, within)
        limit_s = planned_s(optima)
        try:
            found = within(problem.with_limit(None)) if limit_s is None else optima.within(limit_s)
        except Infeasible:
            found = within(problem.with_limit(None))
        assert isinstance(found, StagedPlan)
        return found

    found, many = [("whole-model", solved(1, 0.0))], solved(None, DEARER)
    (stage,) = many.stages
    if isinstance(stage, BlocksStage) and stage.lanes > 1:
        found.append((f"whole-model-{stage.lanes}-lanes", many))
    return found


def shape_finding(rows: Sequence[Row], cut: Cut, best: str) -> str:
    """Whether cutting the model pays, and from which size on it would: a sentence, with a space before.

    Args:
        rows: of the run. best: name of the plan of expert functions that it is held against.
    """
    whole = [row for row in rows if row.method.startswith("whole model") and row.total_usd]
    pays, has = cut.pays_from_bytes / 1e9, cut.parameter_bytes / 1e9
    if not whole:
        return f" The model must be cut: {has:.3g} GB of parameters need {cut.needs_mb:,.0f} MB in one function."
    mine = row_named(rows, best)
    if mine is None or not mine.total_usd:
        return ""
    one = min(whole, key=lambda row: row.total_usd or 0.0)
    assert one.total_usd is not None
    over = one.total_usd / mine.total_usd
    in_lanes = one.method.removeprefix("whole model, ")
    said = (
        f" The whole model in {in_lanes} costs {dollars(one.total_usd)}, {compared(over)} {best}'s, and takes "
        f"{one.latency_s:.3g} s a batch where {best} takes {mine.latency_s:.3g} s: cutting this model "
    )
    if over > 1:
        return said + "pays."
    return said + (
        "does not pay; cutting it into functions of whole layers would, "
        f"from about {pays:.2g} GB of parameters (it has {has:.2g})."
    )
