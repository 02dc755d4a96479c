"""The folder of a sweep: a folder a point under points/, each whole or absent, and one sweep at a time in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.run.folder import RunFolder, Runnable
from experiments.sweep.points import Point
from experiments.sweep.worker import SCRATCH, Outcome
from moe.cache import new_folder
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

    @classmethod
    @contextmanager
    def held(cls, experiment: Runnable, out: Path | None) -> Iterator[SweepFolder]:
        """The folder of an experiment's sweep for `with`, rid of what a killed one left; as `RunFolder.held`."""
        with RunFolder.held(experiment, out) as run:
            folder = cls(run)
            with writing(run.path):
                folder.points.mkdir(exist_ok=True)
            try:
                folder._tidy()
                yield folder
            finally:
                folder._tidy()
                with suppress(OSError):  # some points are there
                    folder.points.rmdir()

    def store(self, point: Point, outcome: Outcome) -> None:
        """Put a point's files into its folder, in place of what an earlier try left there."""
        path = self.points / point.folder
        shutil.rmtree(path, ignore_errors=True)
        with new_folder(path, SCRATCH) as partial:
            partial.chmod(self.points.stat().st_mode)
            for name, content in outcome.files.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_bytes(content)
            if outcome.error is not None:
                failure = {"key": point.key, "error": outcome.error, "trace": outcome.trace}
                (partial / "error.json").write_text(json.dumps(failure, indent=1) + "\n", encoding="utf-8")

    def _tidy(self) -> None:
        for left in self.points.glob(f"{SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
