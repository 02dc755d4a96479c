"""What `plan --front` shows: the model's whole front, and plans beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.options import print_json
from moe.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from experiments.plan.front import FrontData
    from optimizer.blocks import ShapeName
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

    _check_names(out, figure)
    data = front_data(problem, chosen, tolerance, seed)
    if out is not None:
        _write(data.table(), out)
    if figure is not None:
        draw_front(data, figure)
    if as_json:
        print_json(_as_json(data))
    else:
        _print(data)


def show_shape_front(
    problem: DeploymentProblem,
    shapes: Sequence[ShapeName] | None,
    gap: float,
    out: Path | None,
    figure: Path | None,
    as_json: bool,
) -> None:
    """The same over all shapes, for a problem with `blocks`. Raises InputError."""
    from rich.table import Table

    from experiments.plan.shape_front import draw_shape_front, shape_front
    from experiments.tools.console import out as console

    _check_names(out, figure)
    data = shape_front(problem, shapes, gap)
    points = data.table()
    if out is not None:
        _write(points, out)
    if figure is not None:
        draw_shape_front(data, figure)
    if as_json:
        front = {name: points[name].tolist() for name in points.columns}
        print_json({"name": data.name, "gap": gap, "cut_from_s": data.cut_from_s, "front": front})
        return
    table = Table("latency s", "USD per million tokens", "shape", "functions", "at once", pad_edge=False)
    for row in points.itertuples():
        table.add_row(
            f"{row.latency_s:.4g}",
            f"{row.usd_per_million_tokens:.4g}",
            str(row.shape),
            f"{row.functions:,}",
            f"{row.peak_concurrency:,}",
        )
    console.print(table)
    cut_s = data.cut_from_s
    pays = "never pays" if cut_s is None else f"pays where a batch may take {cut_s:.4g} s at most"
    click.echo(f"cutting the model {pays}; each row is the optimum" + (f" to {gap:g}" if gap else ""))


def _check_names(out: Path | None, figure: Path | None) -> None:
    for option, path, endings in (
        ("--out", out, (".csv", ".parquet")),
        ("--set figure", figure, (".png", ".svg")),
    ):
        if path is not None and path.suffix not in endings:
            raise InputError(
                f"{option}: with --front expected a name ending in {' or '.join(endings)}, got '{path}'"
            )


def _write(table: pd.DataFrame, out: Path) -> None:
    from moe.files import write_whole

    is_csv = out.suffix == ".csv"
    write_whole(out, table.to_csv(index=False) if is_csv else table.to_parquet(index=False))


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
