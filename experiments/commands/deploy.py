"""Commands about deployments: problem, plan, simulate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.options import (
    EXIT_BAD_INPUT,
    FILE,
    draws_option,
    json_option,
    print_json,
    seed_option,
    whole_numbers,
)
from experiments.plan.options import Planning, planning_options
from moe.errors import InputError

if TYPE_CHECKING:
    from simulator.plan import DeploymentPlan, DeploymentProblem
    from simulator.serving.simulate import SimulatedRun

EXIT_NO_PLAN = 1


@click.command()
@click.option("--model", required=True, help="Preset or YAML file of a model's sizes.")
@click.option("--popularity", "popularity_path", type=FILE, help="Parquet made by smoe predict.")
@click.option("--trace", "trace_path", type=FILE, help="Instead: routing of any kind that smoe import reads.")
@click.option("--part", help="Of a trace with several corpora: which.")
@click.option("--layers", metavar="0,0,1,...", help="Layer of the trace that stands for each of the model's.")
@click.option("--batch-tokens", type=click.IntRange(min=1), help="Of a batch; default: all tokens of the trace.")
@click.option("--experts", type=int, help="Experts of a layer; default: those of the popularity.")
@click.option("--top-k", type=int, help="Experts that each token uses; default: the preset's.")
@click.option("--profile", default="aws-us-east-1-2026", show_default=True, help="Platform profile.")
@click.option("--latency-limit", type=float, help="Seconds, head to tail.")
@click.option("--target-throughput", type=float, help="Tokens/s; sets the latency limit.")
@click.option("--objective", type=click.Choice(["gb_s", "usd"]), default="gb_s", show_default=True)
@click.option("--out", required=True, type=FILE)
@json_option
def problem(
    model: str,
    popularity_path: Path | None,
    trace_path: Path | None,
    part: str | None,
    layers: str | None,
    batch_tokens: int | None,
    experts: int | None,
    top_k: int | None,
    profile: str,
    latency_limit: float | None,
    target_throughput: float | None,
    objective: Any,
    out: Path,
    as_json: bool,
) -> None:
    """Make a deployment problem from popularity, model sizes and a platform profile.

    \b
    Example: ./smoe problem --model bert-moe --popularity pop.parquet --latency-limit 60 --out problem.json
             ./smoe problem --model olmoe-1b-7b --trace routed.npy --batch-tokens 10240 --out problem.json
    """
    from experiments.run.inputs import popularity_of_trace
    from moe.files import write_json
    from moe.spec import load_spec
    from optimizer.popularity.popularity_file import load_popularity
    from optimizer.problem import make_problem
    from simulator.profiles.schema import load_profile

    if latency_limit is not None and target_throughput is not None:
        raise InputError("--target-throughput: expected at most one of --latency-limit and --target-throughput")
    chosen = {} if top_k is None else {"top_k": top_k}
    if trace_path is not None and popularity_path is None:
        sizes = load_spec(model, **chosen, **({} if experts is None else {"experts": experts}))
        order = None if layers is None else whole_numbers("--layers", layers)
        tokens = popularity_of_trace(trace_path, part, sizes, order, batch_tokens)
    elif popularity_path is not None and not (trace_path or part or layers or batch_tokens):
        tokens = load_popularity(popularity_path)
    else:
        raise InputError("--popularity: expected either it, or --trace with --part, --layers, --batch-tokens")
    spec = load_spec(model, experts=experts or tokens.shape[1], **chosen)
    if target_throughput is not None:
        latency_limit = float(tokens.sum(axis=1).max()) / spec.top_k / target_throughput
    made = make_problem(spec, tokens, load_profile(profile), objective=objective, latency_limit_s=latency_limit)
    write_json(out, made)
    if as_json:
        print_json(made.model_dump(mode="json", by_alias=True))
    else:
        click.echo(
            f"{out}: {len(made.layers)} layers x {spec.experts} experts, {made.served_tokens:,.0f} tokens a batch"
        )


@click.command()
@click.argument("problem_path", metavar="PROBLEM", type=FILE)
@click.option(
    "--solver", default="exact", show_default=True, help="exact, ods, miqcp, lambdaml, ...: docs/solvers.md."
)
@click.option("--latency-limit", help="Seconds, or none; default: the problem's.")
@click.option("--objective", type=click.Choice(["gb_s", "usd"]), help="Default: the problem's.")
@click.option("--beta", type=click.Choice(["per-layer", "global"]), default="per-layer", show_default=True)
@click.option("--profile", help="With --draws: the profile that the problem was made of.")
@draws_option
@planning_options
@click.option("--trace", "trace_path", type=FILE, help="ods: write its rounds and Theorem 1's ratio there (JSON).")
@click.option("--front", is_flag=True, help="The whole curve of cost over throughput, and plans on it.")
@click.option("--tolerance", type=float, default=0.0, show_default=True, help="Thins the curve: share of cost.")
@click.option("--figure", type=FILE, help="With --front: draw it there (.png, and .svg beside it).")
@click.option(
    "--out",
    type=FILE,
    help="The plan (JSON), with --group the groups beside it; with --front the curve (.csv, .parquet).",
)
@seed_option
@json_option
def plan(
    problem_path: Path,
    solver: str,
    latency_limit: str | None,
    objective: str | None,
    beta: Any,
    profile: str | None,
    draws: int,
    trace_path: Path | None,
    front: bool,
    tolerance: float,
    figure: Path | None,
    out: Path | None,
    seed: int,
    as_json: bool,
    **more: Any,
) -> int:
    """Solve a deployment problem (JSON or YAML).

    \b
    Example: ./smoe plan problem.json --solver exact --latency-limit 60 --out plan.json
             ./smoe plan problem.json --front --figure front.png --out front.csv
             ./smoe plan problem.json --group 2 --group-by load --out plan.json
             ./smoe plan problem.json --profile mine.yaml --draws 20
    """
    from functools import partial

    from experiments.plan.draws import plan_draws, show_plans
    from experiments.plan.trace import show_ods, solve_traced, write_trace
    from moe.files import write_json
    from optimizer import Infeasible, NoIncumbent
    from optimizer.exact import check_experts_fit
    from optimizer.solvers import solve
    from simulator.plan import OBJECTIVE_UNIT, read_problem
    from simulator.profiles.schema import load_profile

    given = _changed(read_problem(problem_path), latency_limit, objective)
    planning = Planning.of(given, more)
    given = planning.problem
    try:
        for e in range(len(given.layers)):
            check_experts_fit(given, e)
    except InputError as error:
        raise InputError(f"{problem_path}: {error}") from None
    try:
        solved, ods = solve_traced(given, solver, trace_path is not None, beta=beta, seed=seed, **planning.options)
    except Infeasible as error:
        if as_json:
            print_json({"feasible": False, "least_latency_s": error.least_latency_s})
        click.echo(f"smoe: {problem_path}: {error}", err=True)
        return EXIT_BAD_INPUT
    except NoIncumbent as error:
        if as_json:
            print_json({"feasible": None, "time_limit_s": error.time_limit_s, "lower_bound": error.lower_bound})
        click.echo(f"smoe: {problem_path}: {error}", err=True)
        return EXIT_NO_PLAN
    if front:
        from experiments.commands.front import show_front

        show_front(given, solved, tolerance, seed, out, figure, as_json)
        return 0
    over = None
    if draws:
        again = partial(solve, solver=solver, beta=beta, seed=seed, **planning.options)
        over = plan_draws(given, solved, load_profile(profile) if profile else None, draws, again)
    if figure is not None or tolerance:
        raise InputError("--figure and --tolerance: expected together with --front")
    if out is not None:
        write_json(out, solved)
        planning.write_groups(out)
    if trace_path is not None and ods is not None:
        write_trace(trace_path, given, solved, ods)
    if as_json:
        found = solved.model_dump(mode="json", by_alias=True)
        print_json(found if over is None else found | {"over_draws": over.as_json()})
    else:
        _show_plan(given, solved)
        if over is not None:
            show_plans(over, OBJECTIVE_UNIT[given.objective])
        if ods is not None:
            show_ods(given, solved, ods)
    return 0


@click.command()
@click.argument("problem_path", metavar="PROBLEM", type=FILE)
@click.argument("plan_path", metavar="PLAN", type=FILE)
@click.option("--profile", help="Platform profile; default: the ideal platform, on which the closed form holds.")
@click.option("--start", type=click.Choice(["eager", "just-in-time"]), default="eager", show_default=True)
@click.option(
    "--next-layer-start", type=click.Choice(["eager", "just-in-time"]), default="eager", show_default=True
)
@click.option("--gather", type=click.Choice(["after-all", "as-ready"]), default="after-all", show_default=True)
@click.option(
    "--reload", type=click.Choice(["every-invocation", "when-cold"]), default="every-invocation", show_default=True
)
@click.option("--cold", is_flag=True, help="Start with no warm instance.")
@click.option(
    "--runs", type=click.IntRange(min=1), default=1, show_default=True, help="Batches, one after another."
)
@click.option(
    "--decode-steps", type=click.IntRange(min=0), default=0, show_default=True, help="Tokens to generate."
)
@click.option("--sequences", type=click.IntRange(min=1), default=1, show_default=True, help="That generate them.")
@draws_option
@click.option("--trace", "trace_path", type=FILE, help="Write a Perfetto/Chrome trace there.")
@click.option("--records", "records_path", type=FILE, help="Write the record table (parquet) there.")
@seed_option
@json_option
def simulate(
    problem_path: Path,
    plan_path: Path,
    profile: str | None,
    start: Any,
    next_layer_start: Any,
    gather: Any,
    reload: Any,
    cold: bool,
    runs: int,
    decode_steps: int,
    sequences: int,
    draws: int,
    trace_path: Path | None,
    records_path: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Play a deployment plan on a platform, with the problem's tokens.

    \b
    Example: ./smoe simulate problem.json plan.json --profile aws-us-east-1-2026 --trace trace.json
             ./smoe simulate problem.json plan.json --profile mine.yaml --draws 20
    """
    from functools import partial

    from experiments.plan.draws import show, simulate_draws
    from moe.files import write_whole
    from simulator.plan import read_plan, read_problem
    from simulator.profiles.schema import load_profile
    from simulator.serving.simulate import Decode
    from simulator.serving.simulate import simulate as play
    from simulator.serving.timeline import write_chrome_trace

    given = read_problem(problem_path)
    chosen = read_plan(plan_path, given)
    platform = load_profile(profile) if profile else None
    decode = Decode(decode_steps, sequences) if decode_steps else None
    playing = partial(
        play,
        plan=chosen,
        runs=runs,
        start=start,
        next_layer_start=next_layer_start,
        gather=gather,
        reload=reload,
        warm=not cold,
        decode=decode,
        seed=seed,
    )
    run = playing(given, profile=platform)
    over = None
    if draws:
        over = simulate_draws(given, platform, draws, lambda each, drawn: playing(each, profile=drawn))
    if trace_path is not None:
        write_chrome_trace(run.records, trace_path)
    if records_path is not None:
        write_whole(records_path, run.to_pandas().to_parquet)
    answer = _answer(run, decode is not None)
    if as_json:
        print_json(answer if over is None else answer | {"over_draws": over.as_json()})
    else:
        _show_run(answer)
        if over is not None:
            show(over)


