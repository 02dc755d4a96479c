"""Cells of a study: computed side by side, each kept in a file by the hash of what it is and of the code.
The file has that hash and a checksum: one that is damaged is computed anew.

A study that was killed goes on from the cells that it has; what they are does not depend on who computed them.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel

from experiments.tools.code_key import result_key
from experiments.tools.workers import workers
from moe.cache import keep, kept
from moe.errors import PlatformError

DIED = "a worker was killed or crashed (out of memory?); the same command resumes from the finished cells"
Compute: TypeAlias = Callable[[Any], Any]
Update: TypeAlias = Callable[[int, int, float], None]


def unseen(done: int, total: int, rate: float) -> None:
    """Progress that nobody looks at."""


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

    def values(
        self,
        study: str,
        compute: Compute,
        cells: Sequence[BaseModel],
        update: Update = unseen,
    ) -> list[Any]:
        """What was computed of each cell: read, else computed and kept.

        Args:
            study: whose cells: its name is in the names of their files.
            compute: a module's function, of a cell; what it returns can be JSON.
            cells: what to compute.
            update: told (cells that are there, cells, computed per second).

        A cell that fails does not stop the others; then the error of the first one is raised.
        """
        keys = [result_key(cell, compute.__module__) for cell in cells]
        paths = [self.folder / f"{study}-{key[:24]}.json" for key in keys]
        there = [None if self.fresh else kept(path, key) for path, key in zip(paths, keys, strict=True)]
        found = {k: value for k, value in enumerate(there) if value is not None}
        todo = [k for k in range(len(cells)) if k not in found]
        began, before = time.perf_counter(), len(found)
        update(before, len(cells), 0.0)
        errors: dict[int, Exception] = {}
        with closing(self._computed(compute, cells, todo)) as computed:
            for k, outcome, seconds in computed:
                self.process_s += seconds
                if isinstance(outcome, Exception):
                    errors[k] = outcome
                    continue
                found[k] = outcome
                keep(paths[k], keys[k], outcome)
                update(len(found), len(cells), (len(found) - before) / max(time.perf_counter() - began, 1e-9))
        if errors:
            raise errors[min(errors)]
        return [found[k] for k in range(len(cells))]

    def _computed(
        self, compute: Compute, cells: Sequence[BaseModel], todo: list[int]
    ) -> Generator[tuple[int, Any, float]]:
        """Place, value or error, and processor time of each, as they come."""
        if self.workers < 2 or len(todo) < 2:
            yield from (_attempt(compute, k, cells[k]) for k in todo)
            return
        # Workers that have grown are replaced; their cells are not lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        with workers(min(self.workers, len(todo))) as submit:
            waiting, running = iter(todo), set[Future[Any]]()
            try:
                while True:  # a pool with calls that wait cannot be ended in silence: as many as it has workers
                    for k in itertools.islice(waiting, self.workers - len(running)):
                        running.add(submit(_attempt, compute, k, cells[k]))
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            except BrokenExecutor:
                raise PlatformError(DIED) from None


def _attempt(compute: Compute, place: int, cell: BaseModel) -> tuple[int, Any, float]:
    began = time.process_time()
    try:
        outcome = compute(cell)
    except Exception as error:  # whatever went wrong is the cell's, not the study's
        outcome = error
    return place, outcome, time.process_time() - began
