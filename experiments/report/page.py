"""A page: sections of text, tables, plots and pictures, rendered to one HTML file that needs nothing else.

Markup, looks and behaviour are the files in `static/`; what stands here is what a page is made of.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias

from moe.files import write_whole

Value: TypeAlias = str | float | int | bool | None
PlotKind: TypeAlias = Literal["scatter", "bars", "dots", "heat", "timeline"]

SCRIPTS = ("common.js", "table.js", "scatter.js", "bars.js", "dots.js", "heat.js", "timeline.js", "page.js")
MOST_ROWS = 5000  # of a table on a page
MOST_LETTERS = 160  # of a cell; the rest is shown when it is pointed at


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, the unit of its values, what it is."""

    name: str
    unit: str = ""
    about: str = ""


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the value that sorts and plots, where that says more."""

    text: str
    raw: str | None
    is_cut: bool = False


@dataclass(frozen=True)
class DataTable:
    """A table that sorts and filters; with five rows or more a filter stands above each column.

    Attributes:
        id: unique on the page; plots name it.
        rows: a value for each column.
    """

    id: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    title: str = ""
    about: str = ""
    block: Literal["table"] = "table"

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows that the page shows, as text."""
        return [[_cell(value) for value in row] for row in self.rows[:MOST_ROWS]]

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.columns)
        return [any(_is_number(value) for value in column) for column in columns]

    @property
    def note(self) -> str:
        """What of the table the page leaves out."""
        left_out = len(self.rows) - MOST_ROWS
        return f"The first {MOST_ROWS:,} rows; {left_out:,} more are in the file." if left_out > 0 else ""


@dataclass(frozen=True)
class Plot:
    """An interactive plot; `data` is what `static/KIND.js` says."""

    kind: PlotKind
    title: str
    data: dict[str, Any]
    about: str = ""
    block: Literal["plot"] = "plot"


@dataclass(frozen=True)
class Picture:
    """An image file, inlined."""

    title: str
    path: Path
    about: str = ""
    block: Literal["picture"] = "picture"

    @property
    def source(self) -> str:
        """The image as a data URI."""
        kind = {".svg": "svg+xml", ".png": "png"}[self.path.suffix]
        return f"data:image/{kind};base64,{base64.b64encode(self.path.read_bytes()).decode()}"


Block: TypeAlias = DataTable | Plot | Picture


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, a list, and blocks."""

    title: str
    blocks: Sequence[Block] = ()
    text: Sequence[str] = ()
    points: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """A page; `lead` is what a reader in a hurry reads."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]
    foot: str


def html_of(page: Page) -> str:
    """The page as one HTML document: nothing in it is loaded from elsewhere, all text is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    css = Markup(_static("page.css"))
    js = Markup('"use strict";\n' + "\n".join(_static(name) for name in SCRIPTS))
    return environment.from_string(_static("page.html")).render(page=page, css=css, js=js)


def write_page(page: Page, path: Path) -> int:
    """Write the page; its size in bytes. Raises PlatformError where it cannot be written."""
    data = html_of(page).encode()
    write_whole(path, data)
    return len(data)


def text_of(value: Value) -> str:
    """A value as a person reads it: four significant figures, thousands grouped, nothing for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (abs(value) >= 1000 and math.isfinite(value)):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def plain(value: Any) -> Value:
    """A value of a data frame or a file as one that a page holds: no NaN, no numpy; lists as text."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | float | int | bool) else str(value)


def _is_number(value: Value) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _cell(value: Value) -> Cell:
    text = text_of(value)
    if len(text) > MOST_LETTERS:
        return Cell(f"{text[: MOST_LETTERS - 1]}…", text, is_cut=True)
    return Cell(text, repr(value) if _is_number(value) and text != repr(value) else None)


def _static(name: str) -> str:
    return (files("experiments.report") / "static" / name).read_text(encoding="utf-8")
