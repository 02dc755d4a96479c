"""What code a result's numbers come from, as a hash: results are computed anew when it changes, and only then.

The code of a result is the module that computes it and all modules of this project that it imports, directly or
not, wherever in the file. Modules that only show results are left out, and so are comments and docstrings.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from moe.plugins import PROJECT, module_file

ROOT = Path(__file__).resolve().parents[2]
SHOWS = frozenset({"commands", "report", "console", "style", "page", "picture", "claims", "provenance"})
"""Parts of the names of modules that show results or say what made them, and change no number."""
DATA = ("moe/presets", "simulator/profiles")
"""Packaged data that code reads by name."""


def result_key(asked: BaseModel, module: str, shown: bool = False) -> str:
    """Hash of what was asked for, of the files and functions of the user's own that it names, and of the code.

    Args:
        asked: an experiment, a scenario, a cell of a figure, ...: all that its results depend on.
        module: that computes them.
        shown: the key of what shows the results as well: judges, draws them.
    """
    data = asked.model_dump(mode="json", by_alias=True)
    digest = hashlib.sha256(json.dumps(data).encode())
    digest.update(code_hash(module, shown))
    for name in _strings(data):
        for file in (Path(name), module_file(name)):
            if file is not None and os.path.isfile(file):  # False of a text too long for a name
                digest.update(file.read_bytes())
    return digest.hexdigest()


def code_hash(module: str, shown: bool = False) -> bytes:
    """SHA-256 of the code that a module's results come from, and of the packaged data.

    Args:
        module: its dotted name, as `experiments.run.main_job`; of one that is not this project's, the data alone.
        shown: with the modules that only show results.
    """
    whole = hashlib.sha256()
    for name in sorted(modules_of(module, shown)):
        whole.update(name.encode() + _read(name).digest)
    for folder in DATA:
        for file in sorted((ROOT / folder).glob("*.yaml")):
            whole.update(file.name.encode() + file.read_bytes())
    return whole.digest()


def modules_of(module: str, shown: bool = False) -> set[str]:
    """The modules that a module's results come from: itself, and what it imports, through any number of steps.

    With `shown`, also those that only show results.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and _file(name) is not None:
            found.add(name)
            waiting += [each for each in _read(name).imports if shown or not shows(each)]
    return found


def shows(module: str) -> bool:
    """Whether a module only shows results: by a part of its name, or that part's last word (`front_picture`)."""
    parts = module.split(".")
    return parts[0] == "experiments" and any(SHOWS & {part, part.rpartition("_")[2]} for part in parts)


def _strings(data: Any) -> Iterator[str]:
    """Every string in a file's mapping, in its order."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _strings(value)


class _Source:
    """A module's code as a hash, and what it imports of this project."""

    def __init__(self, module: str, file: Path) -> None:
        tree = ast.parse(file.read_bytes())
        self.imports: set[str] = set()
        words: set[int] = set()  # lines of docstrings
        strings: set[int] = set()  # lines inside of other strings, where # begins no comment
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.imports |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                self.imports |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                if isinstance(node.value.value, str):
                    words |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            elif isinstance(node, ast.Constant | ast.JoinedStr):
                strings |= set(range(node.lineno + 1, (node.end_lineno or node.lineno) + 1))
        own = {name for name in self.imports if name.split(".")[0] in PROJECT}
        self.imports = {each for name in own for each in _with_packages(name)}
        lines = file.read_text(encoding="utf-8").splitlines()
        kept = (
            line
            for number, line in enumerate(lines, 1)
            if number not in words and (number in strings or (line.strip() and not line.lstrip().startswith("#")))
        )
        self.digest = hashlib.sha256("\n".join(kept).encode()).digest()


def _with_packages(name: str) -> list[str]:
    """A module and the packages that it is in, whose code runs as well."""
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts) + 1)]


def _read(module: str) -> _Source:
    """The code of a module that there is, as it stands."""
    file = _file(module)
    assert file is not None
    stands = file.stat()
    return _source(module, file, stands.st_mtime_ns, stands.st_size)


@functools.cache
def _source(module: str, file: Path, changed_ns: int, size: int) -> _Source:
    return _Source(module, file)


def _file(module: str) -> Path | None:
    """The file of a module or package of this project; None for anything else."""
    path = ROOT.joinpath(*module.split("."))
    if module.split(".")[0] not in PROJECT:
        return None
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