def _answer(run: SimulatedRun, decoded: bool) -> dict[str, Any]:
    """The three bills with their parts, latency, and what the plan breaks."""
    answer: dict[str, Any] = {
        "billed_gb_s": run.bill.billed_gb_s,
        "billed_cost_usd": run.bill.billed_cost_usd,
        "full_cost_usd": run.bill.full_cost_usd,
        "total_cost_usd": run.bill.total_cost_usd,
        "latency_s": run.mean_latency_s,
        "violations": [list(violation) for violation in run.violations],
        "parts": {name: usd for name, usd in asdict(run.bill).items() if name.endswith("_usd")},
    }
    if decoded:
        answer |= {"time_to_first_token_s": run.mean_latency_s, "time_per_token_s": float(run.decode_s.mean())}
    return answer


def _show_run(answer: dict[str, Any]) -> None:
    parts = answer.pop("parts")
    for name, value in answer.items():
        click.echo(f"{name:<16} {value if name == 'violations' else format(value, '.6g')}")
    click.echo("total_cost_usd by parts:")
    for name, usd in parts.items():
        inside = "  (in the line above)" if name == "waiting_usd" else ""
        click.echo(f"  {name:<20} {usd:.6g}{inside}")


def _changed(problem: DeploymentProblem, latency_limit: str | None, objective: str | None) -> DeploymentProblem:
    """The problem with what the command line says instead."""
    changes: dict[str, Any] = {}
    if latency_limit is not None:
        changes["latency_limit_s"] = _limit(latency_limit)
    if objective is not None:
        changes["objective"] = objective
    return type(problem).model_validate(problem.model_copy(update=changes))


def _limit(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise InputError(f"--latency-limit: expected seconds > 0, or none, got '{text}'")
    return value


def _show_plan(problem: DeploymentProblem, plan: DeploymentPlan) -> None:
    """The plan as a table: a row for each layer."""
    from rich.table import Table

    from experiments.tools.console import out

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
    click.echo(
        f"{plan.solver}: {plan.billed_gb_s:.6g} GB-s billed, {plan.full_cost_usd:.6g} USD with requests, "
        f"latency {plan.latency_s:.6g} s{certificate}; {plan.solve_s:.2f} s to solve"
    )
    if not plan.feasible:
        click.echo(f"not feasible: {', '.join(_violation(v) for v in plan.violations)}")


def _violation(violation: tuple[int | None, int | None, str]) -> str:
    layer, expert, kind = violation
    where = "" if layer is None else f" (layer {layer}" + ("" if expert is None else f", expert {expert}") + ")"
    return kind + where
