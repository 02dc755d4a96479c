"""Commands that make pages of runs: report, compare."""

from __future__ import annotations

from pathlib import Path

import click

from experiments.commands.options import FILE, json_option, print_json

RUN = click.Path(path_type=Path)


@click.command()
@click.argument("folder", metavar="DIR", type=RUN)
@click.option("--out", type=FILE, help="Default: report.html in the folder.")
@json_option
def report(folder: Path, out: Path | None, as_json: bool) -> None:
    """One self-contained HTML page of a run: open it in a browser, offline.

    DIR is what ./smoe run, traffic or tune made, or a folder of tables (points.csv of a sweep).

    \b
    Example: ./smoe report results/bert --out bert.html
    """
    from experiments.report.page import write_page
    from experiments.report.reading import load_run
    from experiments.report.run_page import page_of
    from experiments.tools.console import log

    path = out or folder / "report.html"
    with log.status(f"Reading {folder} ..."):
        run = load_run(folder)
        page = page_of(run)
        size = write_page(page, path)
    if as_json:
        sections = [section.title for section in page.sections]
        print_json({"page": str(path), "kind": run.kind, "title": page.title, "sections": sections, "bytes": size})
    else:
        click.echo(f"{path}: {page.title} ({size / 2**20:.1f} MB); open it in a browser")


@click.command()
@click.argument("before", metavar="DIR_A", type=RUN)
@click.argument("after", metavar="DIR_B", type=RUN)
@click.option("--out", type=FILE, help="Write the page too, as HTML.")
@json_option
def compare(before: Path, after: Path, out: Path | None, as_json: bool) -> None:
    """Two runs of one kind side by side: what was asked, and what came out, differently.

    Differences have 95% intervals where batches or replications repeat: paired where both runs served the same.

    \b
    Example: ./smoe compare results/bert results/gpt2 --out bert-gpt2.html
    """
    from experiments.report.compare import compare as compare_runs
    from experiments.report.comparison_page import comparison_page, show
    from experiments.report.page import write_page
    from experiments.report.reading import load_run
    from experiments.tools.console import log

    with log.status(f"Reading {before} and {after} ..."):
        found = compare_runs(load_run(before), load_run(after))
    if out is not None:
        write_page(comparison_page(found), out)
    if as_json:
        print_json(found.as_data | {"page": None if out is None else str(out)})
    else:
        show(found, out)
