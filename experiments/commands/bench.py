"""The command bench: how fast things are, beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from experiments.commands.options import FILE, json_option, print_json
from moe.errors import InputError


@click.command()
@click.argument("what", type=click.Choice(["simulator", "validation", "miqcp"]))
@click.option("--out", type=FILE, help="Write the validation page there.")
@click.option("--requests", default=100_000, show_default=True, help="Of the request workload.")
@click.option("--problem", "problem_path", type=FILE, help="miqcp: a deployment problem with its latency limit.")
@click.option("--time-limit", default=20.0, show_default=True, help="miqcp: seconds for each.")
@click.option("--backend", default="scip", show_default=True, help="miqcp: scip or gurobi.")
@json_option
def bench(
    what: str,
    out: Path | None,
    requests: int,
    problem_path: Path | None,
    time_limit: float,
    backend: Any,
    as_json: bool,
) -> None:
    """Measure speed, ratios side by side in one run; or write how the simulator was validated.

    \b
    Example: ./smoe bench simulator
             ./smoe bench validation --out docs/validation.md
             ./smoe bench miqcp --problem problem.json --time-limit 20
    """
    if what == "miqcp":
        _miqcp(problem_path, time_limit, backend, as_json)
        return
    if what == "validation":
        from experiments.validation import page

        text = page()
        if out is None:
            click.echo(text)
        else:
            out.write_text(text, encoding="utf-8")
        return
    from dataclasses import asdict

    from experiments.bench import Workload, batch_speed, scaling, simulator_speed

    requests_rows = simulator_speed(Workload(requests=requests))
    batch_rows = batch_speed()
    sizes = scaling()
    if as_json:
        print_json(
            {
                "requests": [asdict(row) for row in requests_rows],
                "batches": [asdict(row) for row in batch_rows],
                "scaling": [{"invocations": count, "seconds": seconds} for count, seconds in sizes],
            }
        )
        return
    click.echo("Poisson requests, exponential service, cold starts (SimFaaS: pip install simfaas)")
    for row in (*requests_rows, *batch_rows):
        if row is batch_rows[0]:
            click.echo("One batch of a Bert MoE, 12 layers x 4 experts x 2 replicas, 10,240 tokens")
        click.echo(f"  {row.name:<22} {row.per_s:>10,.0f} {row.unit}/s   {row.of_first:6.2f} x the first")
    click.echo("One batch, storage, by size")
    for count, seconds in sizes:
        click.echo(f"  {count:>7,} invocations {seconds:8.3f} s   {seconds / count * 1e6:6.1f} microseconds each")


def _miqcp(problem_path: Path | None, time_limit_s: float, backend: Any, as_json: bool) -> None:
    """MIQCP, cold and from ODS's plan, beside ODS and the exact solver."""
    from dataclasses import asdict

    from experiments.miqcp_bench import at_equal_time
    from simulator.plan import read_problem

    if problem_path is None:
        raise InputError("--problem: expected a deployment problem, got none")
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
