"""What `plan` does with a problem whose plans have stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.options import EXIT_BAD_INPUT, print_json
from moe.errors import InputError

if TYPE_CHECKING:
    from experiments.plan.lateness import Margin
    from experiments.plan.options import Asked
    from optimizer import Infeasible
    from optimizer.blocks import ShapeName
    from simulator.plan import DeploymentProblem
    from simulator.staged_plan import StagedPlan

KNOWN = ("gap", "lanes", "layers", "tolerance", "figure")
"""Settings that say something of a plan with stages."""


def plan_stages(asked: Asked, problem: DeploymentProblem, shapes: Sequence[ShapeName] | None) -> int:
    """Solve, write and print; the exit code. Raises InputError.

    Args:
        shapes: how the model may be cut; None: in any way, or the solver's own.
    """
    from experiments.commands.front import show_shape_front
    from moe.files import write_json
    from optimizer import Infeasible
    from optimizer.solvers import solve_stages
    from optimizer.staged_evaluation import with_staged_evaluation

    chosen = asked.chosen
    for name in chosen.model_fields_set - {*KNOWN, *(("samples",) if asked.late_share is not None else ())}:
        raise InputError(f"--set {name}: expected with a plan of expert functions alone, not one with stages")
    if asked.front:
        if asked.solver != "exact":
            raise InputError(f"--front: expected --solver exact where plans have stages, got '{asked.solver}'")
        show_shape_front(problem, shapes, chosen.gap or chosen.tolerance, asked.out, chosen.figure, asked.as_json)
        return 0
    options = chosen.model_dump(include={"gap", "lanes", "layers"}, exclude_none=True)

    def solver(each: DeploymentProblem) -> StagedPlan:
        return solve_stages(each, asked.solver, shapes=shapes, **options)

    try:
        margin = _margin(asked, problem, solver)
        found = solver(problem if margin is None else problem.with_limit(margin.planning_limit_s))
    except Infeasible as error:
        return no_plan(asked.source, error, asked.as_json)
    if margin is not None:
        found = with_staged_evaluation(problem, found, found.lower_bound, found.solve_s)
    if asked.out is not None:
        write_json(asked.out, found)
    if asked.as_json:
        late = {} if margin is None else margin.as_json(found)
        print_json(found.model_dump(mode="json", by_alias=True) | late)
    else:
        _show(problem, found)
        if margin is not None:
            click.echo(margin.shown(found))
    return 0


def _margin(
    asked: Asked, problem: DeploymentProblem, solver: Callable[[DeploymentProblem], StagedPlan]
) -> Margin | None:
    """What the plan is made for, so that few samples are late; None: the limit itself. Raises InputError."""
    from experiments.plan.lateness import Margin
    from optimizer.popularity.popularity_file import load_samples

    if asked.late_share is None:
        return None
    path = asked.chosen.samples
    samples = None if path is None else load_samples(path)
    return Margin.of(problem, samples, asked.late_share, asked.platform, asked.seed, solver)


def no_plan(source: Path, error: Infeasible, as_json: bool) -> int:
    """Say that no plan meets the limit; the exit code."""
    if as_json:
        print_json({"feasible": False, "least_latency_s": error.least_latency_s})
    click.echo(f"smoe: {source}: {error}", err=True)
    return EXIT_BAD_INPUT


def _show(problem: DeploymentProblem, plan: StagedPlan) -> None:
    """The plan as a table: a row for each stage."""
    from rich.table import Table

    from experiments.tools.console import out
    from experiments.tools.style import rounded
    from simulator.staged_plan import BlocksStage

    table = Table("layers", "shape", "function", "hands over by", pad_edge=False)
    for stage in plan.stages:
        layers = str(stage.first_layer)
        if stage.last_layer > stage.first_layer:
            layers += f"-{stage.last_layer}"
        if isinstance(stage, BlocksStage):
            lanes = f"{stage.memory_mb:,} MB x {stage.lanes} lane" + "s" * (stage.lanes > 1)
            table.add_row(layers, "blocks", lanes, stage.handover)
        else:
            experts = "  ".join(f"{x.memory_mb}x{x.replicas}" for x in stage.layer.experts)
            table.add_row(
                layers, "grouped" if stage.groups else "expert functions", experts, stage.layer.communication
            )
    out.print(table)
    certificate = "" if plan.gap is None else ", the certified optimum of these shapes"
    if plan.gap:
        certificate = f", at most {plan.gap:.2%} above the optimum of these shapes"
    per_million = (plan.total_cost_usd or 0.0) / problem.served_tokens * 1e6
    account = "" if plan.fits_account else ", more than an account's 1,000"
    click.echo(
        f"{plan.solver}: {rounded(plan.total_cost_usd or 0.0)} USD in all ({rounded(per_million)} USD per million "
        f"tokens), latency {rounded(plan.latency_s or 0.0)} s{certificate}; {plan.solve_s:.2f} s to solve"
    )
    click.echo(f"{plan.shape_in_words}; {plan.functions:,} deployed, {plan.peak_concurrency:,} at once{account}")
