"""Arrival times out of a file of text: which column, which unit, which row is not one. Nothing is guessed."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from moe.errors import InputError, nearest, shortened
from moe.loading import read_text

Unit: TypeAlias = Literal["s", "ms", "us", "ns", "min", "h"]

SECONDS: dict[Unit, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
MOST_BYTES = 10**9
LONGEST_S = 1e9  # 30 years: a time beyond it is a date, or not in seconds
LONG_WAIT = 20  # mean gaps before the first arrival: times of another clock than the scenario's

_SPELLINGS: dict[Unit, str] = {
    "s": "s sec secs second seconds",
    "ms": "ms msec msecs milli millis millisecond milliseconds",
    "us": "us µs μs usec usecs micro micros microsecond microseconds",
    "ns": "ns nsec nsecs nano nanos nanosecond nanoseconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
}
_UNITS = {word: unit for unit, words in _SPELLINGS.items() for word in words.split()}
_ARRIVAL = {"arrival", "arrivals", "arrive", "arrived", "arrives"}
_TIME = {"time", "times", "timestamp", "timestamps", "ts", "t"}
_OTHER = {
    *("id", "ids", "uuid", "index", "idx", "row", "no", "nr", "number", "count"),
    *("end", "ended", "finish", "finished", "completion", "completed", "response", "service", "execution"),
    *("wait", "waiting", "duration", "latency", "inter", "interarrival", "iat", "gap", "gaps", "delta"),
}
"""Words of columns that are no times of arrival."""
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_BRACKETS = re.compile(r"[(\[]\s*([^)\]]*?)\s*[)\]]")


def read_trace(
    path: str | Path, column: str | None = None, unit: Unit | None = None, from_first: bool | None = None
) -> np.ndarray:
    """Arrival times in a file, s, sorted, shape (arrivals,).

    Args:
        path: one time a line, or a CSV with a header line that names the column of times.
        column: its name; None: the only column, or the only one whose name says that it is one of arrival times.
        unit: of the file; None: seconds, and a header that says another is refused.
        from_first: count from the first time; False: from 0; None: from 0, and a long wait before it is refused.

    Raises:
        InputError: no file, no column of times or several, a row of another length or without a time, something
            else than numbers, unsorted times, times that cannot be seconds from 0.
    """
    rows = read_rows(path)
    at_line, first = next(rows, (0, [""]))
    names = first if any(first) and all(map(_is_name, first)) else None
    at = _column(path, names, column, len(first))
    unit = _unit(path, names[at] if names else "", unit)
    times, lines = [], []
    for line, row in rows if names else itertools.chain([(at_line, first)] if at_line else [], rows):
        if len(row) != len(first):
            raise InputError(
                f"{path}, line {line}: expected {len(first)} cells, as above, got {len(row)} (a decimal comma?)"
            )
        if not _NUMBER.fullmatch(row[at]):
            what = "seconds" if unit == "s" else unit
            raise InputError(f"{path}, line {line}: expected a time in {what}, got {shortened(row[at])}")
        times.append(float(row[at]))
        lines.append(line)
    if not times:
        raise InputError(f"{path}: expected arrival times in seconds, one a line, got none")
    return _from_zero(path, np.array(times), lines, SECONDS[unit], from_first)


def read_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Every row with its line; blank lines may stand at the end only."""
    reader = csv.reader(io.StringIO(read_text(path, MOST_BYTES), newline=""), strict=True)
    blank = 0
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if cells in ([], [""]):
                blank = blank or reader.line_num
            elif blank:
                raise InputError(f"{path}, line {blank}: expected a time, got an empty line")
            else:
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: cannot be read: {error}") from None


def _is_name(cell: str) -> bool:
    """Whether a cell may be one of a header; an index has none."""
    number = cell.lower() in ("nan", "inf", "infinity") or cell[:1].isdigit() or cell[:1] in ("+", "-", ".")
    return not cell or not number


