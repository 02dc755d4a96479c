"""The command figures: regenerate the paper's figures and the claims table."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import json_option, print_json, seed_option


@click.command()
@click.option(
    "--only",
    multiple=True,
    metavar="NUMBER",
    help="2, 3, 4, 10-14, overheads, ranking, regret, rivals, whole-bill; again for more.",
)
@click.option("--quick", is_flag=True, help="Minutes: small batches, few seeds.")
@click.option("--paper-scale", is_flag=True, help="Hours: 100 batches, MIQCP 180 s; run it again to resume.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: results/runs/figures[-SCALE].")
@click.option("--page", type=click.Path(path_type=Path), help="Where the page stands; default: OUT/paper.md.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes; default: one a core.")
@click.option("--fresh", is_flag=True, help="Recompute what is already there.")
@seed_option
@json_option
def figures(
    only: tuple[str, ...],
    quick: bool,
    paper_scale: bool,
    out: Path | None,
    page: Path | None,
    workers: int | None,
    fresh: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Regenerate the paper's figures, each with its data, the paper's number, ours and the verdict.

    \b
    Example: ./smoe figures --quick --only 12 --out /tmp/figures
    """
    from joblib import cpu_count

    from experiments.paper.job import MARKER, asked_for, run_figures
    from experiments.paper.settings import Scale
    from moe.held import held

    if quick and paper_scale:
        raise click.UsageError("--quick, --paper-scale: expected at most one of the two")
    scale: Scale = "quick" if quick else "paper-scale" if paper_scale else "default"
    asked = asked_for(only, scale, seed)
    folder = out or Path("results", "runs", "figures" if scale == "default" else f"figures-{scale}")
    with held(folder, MARKER):
        summary = run_figures(asked, scale, seed, folder, fresh, workers or cpu_count(), page)
    if as_json:
        print_json(summary)
    else:
        _show(summary, folder, page or folder / "paper.md")
    if summary["failed"]:
        raise SystemExit(1)


def _show(summary: dict[str, object], folder: Path, page: Path) -> None:
    from rich import box
    from rich.table import Table

    from experiments.tools.console import out

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name, width in (("fig", 4), ("claim", 42), ("paper", 14), ("ours", 24)):
        table.add_column(name, max_width=width)
    table.add_column("verdict", no_wrap=True)
    claims = summary["claims"]
    assert isinstance(claims, list)
    for claim in claims:
        if claim["confirmed"] is not None:
            table.add_row(claim["figure"][:4], claim["claim"], claim["paper"], claim["ours"], claim["verdict"])
    out.print(table)
    out.print(f"{page}: every figure with its reasons; {folder}/: claims.csv is the table, figNN.csv the data.")
