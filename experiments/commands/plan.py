"""The command plan: a deployment problem solved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.options import (
    EXIT_NO_PLAN,
    FILE,
    WithSettings,
    json_option,
    plugins_option,
    print_json,
    read_settings,
    seed_option,
    set_option,
)
from moe.errors import InputError

if TYPE_CHECKING:
    from experiments.plan.draws import OverDraws
    from experiments.plan.lateness import Margin
    from experiments.plan.options import Planning, PlanSettings
    from moe.files import FileModel
    from optimizer.ods import OdsSolution
    from simulator.plan import DeploymentPlan, DeploymentProblem


def _models() -> Sequence[type[FileModel]]:
    from experiments.plan.options import PlanSettings

    return (PlanSettings,)


@click.command(cls=WithSettings, models=_models)
@click.argument("problem_path", metavar="PROBLEM", type=FILE)
@click.option(
    "--solver", default="exact", show_default=True, help="exact, ods, miqcp, lambdaml, ...: docs/planning.md."
)
@click.option("--latency-limit", help="Seconds, or none; default: the problem's.")
@click.option(
    "--late-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Plan for less than the limit, so that at most this share of --set samples is late.",
)
@click.option("--objective", type=click.Choice(["gb_s", "usd", "total"]), help="Default: the problem's.")
@click.option(
    "--shapes",
    help="exact: how the model may be cut: all, or some of expert-functions, blocks, whole-model, grouped; by "
    "default all, with objective total and a problem that knows blocks.",
)
@click.option("--front", is_flag=True, help="The whole curve of cost over throughput, and plans on it.")
@click.option(
    "--profile",
    help="Of which the problem was made: with draws; with --late-share, to play the samples.",
)
@plugins_option
@set_option
@click.option(
    "--out",
    type=FILE,
    help="The plan (JSON), with group the groups beside it; with --front the curve (.csv, .parquet).",
)
@seed_option
@json_option
def plan(
    problem_path: Path,
    solver: str,
    latency_limit: str | None,
    late_share: float | None,
    objective: str | None,
    shapes: str | None,
    front: bool,
    profile: str | None,
    plugins: tuple[Path, ...],
    settings: tuple[str, ...],
    out: Path | None,
    seed: int,
    as_json: bool,
) -> int:
    """Solve a deployment problem (JSON or YAML).

    \b
    Example: ./smoe plan problem.json --solver exact --latency-limit 60 --out plan.json
             ./smoe plan problem.json --front --set figure=front.png --out front.csv
             ./smoe plan problem.json --set group=2 --set group_by=load --out plan.json
             ./smoe plan problem.json --profile mine.yaml --set draws=20
             ./smoe plan problem.json --late-share 0.05 --set samples=samples.parquet
             ./smoe plan shapes.json --objective total --shapes all --latency-limit 5
    """
    from experiments.commands.staged import no_plan, plan_stages
    from experiments.plan.options import Planning, changed
    from moe.plugins import look_in
    from optimizer import Infeasible, NoIncumbent
    from optimizer.blocks import shape_names
    from optimizer.solvers import has_stages
    from simulator.plan import read_problem

    look_in(Path.cwd(), *plugins)
    (chosen,) = read_settings(settings)
    _check(chosen, front, late_share, shapes, solver)
    problem = changed(read_problem(problem_path), latency_limit, objective)
    allowed = None if shapes is None else shape_names(shapes, "--shapes")
    if has_stages(problem, solver, allowed):
        if late_share is not None:
            raise InputError("--late-share: expected a plan of expert functions alone, not one with stages")
        return plan_stages(problem_path, problem, solver, allowed, chosen, front, out, as_json)
    planning = Planning.of(problem, chosen, late_share is not None)
    try:
        margin = None if late_share is None else _margin(planning, late_share, profile, solver, seed)
        limit_s = None if margin is None else margin.planning_limit_s
        solved, ods = _solved(planning, problem_path, solver, chosen, seed, limit_s)
    except Infeasible as error:
        return no_plan(problem_path, error, as_json)
    except NoIncumbent as error:
        if as_json:
            print_json({"feasible": None, "time_limit_s": error.time_limit_s, "lower_bound": error.lower_bound})
        click.echo(f"smoe: {problem_path}: {error}", err=True)
        return EXIT_NO_PLAN
    if front:
        from experiments.commands.front import show_front

        show_front(planning.problem, solved, chosen.tolerance, seed, out, chosen.figure, as_json)
        return 0
    over = _over_draws(planning, solved, solver, profile, chosen, seed) if chosen.draws else None
    _write(planning, solved, ods, out, chosen.trace)
    _tell(planning.problem, solved, ods, over, margin, as_json)
    return 0


def _check(chosen: PlanSettings, front: bool, late_share: float | None, shapes: str | None, solver: str) -> None:
    """Raise InputError for options that do not go together."""
    if not front and (chosen.figure is not None or chosen.tolerance):
        raise InputError("--set figure, tolerance: expected together with --front")
    if front and late_share is not None:
        raise InputError("--late-share: expected without --front, which has every limit")
    if shapes is not None and solver != "exact":
        raise InputError(f"--shapes: expected with --solver exact, got '{solver}', whose shape is its own")


def _tell(
    problem: DeploymentProblem,
    solved: DeploymentPlan,
    ods: OdsSolution | None,
    over: OverDraws | None,
    margin: Margin | None,
    as_json: bool,
) -> None:
    """The plan on stdout, with what it comes to over draws and how many samples are late."""
    if as_json:
        found = solved.model_dump(mode="json", by_alias=True)
        found |= {} if margin is None else margin.as_json(solved)
        print_json(found if over is None else found | {"over_draws": over.as_json()})
        return
    _show(problem, solved, ods, over)
    if margin is not None:
        click.echo(margin.shown(solved))


def _margin(planning: Planning, late_share: float, profile: str | None, solver: str, seed: int) -> Margin:
    """What the plan is made for. The samples are the solver's as well where it takes some. Raises InputError."""
    from experiments.plan.lateness import Margin
    from optimizer.solvers import check_options
    from simulator.profiles.schema import load_profile

    if "samples" not in check_options(solver, ()):
        planning.options.pop("samples", None)
    return Margin.of(planning, late_share, load_profile(profile) if profile else None, seed)


