"""The folder of a run: results, provenance, and whether they are those of this experiment and this code."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from experiments.schema import Experiment
from moe.errors import InputError
from simulator.scenario import Scenario

Runnable: TypeAlias = Experiment | Scenario

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("moe", "simulator", "optimizer", "experiments")
VERSIONS_OF = ("serverless-moe", "numpy", "scipy", "simpy", "pandas", "torch", "transformers", "tokenizers")


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
        """Make the folder, and note the resolved experiment and what it runs on."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "result.json").unlink(missing_ok=True)
        self.write_text("config.yaml", dump(experiment))
        self.write_json("provenance.json", {"key": self.key} | provenance(experiment.seed))

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result, which makes the folder complete."""
        self.write_text("result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")

    def write_json(self, name: str, data: Any) -> None:
        """Write one JSON file of the run."""
        self.write_text(name, json.dumps(data, indent=1) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write one file of the run: it is whole, or as it was."""
        partial = self.path / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.path / name)


def provenance(seed: int) -> dict[str, Any]:
    """Where a folder's numbers come from: seed, moment, commit, machine, command, versions."""
    return {
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "command": sys.argv[1:],
        "versions": {name: _version(name) for name in VERSIONS_OF},
    }


def write_provenance(folder: Path, seed: int, asked: dict[str, Any]) -> None:
    """provenance.json of a study, with what was asked."""
    text = json.dumps(provenance(seed) | {"asked": asked}, indent=1) + "\n"
    (folder / "provenance.json").write_text(text, encoding="utf-8")


def run_key(experiment: Runnable) -> str:
    """Hash of the resolved experiment, of the files that it names, and of the packages' code and data."""
    data = experiment.model_dump(mode="json", by_alias=True)
    digest = hashlib.sha256(json.dumps(data).encode())
    digest.update(_code_hash())
    for name in _strings(data):
        if Path(name).is_file():
            digest.update(Path(name).read_bytes())
    return digest.hexdigest()


@functools.cache
def _code_hash() -> bytes:
    digest = hashlib.sha256()
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*")):
            if file.suffix in (".py", ".yaml") and "configs" not in file.parts:
                digest.update(file.read_bytes())
    return digest.digest()


def _strings(data: Any) -> Iterator[str]:
    """Every string in a file's mapping, in its order."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _strings(value)


def dump(experiment: Runnable) -> str:
    """The resolved experiment as YAML, as config.yaml has it."""
    return yaml.safe_dump(experiment.model_dump(mode="json", by_alias=True), sort_keys=False)


def _holds_another(path: Path, experiment: Runnable) -> bool:
    """Whether a folder has another experiment's files; two sweeps of one experiment are the same."""
    try:
        other = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, yaml.YAMLError):
        return True
    mine = experiment.model_dump(mode="json", by_alias=True)
    if isinstance(other, dict) and other.get("sweep") and mine.get("sweep"):
        other["sweep"] = mine["sweep"]
    return other != mine


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # the code alone, as on a cluster's node
        return None


@functools.cache
def git_commit() -> str | None:
    """The commit of this code, and whether it was changed; None outside of a repository."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", *PACKAGES)
    return f"{commit}{' with changes' if changed else ''}" if commit else None
