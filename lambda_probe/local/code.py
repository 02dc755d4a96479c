"""A function's code: the uploaded zip, checked and unpacked into a folder of its own."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lambda_probe.local.errors import invalid
from lambda_probe.local.settings import UNZIPPED_BYTES, ZIPPED_BYTES

# what zipfile raises for one that is damaged, encrypted, or of a kind that it does not know
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError),
    *(OSError, ValueError, LookupError, ArithmeticError),
)


@dataclass(frozen=True)
class Code:
    """Unpacked code: its folder, the zip's size and base64 SHA-256."""

    folder: Path
    size: int
    sha256: str

    def remove(self) -> None:
        """Remove the folder: it is the code of no function."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def unpack(zipped: bytes, under: Path) -> Code:
    """Unpack a zip into a new folder, files with their modes; refuses links, too much, and what would be outside.

    Raises ApiError (InvalidParameterValueException).
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(zipped))
    except _UNREADABLE:
        raise invalid("Could not unzip uploaded file. Please check your file, then try to upload again.") from None
    with archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > UNZIPPED_BYTES:
            raise invalid(f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes")
        for entry in entries:
            _check(entry)
        folder = Path(tempfile.mkdtemp(prefix="code-", dir=under)) / "task"
        folder.mkdir()
        try:
            archive.extractall(folder)
            for entry in entries:
                _set_mode(folder / entry.filename, entry)
        except _UNREADABLE as error:
            shutil.rmtree(folder.parent, ignore_errors=True)
            raise invalid(f"Could not unzip uploaded file: {str(error)[:200]}") from None
    return Code(folder, len(zipped), base64.b64encode(hashlib.sha256(zipped).digest()).decode())


def check_size(zipped: bytes) -> bytes:
    """The zip itself, when it may be uploaded directly (a larger one goes through S3)."""
    if len(zipped) > ZIPPED_BYTES:
        raise invalid(f"Zipped size of a direct upload must be smaller than {ZIPPED_BYTES} bytes; use S3Bucket")
    return zipped


def _set_mode(path: Path, entry: zipfile.ZipInfo) -> None:
    """As the zip says, which Lambda keeps; a folder stays one that can be looked into, and removed."""
    mode = stat.S_IMODE(entry.external_attr >> 16) & 0o777
    if mode:
        path.chmod(mode | 0o700 if entry.is_dir() else mode)


def _check(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
        raise invalid(f"The zip has an entry outside the function's folder: {entry.filename!r}")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise invalid(f"The zip has a symbolic link: {entry.filename!r}")
