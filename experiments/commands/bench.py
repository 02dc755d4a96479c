"""The command bench: how fast things are, beside each other, and how far they can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from experiments.commands.options import FILE, FOLDER, json_option, plugins_option, print_json, seed_option


@click.group()
def bench() -> None:
    """Measure speed, ratios side by side in one run; or how far results can be trusted.

    \b
    Example: ./smoe bench simulator
             ./smoe bench all --json
             ./smoe bench validation --public measurements/ --out results/validation/validation.md
             ./smoe bench calibration
    """


@bench.command()
@click.option("--requests", default=200_000, show_default=True, help="Of the request workload.")
@json_option
def simulator(requests: int, as_json: bool) -> None:
    """The simulator beside SimFaaS and bare SimPy; a batch of an MoE model by method and by size.

    \b
    Example: ./smoe bench simulator --requests 100000
    """
    from dataclasses import asdict

    from experiments.benches.simulator import Workload, batch_times, scaling, simulator_speed, slope_us

    requests_rows = simulator_speed(Workload(requests=requests))
    batches, sizes = batch_times(), scaling()
    if as_json:
        print_json(
            {
                "requests": [asdict(row) for row in requests_rows],
                "batches": [asdict(batch) for batch in batches],
                "scaling": [asdict(batch) for batch in sizes],
                "slope_us": slope_us(sizes),
            }
        )
        return
    click.echo(f"{requests:,} Poisson requests, exponential service, cold starts (SimFaaS: pip install simfaas)")
    for row in requests_rows:
        click.echo(f"  {row.name:<22} {row.per_s:>10,.0f} {row.unit}/s   {row.of_first:6.2f} x the first")
    click.echo("One batch of a Bert MoE, 12 layers x 4 experts x 2 replicas, 10,240 tokens")
    for batch in batches:
        each = (
            f"{batch.seconds / batch.minibatches * 1e6:7.1f} microseconds a minibatch" if batch.minibatches else ""
        )
        click.echo(f"  {batch.name:<22} {batch.seconds * 1e3:10.1f} ms  {each}")
    click.echo("One batch, storage, by layers x experts")
    for batch in sizes:
        each = f"{batch.seconds / batch.invocations * 1e6:7.1f} microseconds each"
        click.echo(f"  {batch.name:<10} {batch.invocations:>7,} invocations {batch.seconds:8.3f} s  {each}")
    click.echo(f"  slope: {slope_us(sizes):.1f} microseconds an invocation")


@bench.command("all")
@click.option("--requests", default=200_000, show_default=True, help="Of the request workload.")
@json_option
def everything(requests: int, as_json: bool) -> None:
    """All speeds in one run: simulator and optimizer, how they grow with size, the peak of memory; minutes.

    \b
    Example: ./smoe bench all --json
    """
    from experiments.benches.everything import everything as measured

    found = measured(requests, say=lambda what: click.echo(what, err=True))
    if as_json:
        print_json(found)
        return
    for row in found["requests"]:
        click.echo(f"{row['name']:<24} {row['per_s']:>12,.0f} requests/s {row['of_first']:8.2f} x the first")
    month = found["month"]
    click.echo(f"a month of a million requests a day: {month['month_s']:.0f} s ({month['us']:.2f} us each)")
    for row in found["batches"] + found["scaling"]:
        click.echo(f"one batch, {row['name']:<16} {row['invocations']:>8,} invocations {row['seconds']:9.3f} s")
    for row in found["optimizer"]:
        click.echo(f"{row['job']:<18} {row['layers']:>3} x {row['experts']:<4} {row['cpu_s']:9.3f} s")
    for name, exponent in found["exponents"].items():
        click.echo(f"{name}: time grows like size^{exponent:.2f}")
    for name, peak in found["peak_memory_mb"].items():
        click.echo(f"memory after {name}: {peak:,.0f} MB at most")


@bench.command()
@click.option("--out", type=FILE, help="Write the page there, and its picture beside it.")
@click.option("--public", type=FOLDER, help="Folder with public measurements of AWS.")
@json_option
def validation(out: Path | None, public: Path | None, as_json: bool) -> None:
    """The simulator held against equations, theory, another simulator and public measurements.

    \b
    Example: ./smoe bench validation --public measurements/ --out results/validation/validation.md
    """
    from experiments.validation.page import as_data, markdown, validate
    from experiments.validation.picture import draw_fan_in
    from moe.files import write_whole

    found = validate(public, say=lambda what: click.echo(what, err=True))
    if out is not None:
        picture = out.with_name(f"{out.stem}-fan-in.svg")
        draw_fan_in(found.fan_in, picture)
        write_whole(out, markdown(found, picture.name))
    if as_json:
        print_json(as_data(found))
    elif out is None:
        click.echo(markdown(found))


@bench.command()
@click.option("--platforms", default=8, show_default=True, help="Hidden platforms: nothing is as in the base.")
@click.option("--draws", default=5, show_default=True, help="Campaigns on each, with seeds of their own.")
@click.option("--campaign", default="standard", show_default=True, help="As in smoe probe.")
@click.option("--workers", default=2, show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("results/runs/bench-calibration"),
    show_default=True,
    help="Finished campaigns; the same command goes on from them.",
)
@json_option
def calibration(platforms: int, draws: int, campaign: str, workers: int, out: Path, as_json: bool) -> None:
    """Campaigns on simulated platforms with known constants: do the intervals hold them?

    \b
    Example: ./smoe bench calibration --platforms 8 --draws 5
    """
    from dataclasses import asdict

    from experiments.benches.calibration import believed, study
    from experiments.tools.console import progress
    from experiments.tools.kept import Store
    from moe.held import held

    with held(out, "campaign-*"), progress("measuring hidden platforms", "campaigns") as update:
        table = believed(study(platforms, draws, campaign, Store(out, workers=workers), update))
    if as_json:
        print_json({"constants": [asdict(each) | {"coverage": each.coverage} for each in table]})
        return
    click.echo(
        f"{'':<52}{'campaigns':>10}{'hold':>12}{'error':>9}{'worst':>9}{'KS':>7}{'kept':>6}{'brackets':>10}"
    )
    for each in table:
        share = "" if each.coverage is None else f"{each.hold} of {each.intervals}"
        ks = "" if each.ks is None else f"{each.ks:.3f}"
        click.echo(
            f"{each.name:<52}{each.measured:>10}{share:>12}{each.error:>9.1%}{each.worst:>9.1%}{ks:>7}"
            f"{each.kept:>6}{each.brackets:>10}"
        )
    coverage = table[-1].coverage
    click.echo("" if coverage is None else f"95% intervals that hold the truth: {coverage:.1%}")


@bench.command()
@click.argument("problem_path", metavar="PROBLEM", type=FILE)
@click.option("--time-limit", "time_limit_s", default=20.0, show_default=True, help="Seconds for each.")
@click.option("--backend", type=click.Choice(["scip", "gurobi"]), default="scip", show_default=True)
@json_option
def miqcp(problem_path: Path, time_limit_s: float, backend: Any, as_json: bool) -> None:
    """The paper's MIQCP, cold and from ODS's plan, beside ODS and the exact solver.

    \b
    Example: ./smoe bench miqcp problem.json --time-limit 20
    """
    from dataclasses import asdict

    from experiments.benches.optimizer import at_equal_time
    from simulator.plan import read_problem

    rows = at_equal_time(read_problem(problem_path), time_limit_s, backend)
    if as_json:
        print_json({"rows": [asdict(row) for row in rows]})
        return
    click.echo(
        f"{'':<16}{'cost':>14}{'over optimum':>14}{'lower bound':>14}{'gap':>9}{'feasible':>10}{'seconds':>9}"
    )
    for row in rows:
        cost, bound = (f"{x:.6g}" if x is not None else "none" for x in (row.cost, row.lower_bound))
        over, gap = (f"{x:.2%}" if x is not None else "" for x in (row.over_optimum, row.gap))
        feasible = {None: "no plan", True: "yes", False: "no"}[row.feasible]
        click.echo(f"{row.name:<16}{cost:>14}{over:>14}{bound:>14}{gap:>9}{feasible:>10}{row.seconds:>9.2f}")


@bench.command()
@click.option("--problem", "problems", multiple=True, metavar="NAME", help="Of the ten; all by default.")
@click.option(
    "--solver", "solvers", multiple=True, metavar="NAME", help="That joins: module:function, or as in plan."
)
@plugins_option
@seed_option
@json_option
def solvers(
    problems: tuple[str, ...], solvers: tuple[str, ...], plugins: tuple[Path, ...], seed: int, as_json: bool
) -> None:
    """A leaderboard on ten kept problems: cost over the certified front, late share when played, seconds.

    \b
    Example: ./smoe bench solvers --json
             ./smoe bench solvers --problem bert-12x4-usd --solver mine:cheapest
    """
    from dataclasses import asdict

    from experiments.benches.solvers import board
    from experiments.tools.provenance import provenance
    from moe.plugins import look_in

    look_in(Path.cwd(), *plugins)
    rows = []
    if not as_json:
        click.echo(f"{'problem':<21}{'solver':<15}{'over front':>11}{'late':>6}{'played':>8}{'CPU s':>8}  breaks")
    for row in board(problems, solvers, seed):
        rows.append(row)
        if as_json:
            click.echo(f"{row.problem}: {row.solver}", err=True)
            continue
        over = "none" if row.over_front is None else f"{row.over_front:+.2%}"
        late = "" if row.late_share is None else f"{row.late_share:.0%}"
        said = row.why_not or ", ".join(row.broken)
        click.echo(
            f"{row.problem:<21}{row.solver:<15}{over:>11}{late:>6}{row.played or '':>8}{row.seconds:>8.2f}  {said}"
        )
    if as_json:
        print_json(provenance() | {"rows": [asdict(row) for row in rows]})
    else:
        click.echo("over front: cost over the certified least of any plan as fast (as the limit, if that is more)")


@bench.command()
@json_option
def optimizer(as_json: bool) -> None:
    """The exact solver by layers x experts, to the optimum and to a certified gap; fronts; ODS; a plain sweep.

    \b
    Example: ./smoe bench optimizer
    """
    from dataclasses import asdict

    from experiments.benches.optimizer import GAP, optimizer_speed, slope

    rows = optimizer_speed()
    slopes = {job: slope(rows, job) for job in ("exact", f"exact, gap {GAP:g}")}
    if as_json:
        print_json({"rows": [asdict(row) for row in rows], "slopes": slopes})
        return
    click.echo("layers x experts  job                 seconds  process s  x the first  certified gap")
    for row in rows:
        gap = "" if row.gap is None else f"{row.gap:.1e}"
        click.echo(
            f"{row.layers:>6} x {row.experts:<7}  {row.job:<18} {row.seconds:>8.3f} {row.cpu_s:>10.3f} "
            f"{row.of_first:>12.3f}  {gap}"
        )
    for job, exponent in slopes.items():
        click.echo(f"{job}: process time grows like (layers x experts)^{exponent:.2f}")
