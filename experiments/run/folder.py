"""The folder of a run: results, provenance, and whether they are those of this experiment and this code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from experiments.run.cost_schema import CostExperiment
from experiments.run.schema import Experiment
from experiments.tools.code_key import result_key
from experiments.tools.provenance import FILE, provenance
from moe.errors import InputError
from moe.files import write_whole, writing
from moe.held import filled, held
from moe.loading import dump_yaml, parse_yaml
from simulator.traffic.scenario import Scenario

Runnable: TypeAlias = Experiment | CostExperiment | Scenario
COMPUTED_BY: dict[type[Runnable], str] = {
    Experiment: "experiments.run.main_job",
    CostExperiment: "experiments.cost.run",
    Scenario: "experiments.traffic.run",
}
"""The module that computes what a file asks for."""
CONFIG, RESULT = "config.yaml", "result.json"


@dataclass(frozen=True)
class RunFolder:
    """Where a run's files are. `result.json` is the last that comes there: a folder that has it is complete.

    Attributes:
        path: the folder.
        key: hash of the resolved experiment and of the code that computes it.
        place: where the files will be, if that is not `path`.
    """

    path: Path
    key: str
    place: Path | None = None

    @classmethod
    def possible(cls, experiment: Runnable, out: Path | None) -> list[RunFolder]:
        """The folder `out`; or results/runs/NAME, and where another experiment took that name, NAME-KEY."""
        key = run_key(experiment)
        if out is not None:
            return [cls(out, key)]
        runs = Path.cwd() / "results" / "runs"
        return [cls(runs / name, key) for name in (experiment.name, f"{experiment.name}-{key[:8]}")]

    @classmethod
    @contextmanager
    def held(cls, experiment: Runnable, out: Path | None) -> Iterator[RunFolder]:
        """The first possible folder that is free, for `with`: this process's alone.

        A sweep's folder is that of its experiment, whatever values the sweep takes.

        Raises InputError when `out` is in use, or holds the results of another experiment or other files.
        """
        folders = cls.possible(experiment, out)
        with ExitStack() as stack:
            for folder in folders:
                try:
                    stack.enter_context(folder._held_for(experiment))
                    break
                except InputError:
                    if folder is folders[-1] or _is_of(folder.path, experiment):
                        raise
            yield folder

    @contextmanager
    def _held_for(self, experiment: Runnable) -> Iterator[None]:
        with held(self.path, CONFIG):
            if (self.path / CONFIG).exists() and not _is_of(self.path, experiment):
                told = f"--out {self.path}: holds the results of another experiment; expected a new folder"
                raise InputError(told)
            yield

    @contextmanager
    def filled(self) -> Iterator[RunFolder]:
        """A folder to fill, whose files take their places here on success; before that, nothing changes here."""
        with filled(self.path, RESULT) as partial:
            yield RunFolder(partial, self.key, self.path)

    @property
    def shown(self) -> str:
        """The path as a person reads it: relative where that is shorter."""
        path = self.place or self.path
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)

    def finished_result(self) -> dict[str, Any] | None:
        """The result that is already there, if it is this experiment's and this code's."""
        try:
            result = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # ValueError: not JSON, or not text
            return None
        return result if isinstance(result, dict) and result.get("key") == self.key else None

    def finished_at(self) -> str:
        """When the result was written."""
        moment = datetime.fromtimestamp((self.path / RESULT).stat().st_mtime, UTC)
        return moment.strftime("%Y-%m-%d %H:%M UTC")

    def begin(self, experiment: Runnable) -> None:
        """Make the folder, and note the resolved experiment and what it runs on. Raises PlatformError."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / RESULT).unlink(missing_ok=True)
        self.write(CONFIG, dump(experiment))
        self.write_json(FILE, provenance(key=self.key, seed=experiment.seed))

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, which makes the folder complete."""
        self.write(RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")

    def write_json(self, name: str, data: Any) -> None:
        """Write one JSON file of the run."""
        self.write(name, json.dumps(data, indent=1) + "\n")

    def write(self, name: str, text: str) -> None:
        """Write one file of the run. Raises PlatformError."""
        write_whole(self.path / name, text)


def run_key(experiment: Runnable) -> str:
    """Hash of the resolved experiment, of the files that it names, and of the code that computes it."""
    (module,) = (module for kind, module in COMPUTED_BY.items() if isinstance(experiment, kind))
    return result_key(experiment, module)


def dump(experiment: Runnable) -> str:
    """The resolved experiment as YAML, as config.yaml has it."""
    return dump_yaml(experiment.model_dump(mode="json", by_alias=True))


def _is_of(path: Path, experiment: Runnable) -> bool:
    """Whether a folder has this experiment's files; two sweeps of one experiment are the same."""
    try:
        other = parse_yaml((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    mine = experiment.model_dump(mode="json", by_alias=True)
    if isinstance(other, dict) and other.get("sweep") and mine.get("sweep"):
        other["sweep"] = mine["sweep"]
    return bool(other == mine)
