"""What `plan` does with a problem whose plans have stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.options import EXIT_BAD_INPUT, print_json
from moe.errors import InputError

if TYPE_CHECKING:
    from experiments.plan.options import PlanSettings
    from optimizer import Infeasible
    from optimizer.blocks import ShapeName
    from simulator.plan import DeploymentProblem
    from simulator.staged_plan import StagedPlan

KNOWN = ("gap", "lanes", "layers", "tolerance", "figure")
"""Settings that say something of a plan with stages."""


def plan_stages(
    source: Path,
    problem: DeploymentProblem,
    solver: str,
    shapes: Sequence[ShapeName] | None,
    chosen: PlanSettings,
    front: bool,
    out: Path | None,
    as_json: bool,
) -> int:
    """Solve, write and print; the exit code. Raises InputError."""
    from experiments.commands.front import show_shape_front
    from moe.files import write_json
    from optimizer import Infeasible
    from optimizer.solvers import solve_stages

    for name in chosen.model_fields_set - set(KNOWN):
        raise InputError(f"--set {name}: expected with a plan of expert functions alone, not one with stages")
    if front:
        if solver != "exact":
            raise InputError(f"--front: expected --solver exact where plans have stages, got '{solver}'")
        show_shape_front(problem, shapes, chosen.gap or chosen.tolerance, out, chosen.figure, as_json)
        return 0
    options = chosen.model_dump(include={"gap", "lanes", "layers"}, exclude_none=True)
    try:
        found = solve_stages(problem, solver, shapes=shapes, **options)
    except Infeasible as error:
        return no_plan(source, error, as_json)
    if out is not None:
        write_json(out, found)
    if as_json:
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        _show(problem, found)
    return 0


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