def _solved(
    planning: Planning, source: Path, solver: str, chosen: PlanSettings, seed: int, limit_s: float | None
) -> tuple[DeploymentPlan, OdsSolution | None]:
    """The plan, made for `limit_s` (None: the problem's limit), and with `ods` its rounds.

    Raises InputError, Infeasible, NoIncumbent.
    """
    from experiments.plan.trace import solve_traced
    from optimizer.evaluation import with_evaluation
    from optimizer.exact import check_experts_fit

    try:
        for e in range(len(planning.problem.layers)):
            check_experts_fit(planning.problem, e)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    traced = chosen.trace is not None
    tight = planning.problem if limit_s is None else planning.problem.with_limit(limit_s)
    solved, ods = solve_traced(tight, solver, traced, beta=chosen.beta, seed=seed, **planning.options)
    return with_evaluation(planning.problem, solved, solved.lower_bound, solved.solve_s), ods


def _over_draws(
    planning: Planning, solved: DeploymentPlan, solver: str, profile: str | None, chosen: PlanSettings, seed: int
) -> OverDraws:
    """The problem solved again on draws of the profile."""
    from experiments.plan.draws import plan_draws
    from optimizer.solvers import solve
    from simulator.profiles.schema import load_profile

    again = partial(solve, solver=solver, beta=chosen.beta, seed=seed, **planning.options)
    return plan_draws(planning.problem, solved, load_profile(profile) if profile else None, chosen.draws, again)


def _write(
    planning: Planning, solved: DeploymentPlan, ods: OdsSolution | None, out: Path | None, trace: Path | None
) -> None:
    """The files that were asked for."""
    from experiments.plan.trace import write_trace
    from moe.files import write_json

    if out is not None:
        write_json(out, solved)
        planning.write_groups(out)
    if trace is not None and ods is not None:
        write_trace(trace, planning.problem, solved, ods)


def _show(
    problem: DeploymentProblem, plan: DeploymentPlan, ods: OdsSolution | None, over: OverDraws | None
) -> None:
    """The plan, with `draws` what becomes of it there, and with `ods` its rounds."""
    from experiments.plan.draws import show_plans
    from experiments.plan.trace import show_ods
    from simulator.plan import OBJECTIVE_UNIT

    _show_plan(problem, plan)
    if over is not None:
        show_plans(over, OBJECTIVE_UNIT[problem.objective])
    if ods is not None:
        show_ods(problem, plan, ods)


def _show_plan(problem: DeploymentProblem, plan: DeploymentPlan) -> None:
    """The plan as a table: a row for each layer."""
    from rich.table import Table

    from experiments.tools.console import out
    from experiments.tools.style import rounded

    table = Table("layer", "communication", "beta", "experts: memory MB x replicas (tokens)", pad_edge=False)
    for e, (layer, chosen) in enumerate(zip(problem.layers, plan.layers, strict=True)):
        experts = "  ".join(
            f"{x.memory_mb}x{x.replicas} ({d.tokens:,.0f})"
            for x, d in zip(chosen.experts, layer.experts, strict=True)
        )
        table.add_row(str(e), chosen.communication, str(chosen.minibatch_tokens or ""), experts)
    out.print(table)
    certificate = ", the certified optimum" if plan.gap == 0 else ""
    if plan.gap:
        certificate = f", at most {plan.gap:.2%} above the optimum"
    total, experts, gb_s, latency = (
        rounded(x or 0.0) for x in (plan.total_cost_usd, plan.full_cost_usd, plan.billed_gb_s, plan.latency_s)
    )
    click.echo(
        f"{plan.solver}: {total} USD in all, {experts} of it for the experts ({gb_s} GB-s), "
        f"latency {latency} s{certificate}; {plan.solve_s:.2f} s to solve"
    )
    if plan.non_moe_memory_mb is not None:
        kept = "kept by warm instances" if plan.reload == "when-cold" else "as the problem says"
        click.echo(f"gate and non-MoE functions of {plan.non_moe_memory_mb:,} MB, parameters {kept}")
    if not plan.feasible:
        click.echo(f"not feasible: {', '.join(_violation(v) for v in plan.violations)}")


def _violation(violation: tuple[int | None, int | None, str]) -> str:
    layer, expert, kind = violation
    where = "" if layer is None else f" (layer {layer}" + ("" if expert is None else f", expert {expert}") + ")"
    return kind + where
