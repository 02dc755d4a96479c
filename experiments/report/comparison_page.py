"""A comparison for a terminal of 100 columns, and as a page."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.report.compare import Comparison, Setting
from experiments.report.difference import Difference
from experiments.report.page import Block, Column, DataTable, Page, Plot, Section, Value, text_of
from experiments.tools.console import out

if TYPE_CHECKING:
    from rich.table import Table


def show(found: Comparison, page: Path | None) -> None:
    """Print the comparison."""
    out.print(f"A: {found.a.name}, {found.a.path}\nB: {found.b.name}, {found.b.path}\n", soft_wrap=True)
    if found.configuration:
        out.print(configuration_table(found))
    else:
        out.print("Asked the same.")
    if found.provenance:
        keys = ", ".join(setting.key for setting in found.provenance)
        out.print(f"\nMade differently: {keys}.")
    out.print()
    out.print(difference_table(found))
    out.print(f"\n{verdicts(found)} {found.confidence}")
    if page is not None:
        out.print(f"{page}: open it in a browser", soft_wrap=True)


def configuration_table(found: Comparison) -> Table:
    """Keys that differ."""
    from rich import box
    from rich.table import Table

    table = Table(title="asked differently", title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("key", overflow="fold", max_width=40)
    table.add_column("A", overflow="fold", max_width=28)
    table.add_column("B", overflow="fold", max_width=28)
    for setting in found.configuration:
        table.add_row(setting.key, _said(setting.a), _said(setting.b))
    return table


def difference_table(found: Comparison) -> Table:
    """Every number and its difference, a block for each method; one line where all of them are the same."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    named = any(each.of for each in found.differences)
    if named:
        table.add_column("of", overflow="fold", max_width=20)
    table.add_column("number", overflow="fold", max_width=30)
    for name in ("A", "B", "B - A", "%", "95% of B - A"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for of, group in groupby(found.differences, key=lambda each: each.of):
        rows = list(group)
        if of and all(each.verdict == "same" for each in rows):
            table.add_row(of, f"all {len(rows)} numbers", *[""] * 5, "same", end_section=True)
            continue
        for place, each in enumerate(rows):
            cells = [_name(each), text_of(each.a), text_of(each.b), _short(each.change), percent(each.relative)]
            first = [of if place == 0 else ""] if named else []
            table.add_row(*first, *cells, interval(each), each.verdict, end_section=place + 1 == len(rows))
    return table


def comparison_page(found: Comparison) -> Page:
    """The page of two runs side by side."""
    a, b = found.a, found.b
    sections = [_settings("Asked differently", "configuration", found.configuration), _differences(found)]
    if found.provenance:
        sections.append(_settings("Made differently", "provenance", found.provenance))
    lead = [f"A is {a.name}, in {a.path}. B is {b.name}, in {b.path}.", verdicts(found), found.confidence]
    return Page(f"{a.name} and {b.name}", lead, sections, f"Made by ./smoe compare {a.path} {b.path}.")


def verdicts(found: Comparison) -> str:
    """How many numbers differ, and how sure that is."""
    counts: dict[str, int] = {}
    for each in found.differences:
        counts[each.verdict] = counts.get(each.verdict, 0) + 1
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{len(found.differences)} numbers: {said}."


def interval(each: Difference) -> str:
    """The interval of the difference as text."""
    if each.low is None or each.high is None:
        return ""
    return f"{_short(each.low)} .. {_short(each.high)}"


def percent(share: float | None) -> str:
    """A share as per cent with its sign."""
    return "" if share is None else f"{share:+.1%}" if abs(share) < 100 else f"{share:+.1e}"


def _differences(found: Comparison) -> Section:
    columns = [
        Column("of"),
        Column("number"),
        Column("unit", "", "$/M: USD per million tokens"),
        Column("A"),
        Column("B"),
        Column("B - A"),
        Column("change", "% of A"),
        Column("low", "95% of B - A"),
        Column("high", "95% of B - A"),
        Column("verdict", "", "not clear: 0 is in the interval; unknown: nothing was repeated"),
        Column("rests on"),
    ]
    rows: list[list[Value]] = [
        [
            *(each.of, each.what, each.unit, each.a, each.b, each.change),
            None if each.relative is None else 100 * each.relative,
            *(each.low, each.high, each.verdict, each.how),
        ]
        for each in found.differences
    ]
    blocks: list[Block] = [DataTable("differences", columns, rows)]
    drawn = [each for each in found.differences if each.relative is not None and each.verdict != "same"]
    if drawn:
        series = {
            "name": "B compared with A",
            "values": [_share(each.change, each) for each in drawn],
            "low": [_share(each.low, each) for each in drawn],
            "high": [_share(each.high, each) for each in drawn],
        }
        names = [
            " ".join(part for part in (each.of + ":" if each.of else "", each.what) if part) for each in drawn
        ]
        data = {"unit": "% of A", "rows": names, "series": [series], "log": False, "zero": True}
        about = (
            "A line through a mark is the 95% interval; no line: nothing was repeated. Numbers that are the same "
            "in both are left out."
        )
        blocks.insert(0, Plot("dots", "Change from A to B", data, about))
    return Section("Came out differently", blocks)


def _settings(title: str, name: str, settings: list[Setting]) -> Section:
    if not settings:
        return Section(title, text=["Nothing."])
    rows = [[setting.key, _said(setting.a), _said(setting.b)] for setting in settings]
    return Section(title, [DataTable(name, [Column("key"), Column("A"), Column("B")], rows)])


def _share(value: float | None, each: Difference) -> float | None:
    return None if value is None or not each.a else 100 * value / abs(each.a)


def _name(each: Difference) -> str:
    return f"{each.what}, {each.unit}" if each.unit else each.what


def _short(value: float | None) -> str:
    """Three significant figures."""
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _said(value: Value) -> str:
    return "null" if value is None else str(value)
