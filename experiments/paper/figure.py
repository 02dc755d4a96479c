"""The interface of a figure: cells, their rows, the plain table, verdicts, the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from experiments.paper.claims import Claim
from experiments.paper.routing import Cell
from experiments.paper.settings import FigureSettings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Rows: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True)
class PaperFigure:
    """One figure or table of the paper's evaluation.

    Attributes:
        number: as `--only` names it.
        settings: what its YAML may say.
        cells: the pieces of it.
        compute: the rows of one piece; a function of a module, so that other processes can run it.
        table: the plain data, of all rows; saved as CSV.
        claims: what the table says of the paper's statements.
        draw: the picture, from the table; None for a table alone.
        alone: its cells measure time: they are run one after the other, each time anew.
    """

    number: str
    settings: type[FigureSettings]
    cells: Callable[[Any], Sequence[Cell]]
    compute: Callable[[Any], Rows]
    table: Callable[[Rows], pd.DataFrame]
    claims: Callable[[pd.DataFrame], list[Claim]]
    draw: Callable[[pd.DataFrame], Figure] | None = None
    alone: bool = False

    @property
    def name(self) -> str:
        """Of its files: `fig02`, `overheads`."""
        return f"fig{int(self.number):02d}" if self.number.isdigit() else self.number

    @property
    def module(self) -> str:
        """Where its settings, table and picture are written; the rows may come from one that it imports."""
        return self.settings.__module__
