"""A campaign's folder: who works on it, what it measures, and every call as soon as it was made.

`campaign.yaml` (resolved), `provenance.json`, `rows.jsonl` (a line per call, appended), `measurements.parquet`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambda_probe.campaign.file import Campaign
from lambda_probe.campaign.measurements import FILE, write_measurements
from moe.cache import text_hash
from moe.errors import InputError, PlatformError
from moe.files import write_whole, writing
from moe.held import held
from moe.loading import dump_yaml, parse_yaml

CAMPAIGN, PROVENANCE, ROWS = "campaign.yaml", "provenance.json", "rows.jsonl"
CHECKSUM = "sha256"  # of a line: the first 16 digits of that of the rest
SYNC_S = 1.0  # a power cut loses at most the calls of so many seconds; a killed process loses none


@dataclass
class Line:
    """A line of `rows.jsonl`: a call (all its attempts), a burst, or the end of a step.

    Attributes:
        step: key. rows: of the measurement table. good: whether it is a sample that the step wanted.
        amount: of a look at how long work takes: how many times the first guess it was.
        end: of an ended step: empty where it has its samples, else why not. None: not an end.
    """

    step: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    good: bool = False
    amount: float | None = None
    end: str | None = None

    def text(self) -> str:
        """As it stands in the file, with a checksum; a column that is NaN is left out."""
        rows = [{name: value for name, value in row.items() if value == value} for row in self.rows]
        told = {"step": self.step, "rows": rows, "good": self.good, "amount": self.amount, "end": self.end}
        told = {name: value for name, value in told.items() if value not in (None, [], False)}
        return json.dumps(told | {CHECKSUM: _checksum(told)}) + "\n"


class CampaignFolder:
    """An opened folder; what was measured before is in `lines`. Made by `open_folder`.

    Attributes:
        lines: all, in order. provenance: what `provenance.json` holds.
    """

    def __init__(self, path: Path, campaign: Campaign, provenance: dict[str, Any], lines: list[Line]) -> None:
        self.path, self.provenance, self.lines = path, provenance, lines
        self._campaign, self._synced_s = campaign, time.monotonic()
        self._file = (path / ROWS).open("ab")

    def append(self, line: Line) -> None:
        """Keep a line: it survives this process at once, a power cut after a second. Raises PlatformError."""
        with _told(self.path / ROWS):
            self._file.write(line.text().encode())
            self._file.flush()
            if time.monotonic() - self._synced_s > SYNC_S:
                os.fsync(self._file.fileno())
                self._synced_s = time.monotonic()
        self.lines.append(line)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of the measurement table so far."""
        return [row for line in self.lines for row in line.rows]

    def note(self, **provenance: Any) -> None:
        """Add to the provenance. Raises PlatformError."""
        self.provenance.update(provenance)
        with _told(self.path / PROVENANCE):
            write_whole(self.path / PROVENANCE, json.dumps(self.provenance, indent=1) + "\n")

    def write_table(self, complete: bool) -> None:
        """Make `measurements.parquet` of all rows. Raises PlatformError."""
        about = {"campaign": self._campaign.name, "complete": complete, **self.provenance}
        with _told(self.path / FILE):
            write_measurements(self.path / FILE, self.rows, about)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


@contextmanager
def open_folder(path: Path, campaign: Campaign, identity: Mapping[str, Any]) -> Iterator[CampaignFolder]:
    """A campaign's folder for `with`, this process's alone; a new one, or one that the same campaign began.

    Args:
        identity: what must be the same when a campaign goes on: backend, region, profile.

    Raises InputError when another process works on it, or it is another campaign's; PlatformError for a full disk.
    """
    with held(path, CAMPAIGN):
        _check_campaign(path, campaign)
        provenance = read_provenance(path)
        for key, value in identity.items():
            if key in provenance and provenance[key] != value:
                raise InputError(f"{path}: {key}: it was begun with {provenance[key]!r}, and is now {value!r}")
        lines = _lines(path / ROWS)
        with _told(path):
            write_whole(path / CAMPAIGN, _dump(campaign))
        folder = CampaignFolder(path, campaign, {**provenance, **identity}, lines)
        try:
            yield folder
        finally:
            folder.close()


def read_provenance(path: Path) -> dict[str, Any]:
    """What is noted in a campaign's folder; nothing where there is none. Raises InputError."""
    try:
        found = json.loads((path / PROVENANCE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path / PROVENANCE}: cannot be read: {' '.join(str(error).split())}") from None
    return dict(found) if isinstance(found, dict) else {}


def _check_campaign(path: Path, campaign: Campaign) -> None:
    """Raises InputError for a folder of another campaign."""
    file = path / CAMPAIGN
    if not file.exists():
        return
    try:
        before, now = parse_yaml(file.read_text(encoding="utf-8")), parse_yaml(_dump(campaign))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(before, dict) or before.get("name") != now["name"]:
        name = before.get("name") if isinstance(before, dict) else None
        raise InputError(f"--out {path}: holds campaign '{name}', not '{now['name']}'; expected a new folder")
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        raise InputError(f"--out {path}: {changed[0]}: changed since the campaign began; expected a new folder")


def _lines(path: Path) -> list[Line]:
    """The calls that were kept. A last line that was not written to its end is dropped.

    Raises InputError for another line that is none, or whose checksum is not that of the rest of it.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    lines = []
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            told = json.loads(text)
            checksum, line = told.pop(CHECKSUM, None), Line(**told)
        except (ValueError, TypeError, AttributeError):
            raise InputError(f"{path}: line {number}: expected a call of a campaign, got {text[:60]!r}") from None
        if checksum not in (None, _checksum(told)):  # campaigns that began before lines had one go on
            raise InputError(f"{path}: line {number}: damaged: its {CHECKSUM} is another than was written")
        lines.append(line)
    return lines


def _checksum(told: dict[str, Any]) -> str:
    return text_hash(json.dumps(told))[:16]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What cannot be written, as one line that says what to do. Raises PlatformError."""
    try:
        with writing(path):
            yield
    except PlatformError as error:
        raise PlatformError(f"{error}; the same command resumes from what was measured") from error


def _dump(campaign: Campaign) -> str:
    return dump_yaml(campaign.model_dump(mode="json", by_alias=True))


def last_moment_s(lines: list[Line]) -> float:
    """When the last call had ended, s from the campaign's start; 0 before the first."""
    ends = (row.get("ended_s", math.nan) for line in lines for row in line.rows)
    return max((end for end in ends if end == end), default=0.0)
