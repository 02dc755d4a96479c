"""What made a folder of results: command, code, versions, machine."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moe.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("moe", "simulator", "optimizer", "experiments")
VERSIONS_OF = (
    "serverless-moe",
    "numpy",
    "numba",
    "scipy",
    "simpy",
    "pandas",
    "torch",
    "transformers",
    "tokenizers",
)
FILE = "provenance.json"


def provenance(**more: Any) -> dict[str, Any]:
    """What provenance.json holds; `more` stands before it."""
    return more | {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "command": sys.argv[1:],
        "versions": {name: _version(name) for name in VERSIONS_OF},
    }


def write_provenance(folder: Path, **more: Any) -> None:
    """Write provenance.json into a folder."""
    write_whole(folder / FILE, json.dumps(provenance(**more), indent=1) + "\n")


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

    if git("ls-files", "--error-unmatch", str(Path(__file__).relative_to(ROOT))) is None:
        return None  # installed, perhaps inside of another project's repository
    commit = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", *PACKAGES)
    return f"{commit}{' with changes' if changed else ''}" if commit else None
