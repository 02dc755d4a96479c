"""The folder of a sweep: a folder a point under points/, each whole or absent, and one sweep at a time in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.run.folder import RunFolder
from experiments.sweep.points import Point
from experiments.sweep.worker import Outcome
from moe.cache import new_folder
from moe.errors import InputError
from moe.files import writing


@dataclass(frozen=True)
class SweepFolder:
    """Where a sweep's files are.

    Attributes:
        run: the folder itself; its config.yaml has the sweep.
    """

    run: RunFolder

    @property
    def points(self) -> Path:
        """Where the points' folders are."""
        return self.run.path / "points"

    def of(self, point: Point) -> RunFolder:
        """The folder of a point, as that of a single run."""
        return RunFolder(self.points / point.folder, point.key)

    def result(self, point: Point) -> dict[str, Any] | None:
        """A point's result, if it is whole and this code's."""
        return self.of(point).finished_result()

    def error(self, point: Point) -> str | None:
        """Why a point failed when it was last tried with this code; None if it did not."""
        try:
            found = json.loads((self.points / point.folder / "error.json").read_text(encoding="utf-8"))
            return found["error"] if found["key"] == point.key else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one sweep, rid of what a killed one left. Raises InputError if another holds it."""
        from filelock import FileLock, Timeout

        with writing(self.run.path):
            self.points.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.run.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{self.run.shown}: another sweep is being computed into this folder") from None
        try:
            self._tidy()
            yield
        finally:
            self._tidy()
            lock.release()

    def store(self, point: Point, outcome: Outcome) -> None:
        """Put a point's files into its folder, in place of what an earlier try left there."""
        path = self.points / point.folder
        shutil.rmtree(path, ignore_errors=True)
        with new_folder(path) as partial:
            partial.chmod(self.points.stat().st_mode)
            for name, content in outcome.files.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_bytes(content)
            if outcome.error is not None:
                failure = {"key": point.key, "error": outcome.error, "trace": outcome.trace}
                (partial / "error.json").write_text(json.dumps(failure, indent=1) + "\n", encoding="utf-8")

    def _tidy(self) -> None:
        for left in self.points.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)
