"""The cache folder, and the hashes that name what is in it."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moe.files import write_whole, writing

_LOG = logging.getLogger(__name__)
_SEAL = "smoe-made-of.json"

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
    models, digits = "*-" + 16 * "[0-9a-f]", 24 * "[0-9a-f]"
    files = (("traces", f"*-{digits}.parquet"), ("layers", f"{digits}.json"), ("texts", NOVEL))
    places = [(folder, pattern) for folder, name in files for pattern in (name, f".{name}.*.partial")]
    places += [("models", models), ("models", f".{models}-????????")]
    return [found for folder, pattern in places for found in sorted((cache_dir() / folder).glob(pattern))]


def content_key(content: dict[str, Any]) -> str:
    """SHA-256 of a JSON-able mapping, 64 hex digits; the order of its keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text_hash(text)


def text_hash(text: str) -> str:
    """SHA-256 of a text, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def keep(path: Path, key: str, value: Any) -> None:
    """Keep a value that can be JSON in a file, with the key that it was made for and a checksum."""
    write_whole(path, _kept_text(key, value))


def kept(path: Path, key: str) -> Any:
    """The value that was kept for that key; None where there is none. A damaged file, or another's, is told."""
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)["value"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        text, value = "", None
    if text != _kept_text(key, value):
        _LOG.warning("smoe: %s: damaged, or made for something else; made anew", path)
        return None
    return value


def _kept_text(key: str, value: Any) -> str:
    text = json.dumps(value, default=lambda number: number.item())  # numpy's as Python's
    return f'{{"key": "{key}", "sha256": "{text_hash(text)}", "value": {text}}}'


def files_hash(files: list[Path]) -> str:
    """SHA-256 over names and contents of files, 64 hex digits; the order of the list does not matter."""
    whole = hashlib.sha256()
    for path in sorted(files, key=lambda file: file.name):
        with path.open("rb") as stream:
            whole.update(path.name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return whole.hexdigest()


def seal(folder: Path, made_of: str) -> None:
    """Note in a folder what it was made of, and the hash of the files in it."""
    write_whole(folder / _SEAL, json.dumps({"made_of": made_of, "sha256": _content(folder)}) + "\n")


def is_sealed(folder: Path, made_of: str) -> bool:
    """Whether the folder was made of that, and its files are as they were then."""
    try:
        held = json.loads((folder / _SEAL).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(held == {"made_of": made_of, "sha256": _content(folder)})


def _content(folder: Path) -> str:
    return files_hash([path for path in folder.iterdir() if path.is_file() and path.name != _SEAL])


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
