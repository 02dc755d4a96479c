"""What `plan --front` shows: the model's whole front, and plans beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.options import print_json
from moe.errors import InputError

if TYPE_CHECKING:
    from experiments.plan.front import FrontData
    from simulator.plan import DeploymentPlan, DeploymentProblem

SHOWN = 12
"""Points of the front that a terminal shows."""


def show_front(
    problem: DeploymentProblem,
    chosen: DeploymentPlan,
    tolerance: float,
    seed: int,
    out: Path | None,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Make the front, write and draw what is asked for, and print it. Raises InputError."""
    from experiments.plan.front import draw_front, front_data
    from moe.files import write_whole

    for option, path, endings in (
        ("--out", out, (".csv", ".parquet")),
        ("--set figure", figure, (".png", ".svg")),
    ):
        if path is not None and path.suffix not in endings:
            raise InputError(
                f"{option}: with --front expected a name ending in {' or '.join(endings)}, got '{path}'"
            )
    data = front_data(problem, chosen, tolerance, seed)
    if out is not None:
        table = data.table()
        is_csv = out.suffix == ".csv"
        write_whole(out, table.to_csv(index=False) if is_csv else table.to_parquet(index=False))
    if figure is not None:
        draw_front(data, figure)
    if as_json:
        print_json(_as_json(data))
    else:
        _print(data)


def _as_json(data: FrontData) -> dict[str, object]:
    return {
        "name": data.name,
        "objective": data.objective,
        "latency_limit_s": data.latency_limit_s,
        "batch_tokens": data.batch_tokens,
        "tolerance": data.tolerance,
        "front": {
            name: getattr(data, name).tolist() for name in ("latency_s", "tokens_per_s", "cost", "cost_usd")
        },
        "plans": [asdict(mark) for mark in data.marks],
    }


def _print(data: FrontData) -> None:
    import numpy as np
    from rich.table import Table

    from experiments.tools.console import out

    unit = "GB-s" if data.objective == "gb_s" else "full USD"
    table = Table("", "tokens/s", "latency s", unit, "USD", "above the front", pad_edge=False)
    for k in np.unique(np.linspace(0, len(data.cost) - 1, SHOWN).astype(int)).tolist():
        table.add_row(
            "front",
            f"{data.tokens_per_s[k]:,.1f}",
            f"{data.latency_s[k]:.5g}",
            f"{data.cost[k]:.6g}",
            f"{data.cost_usd[k]:.4g}",
            "",
            end_section=k == len(data.cost) - 1,
        )
    for mark in data.marks:
        table.add_row(
            mark.name + ("" if mark.feasible else " *"),
            f"{mark.tokens_per_s:,.1f}",
            f"{mark.latency_s:.5g}",
            f"{mark.cost:.6g}",
            f"{mark.cost_usd:.4g}",
            "" if mark.above_front is None else f"{max(mark.above_front, 0):.2%}",
        )
    out.print(table)
    thinned = "exact" if data.tolerance == 0 else f"thinned, at most {data.tolerance:g} above the exact one"
    click.echo(f"the front has {len(data.cost):,} points ({thinned}); *: misses a constraint or the latency limit")
