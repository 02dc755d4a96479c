"""Traces of requests with tokens in and out, in the formats that people have, told by their headers.

Azure LLM inference (`TIMESTAMP,ContextTokens,GeneratedTokens`, dates), Mooncake (JSONL: `timestamp` ms,
`input_length`, `output_length`), BurstGPT (`Timestamp` s, `Request tokens`, `Response tokens`), Azure Functions
2021 (`app,func,end_timestamp,duration`, s; no tokens), and any other CSV whose columns and unit are said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from moe.errors import InputError, nearest, shortened
from moe.loading import parse_json, read_text
from simulator.traffic.requests import Requests
from simulator.traffic.trace_file import MOST_BYTES, SECONDS, read_rows, units_in

DATE = "date"
COLUMNS = ("time", "in", "out", "unit")


@dataclass(frozen=True)
class Columns:
    """Where a trace has what.

    Attributes:
        time: of arrival. unit: of it, or `date`. tokens_in, tokens_out: None: the file has none.
        duration: taken off the time, which is of the end.
    """

    time: str
    unit: str
    tokens_in: str | None = None
    tokens_out: str | None = None
    duration: str | None = None


KNOWN = (
    Columns("TIMESTAMP", DATE, "ContextTokens", "GeneratedTokens"),
    Columns("Timestamp", "s", "Request tokens", "Response tokens"),
    Columns("end_timestamp", "s", duration="duration"),
    Columns("timestamp_ms", "ms", "input_tokens", "output_tokens"),
    Columns("timestamp", "ms", "input_length", "output_length"),
)


def read_requests(
    path: str | Path,
    said: Mapping[str, str] | None = None,
    tokens: tuple[float, float] | None = None,
) -> Requests:
    """A trace, sorted, its first request at 0.

    Args:
        path: CSV with a header, or JSONL. said: `time`, `in`, `out` (names of columns) and `unit`, where the file
            is none of the known formats. tokens: in and out of every request, where the file has no such columns.

    Raises:
        InputError: no file, no request, a column that is not there, no unit, a row without a number.
    """
    if Path(path).suffix.lower() in (".jsonl", ".ndjson"):
        names, rows = _json_lines(path)
    else:
        every = list(read_rows(path))
        names, rows = (every[0][1], every[1:]) if every else ([], [])
    if not rows:
        raise InputError(f"{path}: expected requests, one a line below a header, got none")
    columns = _columns(path, names, dict(said or {}))
    where = {column: names.index(column) for column in vars(columns).values() if column in names}
    read = _dates if columns.unit == DATE else _numbers
    at = read(path, rows, where[columns.time]) * SECONDS.get(columns.unit, 1.0)  # type: ignore[call-overload]
    if columns.duration is not None:
        at = at - _numbers(path, rows, where[columns.duration])
    found = []
    for k, column in enumerate((columns.tokens_in, columns.tokens_out)):
        if column is not None:
            found.append(_numbers(path, rows, where[column]).astype(int))
        elif tokens is None:
            raise InputError(f"{path}: it has no tokens: expected --tokens-in (and --tokens-out)")
        else:
            found.append(np.full(len(rows), round(tokens[k])))
    order = np.argsort(at, kind="stable")
    return Requests(at[order] - at.min(), found[0][order], found[1][order])


def _json_lines(path: str | Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names, and rows as of a CSV, of one object a line."""
    names: list[str] = []
    rows = []
    for line, text in enumerate(read_text(path, MOST_BYTES).splitlines(), 1):
        if not text.strip():
            continue
        try:
            data = parse_json(text)
        except ValueError as error:
            raise InputError(f"{path}, line {line}: not valid JSON: {error}") from None
        if not isinstance(data, dict):
            raise InputError(f"{path}, line {line}: expected an object, got {type(data).__name__}")
        names = names or list(data)
        missing = [name for name in names if name not in data]
        if missing:
            raise InputError(f"{path}, line {line}: expected {missing[0]}, as above")
        rows.append((line, [str(data[name]) for name in names]))
    return names, rows


def _columns(path: str | Path, names: list[str], said: dict[str, str]) -> Columns:
    """The columns that are said, else of a known format. Raises InputError."""
    for key in said:
        if key not in COLUMNS:
            raise InputError(f"{path}: columns: no {shortened(key)}{nearest(key, COLUMNS)}")
    known = next((each for each in KNOWN if {*vars(each).values()} - {None, each.unit} <= {*names}), None)
    if not said and known is not None:
        return known
    if "time" not in said:
        raise InputError(
            f"{path}: none of the known formats (Azure LLM, Mooncake, BurstGPT, Azure Functions): expected "
            f"--columns time=...,in=...,out=...,unit=s of {', '.join(map(shortened, names[:6]))}"
        )
    for key in ("time", "in", "out"):
        if key in said and said[key] not in names:
            raise InputError(f"{path}: no column {shortened(said[key])}{nearest(said[key], names)}")
    units = {said["unit"]} if "unit" in said else {str(unit) for unit in units_in(said["time"])}
    if len(units) != 1:
        raise InputError(f"{path}: column {shortened(said['time'])}: expected its unit: unit=s, ms, ... or {DATE}")
    (unit,) = units
    if unit not in (*SECONDS, DATE):
        raise InputError(f"{path}: no unit {shortened(unit)}{nearest(unit, [*SECONDS, DATE])}")
    return Columns(said["time"], unit, said.get("in"), said.get("out"))


def _numbers(path: str | Path, rows: list[tuple[int, list[str]]], at: int) -> np.ndarray:
    """A column of numbers. Raises InputError."""
    found = np.empty(len(rows))
    for k, (line, row) in enumerate(rows):
        try:
            found[k] = float(row[at])
        except (ValueError, IndexError):
            cell = row[at] if at < len(row) else ""
            raise InputError(f"{path}, line {line}: expected a number, got {shortened(cell)}") from None
        if not 0 <= found[k] < 1e15:
            raise InputError(f"{path}, line {line}: expected a number from 0 on, got {shortened(row[at])}")
    return found


def _dates(path: str | Path, rows: list[tuple[int, list[str]]], at: int) -> np.ndarray:
    """A column of dates with times, as seconds. Raises InputError."""
    found = np.empty(len(rows))
    for k, (line, row) in enumerate(rows):
        text = row[at] if at < len(row) else ""
        whole, _, fraction = text.partition(".")
        try:
            found[k] = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")
        except ValueError:
            raise InputError(f"{path}, line {line}: expected a date with a time, got {shortened(text)}") from None
    return found
