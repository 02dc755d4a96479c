"""The cache folder, and the hashes that name what is in it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moe.files import writing

NOVEL = "botchan.txt"


def cache_dir() -> Path:
    """The folder of everything that can be made again: `$SMOE_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("SMOE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("serverless-moe"))


def cached() -> list[Path]:
    """What is in the cache folder that was made by this program, whole or not: files and folders."""
    traces, models = "*-" + 24 * "[0-9a-f]" + ".parquet", "*-" + 16 * "[0-9a-f]"
    names = (traces, f".{traces}.*.partial"), (models, f".{models}-????????"), (NOVEL, f".{NOVEL}.*.partial")
    folders = ("traces", "models", "texts")
    return [
        found
        for folder, patterns in zip(folders, names, strict=True)
        for pattern in patterns
        for found in sorted((cache_dir() / folder).glob(pattern))
    ]


def content_key(content: dict[str, Any]) -> str:
    """SHA-256 of a JSON-able mapping, 64 hex digits; the order of its keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def files_hash(files: list[Path]) -> str:
    """SHA-256 over names and contents of files, 64 hex digits; the order of the list does not matter."""
    whole = hashlib.sha256()
    for path in sorted(files, key=lambda file: file.name):
        with path.open("rb") as stream:
            whole.update(path.name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


@contextmanager
def new_folder(path: Path, prefix: str = "") -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` on success: the folder is whole or absent.

    Args:
        prefix: of its name; by default the name of `path`, hidden.

    Of two processes that make the same folder, the first one wins and the other's is dropped.
    Raises PlatformError for a full disk, or what else the system refuses.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=prefix or f".{path.name}-", dir=path.parent))
        try:
            yield partial
            try:
                partial.rename(path)
            except OSError:
                if not path.is_dir():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
