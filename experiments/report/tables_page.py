"""The page of a folder of tables: a sweep's points, a study's runs. Any column over any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.report.page import Column, DataTable, Page, Plot, Section, plain
from experiments.report.parts import configuration, present, provenance
from experiments.report.reading import POINTS, Run

if TYPE_CHECKING:
    import pandas as pd

COST, TIME = ("total_usd", "usd", "cost", "bill", "gb_s"), ("tokens_per_s", "latency", "throughput")
GROUPS = ("method", "contender", "plan", "solver", "sampler", "predictor")  # columns that name what is compared
MOST_COLOURS = 8
LOG_FROM = 100  # times the least value


def tables_page(run: Run) -> Page:
    """The page."""
    names = sorted(run.tables, key=lambda name: (name != POINTS, name))
    said = ", ".join(f"{len(run.tables[name]):,} rows in {name}" for name in names)
    about = [str(run.config["about"])] if run.config.get("about") else []
    sections = [_table(name, run.tables[name], run.swept if name == POINTS else []) for name in names]
    return Page(
        run.name,
        [*about, f"{said}."],
        present(*sections, configuration(run), provenance(run)),
        f"Made by ./smoe report from {run.path}.",
    )


def _table(name: str, table: pd.DataFrame, swept: list[str]) -> Section:
    """A table, and its columns over each other; of a sweep's points, cost over the first number that was swept."""
    columns = [Column(str(column)) for column in table.columns]
    rows = [[plain(value) for value in row] for row in table.itertuples(index=False, name=None)]
    found = DataTable(name.replace(".", "-"), columns, rows)
    numeric = [column.name for column, is_numeric in zip(columns, found.numeric, strict=True) if is_numeric]
    if not numeric or len(rows) < 2:
        return Section(_title(name), [found])
    varied = [column for column in numeric if table[column].nunique() > 1] or numeric
    y = _first(varied, COST, varied[-1])
    across = [column for column in varied if column in swept and column != "seed"]
    x = across[0] if across else _first([column for column in varied if column != y], TIME, varied[0])
    most = (
        MOST_COLOURS if not across else len(rows)
    )  # what is compared has a line of its own, however many there are
    groups = [
        c.name for c in columns
        if c.name not in (x, y)
        and 1 < table[c.name].nunique() <= (most if c.name in GROUPS else MOST_COLOURS)
    ]  # fmt: skip
    by = next((name for name in (*GROUPS, *groups) if name in groups), "")
    is_wide = all(table[name].min() > 0 for name in (x, y)) and table[y].max() > LOG_FROM * table[y].min()
    plot = {"table": found.id, "x": x, "y": y, "by": by, "log": bool(is_wide), "line": bool(across)}
    about = "Choose the axes and the colour; filters of the table hold here too."
    if across:
        about += " Lines are means; bands reach over what else was swept, seeds among it."
    return Section(_title(name), [found, Plot("scatter", "Any column over any other", plot, about)])


def _title(name: str) -> str:
    return "Points" if name == POINTS else name


def _first(columns: list[str], words: tuple[str, ...], otherwise: str) -> str:
    """The first column whose name has one of the words, the words in their order."""
    return next((column for word in words for column in columns if word in column), otherwise)