def _column(path: str | Path, names: list[str] | None, column: str | None, width: int) -> int:
    """Which column has the times. Raises InputError."""
    if names is None:
        if column is not None:
            raise InputError(f"{path}: column {shortened(column)}: expected a header line with it, got none")
        if width > 1:
            raise InputError(
                f"{path}, line 1: expected one time a line, or a header line that names the columns, "
                f"got {width} cells (a decimal comma?)"
            )
        return 0
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise InputError(f"{path}: expected a column of each name, got {shortened(twice[0])} twice")
    if column is not None:
        if column not in names:
            raise InputError(f"{path}: no column {shortened(column)}{nearest(column, filter(None, names))}")
        return names.index(column)
    words = [set(_words(name)) for name in names]
    for found in (
        [k for k, each in enumerate(words) if not each & _OTHER] if width == 1 else [],
        [k for k, each in enumerate(words) if each & _ARRIVAL and not each & _OTHER],
        [k for k, each in enumerate(words) if each & _TIME and not each & _OTHER],
        [k for k, each in enumerate(words) if each and each <= set(_UNITS)],
    ):
        if found:
            break
    if len(found) != 1:
        which = ", ".join(shortened(names[k]) for k in found or range(width))
        got = "several that may be" if found else "none that says so among"
        raise InputError(
            f"{path}: expected one column of arrival times, got {got} {which}; say which: column: NAME"
        )
    return found[0]


def _words(name: str) -> Iterator[str]:
    """The words of a header's cell: `arrivalTimeMs`, `time_ms`, `timems` and `time (ms)` are time and ms."""
    for word in re.findall("[a-zµμ]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()):
        glued = [each for each in _TIME | _ARRIVAL if len(each) > 2 and word[len(each) :] in _UNITS]
        glued = [each for each in glued if word.startswith(each)] if word not in _TIME | _ARRIVAL else []
        yield from (glued[0], word[len(glued[0]) :]) if glued else (word,)


def units_in(name: str) -> set[Unit]:
    """The units that a header's cell names: ms of `time (ms)` and `timestamp_ms`."""
    return {_UNITS[word] for word in _words(name) if word in _UNITS}


def _unit(path: str | Path, name: str, unit: Unit | None) -> Unit:
    """The unit of the times, held against what the header says. Raises InputError."""
    said = units_in(name)
    unknown = [text for text in _BRACKETS.findall(name) if text.lower() not in _UNITS]
    if said - {unit or "s"} or (unknown and unit is None):
        other = ", ".join(sorted(said)) or f"one of {', '.join(SECONDS)}"
        expected = "seconds" if unit in (None, "s") else unit
        raise InputError(f"{path}: expected {expected}, got the column {shortened(name)}; say unit: {other}")
    return unit or "s"


def _from_zero(
    path: str | Path, given: np.ndarray, lines: list[int], factor: float, from_first: bool | None
) -> np.ndarray:
    """The times in seconds from 0. Raises InputError."""
    back = np.flatnonzero(np.diff(given) < 0)
    if len(back):
        k = int(back[0])
        raise InputError(
            f"{path}, line {lines[k + 1]}: expected sorted times, got {given[k + 1]:g} after {given[k]:g}"
        )
    times = (given - given[0] if from_first else given) * factor
    bad = [float(each) for each in times[[-1, 0]] if not 0 <= each <= LONGEST_S]
    if bad:
        raise InputError(
            f"{path}: expected seconds from 0 on, got {bad[0]:.15g} (other units: say unit: ms; "
            "times of a clock: say from_first: true)"
        )
    gaps = np.diff(times)
    if from_first is None and len(gaps) and times[0] > max(LONG_WAIT * float(gaps.mean()), float(gaps.max())):
        raise InputError(
            f"{path}: expected times from 0 on, got a wait of {times[0]:g} s before the first, and "
            f"{gaps.mean():g} s between two; say from_first: true to count from the first, or false to wait"
        )
    return times
