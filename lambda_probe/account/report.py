"""The REPORT line that Lambda writes for every invocation: what it billed, and for what.

Source: AWS Lambda developer guide, log format; fields are tab-separated `Name: value unit`. With the log format
JSON it is an event `platform.report` (guide, "Telemetry API event schema"). What it bills has a restore in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from moe.errors import InputError, shortened

REPORT_EVENT = "platform.report"
_PLATFORM_TEXT = ("REPORT ", "INIT_REPORT ", "RESTORE_REPORT ")
_PLATFORM_EVENTS = (REPORT_EVENT, "platform.initReport", "platform.restoreReport", "platform.runtimeDone")
_FIELD = re.compile(r"^(?P<name>[A-Za-z ]+): (?P<value>.+)$")


@dataclass(frozen=True)
class Report:
    """What one REPORT line says; times in milliseconds, memory in MB.

    Attributes:
        init_ms: of a cold start, else None. status, error_type: of a failed call, else None.
        restore_ms: of a start from a snapshot (SnapStart), else None.
    """

    request_id: str
    duration_ms: float
    billed_ms: float
    memory_mb: int
    max_memory_mb: int
    init_ms: float | None = None
    status: str | None = None
    error_type: str | None = None
    restore_ms: float | None = None

    @property
    def cold(self) -> bool:
        """Whether it tells of a start."""
        return self.init_ms is not None or self.restore_ms is not None

    @property
    def billed_gb_s(self) -> float:
        """Billed duration x memory."""
        return self.billed_ms / 1000 * self.memory_mb / 1024


def is_report(line: str) -> bool:
    """Whether a line of a log is the report of a call, as text or as JSON."""
    return line.startswith("REPORT ") or _event(line).get("type") == REPORT_EVENT


def is_of_the_platform(line: str) -> bool:
    """Whether a line of a log is one that the platform writes of how a call, or its start, ended."""
    told = line.startswith(_PLATFORM_TEXT) or " Task timed out after " in line
    return told or _event(line).get("type") in _PLATFORM_EVENTS


def parse_report(log: str) -> Report:
    """The report in a call's log tail, its last one: a handler may print such a line itself.

    Fields that are not known are passed over.

    Raises InputError when there is no REPORT line, or one that is cut.
    """
    line = next((line for line in reversed(log.splitlines()) if is_report(line)), None)
    if line is None:
        raise InputError("the log has no REPORT line (a log tail holds the last 4 KB only)")
    try:
        return _of_text(line) if line.startswith("REPORT ") else _of_event(_event(line)["record"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"REPORT line is cut or of an unknown form ({error}): {line!r}") from None


def _of_text(line: str) -> Report:
    matches = (_FIELD.match(part.strip()) for part in line.removeprefix("REPORT ").split("\t"))
    fields = {match["name"]: match["value"] for match in matches if match}
    return Report(
        request_id=fields["RequestId"],
        duration_ms=_number(fields["Duration"], "ms"),
        billed_ms=_number(fields["Billed Duration"], "ms"),
        memory_mb=int(_number(fields["Memory Size"], "MB")),
        max_memory_mb=int(_number(fields["Max Memory Used"], "MB")),
        init_ms=_number(fields["Init Duration"], "ms") if "Init Duration" in fields else None,
        status=fields.get("Status"),
        error_type=fields.get("Error Type"),
        restore_ms=_number(fields["Restore Duration"], "ms") if "Restore Duration" in fields else None,
    )


def _of_event(record: dict[str, Any]) -> Report:
    numbers, status = record["metrics"], record.get("status")
    return Report(
        request_id=record["requestId"],
        duration_ms=float(numbers["durationMs"]),
        billed_ms=float(numbers["billedDurationMs"]),
        memory_mb=int(numbers["memorySizeMB"]),
        max_memory_mb=int(numbers["maxMemoryUsedMB"]),
        init_ms=float(numbers["initDurationMs"]) if "initDurationMs" in numbers else None,
        status=None if status == "success" else status,
        error_type=record.get("errorType"),
        restore_ms=float(numbers["restoreDurationMs"]) if "restoreDurationMs" in numbers else None,
    )


def _event(line: str) -> dict[str, Any]:
    """An event that the platform wrote as JSON; empty for any other line."""
    if not line.startswith("{") or '"platform.' not in line:
        return {}
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: str, unit: str) -> float:
    value, _, given = text.partition(" ")
    if given != unit:
        raise ValueError(f"expected a number of {unit}, got {shortened(text)}")
    return float(value)
