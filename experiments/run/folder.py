"""The folder of a run: results, provenance, and whether they are those of this experiment and this code."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from experiments.run.schema import Experiment
from experiments.tools.code_key import result_key
from experiments.tools.provenance import FILE, provenance
from moe.errors import InputError
from moe.files import write_whole, writing
from moe.loading import dump_yaml, parse_yaml
from simulator.traffic.scenario import Scenario

Runnable: TypeAlias = Experiment | Scenario
COMPUTED_BY: dict[type[Runnable], str] = {
    Experiment: "experiments.run.main_job",
    Scenario: "experiments.traffic.run",
}
"""The module that computes what a file asks for."""


@dataclass(frozen=True)
class RunFolder:
    """Where a run's files are. `result.json` is written last: a folder that has it is complete.

    Attributes:
        path: the folder.
        key: hash of the resolved experiment and of the code that computes it.
    """

    path: Path
    key: str

    @classmethod
    def for_experiment(cls, experiment: Runnable, out: Path | None) -> RunFolder:
        """The folder `out`, or results/runs/NAME; where another experiment took that name, NAME-KEY.

        A sweep's folder is that of its experiment, whatever values the sweep takes.

        Raises InputError when `out` holds the results of another experiment.
        """
        key = run_key(experiment)
        if out is not None:
            if _holds_another(out, experiment):
                raise InputError(f"--out {out}: holds the results of another experiment; expected a new folder")
            return cls(out, key)
        path = Path.cwd() / "results" / "runs" / experiment.name
        if _holds_another(path, experiment):
            path = path.with_name(f"{experiment.name}-{key[:8]}")
        return cls(path, key)

    @property
    def shown(self) -> str:
        """The path as a person reads it: relative where that is shorter."""
        return os.path.relpath(self.path) if self.path.is_relative_to(Path.cwd()) else str(self.path)

    def finished_result(self) -> dict[str, Any] | None:
        """The result that is already there, if it is this experiment's and this code's."""
        try:
            result = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: half-written, or not text
            return None
        return result if isinstance(result, dict) and result.get("key") == self.key else None

    def finished_at(self) -> str:
        """When the result was written."""
        moment = datetime.fromtimestamp((self.path / "result.json").stat().st_mtime, UTC)
        return moment.strftime("%Y-%m-%d %H:%M UTC")

    def begin(self, experiment: Runnable) -> None:
        """Make the folder, and note the resolved experiment and what it runs on. Raises PlatformError."""
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "result.json").unlink(missing_ok=True)
        self.write("config.yaml", dump(experiment))
        self.write_json(FILE, provenance(key=self.key, seed=experiment.seed))

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, which makes the folder complete."""
        self.write("result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")

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


def _holds_another(path: Path, experiment: Runnable) -> bool:
    """Whether a folder has another experiment's files; two sweeps of one experiment are the same."""
    try:
        other = parse_yaml((path / "config.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    mine = experiment.model_dump(mode="json", by_alias=True)
    if isinstance(other, dict) and other.get("sweep") and mine.get("sweep"):
        other["sweep"] = mine["sweep"]
    return other != mine
