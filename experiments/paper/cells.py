"""Computing cells: side by side, each kept in a file by the hash of what it is and of the code."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from experiments.paper.routing import Cell
from experiments.tools.code_key import result_key
from moe.files import write_whole

Rows: TypeAlias = list[dict[str, Any]]
Compute: TypeAlias = Callable[[Any], Rows]


@dataclass
class Store:
    """The folder of computed cells.

    Attributes:
        folder: where their files are.
        fresh: compute what is there already.
        workers: processes.
        process_s: processor time of the cells that were computed, s.
    """

    folder: Path
    fresh: bool = False
    workers: int = 1
    process_s: float = 0.0

    def rows(
        self, figure: str, compute: Compute, cells: Sequence[Cell], done: Callable[[int], None] | None = None
    ) -> list[Rows]:
        """The rows of each cell: read, else computed and kept.

        Args:
            figure: whose cells: its name is in the names of their files.
            compute: a module's function, of a cell.
            cells: what to compute.
            done: called with the number of cells that are there.

        A cell that fails does not stop the others; then the first error is raised.
        """
        paths = [self._path(figure, compute, cell) for cell in cells]
        found = {
            k: rows for k, path in enumerate(paths) if (rows := None if self.fresh else _read(path)) is not None
        }
        if done is not None:
            done(len(found))
        first: Exception | None = None
        for k, outcome, seconds in self._computed(
            compute, cells, [k for k in range(len(cells)) if k not in found]
        ):
            self.process_s += seconds
            if isinstance(outcome, Exception):
                first = first or outcome
                continue
            found[k] = outcome
            _write(paths[k], outcome)
            if done is not None:
                done(len(found))
        if first is not None:
            raise first
        return [found[k] for k in range(len(cells))]

    def _computed(self, compute: Compute, cells: Sequence[Cell], todo: list[int]) -> Any:
        """Place, rows or error, and processor time of each, as they come."""
        if self.workers < 2 or len(todo) < 2:
            return (_attempt(compute, k, cells[k]) for k in todo)
        from joblib import Parallel, delayed

        # Workers that have grown are replaced; their cells are not lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        pool = Parallel(n_jobs=min(self.workers, len(todo)), return_as="generator_unordered")
        return pool(delayed(_attempt)(compute, k, cells[k]) for k in todo)

    def _path(self, figure: str, compute: Compute, cell: Cell) -> Path:
        key = result_key(cell, compute.__module__)
        return self.folder / f"{figure}-{key[:24]}.json"


def _attempt(compute: Compute, place: int, cell: Cell) -> tuple[int, Rows | Exception, float]:
    began = time.process_time()
    outcome: Rows | Exception
    try:
        outcome = compute(cell)
    except Exception as error:  # whatever went wrong is the figure's, not the run's
        outcome = error
    return place, outcome, time.process_time() - began


def _read(path: Path) -> Rows | None:
    """The rows in a file; None where there is none, or a half-written one."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return rows if isinstance(rows, list) else None


def _write(path: Path, rows: Rows) -> None:
    write_whole(path, json.dumps(rows, default=_plain))


def _plain(value: Any) -> Any:
    """A numpy number as Python's."""
    return value.item()
