"""Markdown that pages share: a table, a short number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]], rule: str = " --- ") -> str:
    """A table, a line a row; a bar in a cell does not end it. `rule` stands below each heading."""
    body = [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in (head, *rows)]
    return "\n".join([body[0], f"|{'|'.join([rule] * len(head))}|", *body[1:]])


def number(value: float | None) -> str:
    """Three significant figures; thousands are grouped, and what is none is a dash."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
