"""The REPORT line that Lambda writes for every invocation: what it billed, and for what.

Source: AWS Lambda developer guide, log format; fields are tab-separated `Name: value unit`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from moe.errors import InputError, shortened

_FIELD = re.compile(r"^(?P<name>[A-Za-z ]+): (?P<value>.+)$")


@dataclass(frozen=True)
class Report:
    """What one REPORT line says; times in milliseconds, memory in MB.

    Attributes:
        init_ms: of a cold start, else None. status, error_type: of a failed call, else None.
    """

    request_id: str
    duration_ms: float
    billed_ms: float
    memory_mb: int
    max_memory_mb: int
    init_ms: float | None = None
    status: str | None = None
    error_type: str | None = None

    @property
    def billed_gb_s(self) -> float:
        """Billed duration x memory."""
        return self.billed_ms / 1000 * self.memory_mb / 1024


def parse_report(log: str) -> Report:
    """The report in a call's log tail, its last one: a handler may print such a line itself.

    Fields that are not known are passed over.

    Raises InputError when there is no REPORT line, or one that is cut.
    """
    lines = (line for line in reversed(log.splitlines()) if line.startswith("REPORT "))
    line = next(lines, None)
    if line is None:
        raise InputError("the log has no REPORT line (a log tail holds the last 4 KB only)")
    fields = {}
    for part in line.removeprefix("REPORT ").split("\t"):
        match = _FIELD.match(part.strip())
        if match:
            fields[match["name"]] = match["value"]
    try:
        return Report(
            request_id=fields["RequestId"],
            duration_ms=_number(fields["Duration"], "ms"),
            billed_ms=_number(fields["Billed Duration"], "ms"),
            memory_mb=int(_number(fields["Memory Size"], "MB")),
            max_memory_mb=int(_number(fields["Max Memory Used"], "MB")),
            init_ms=_number(fields["Init Duration"], "ms") if "Init Duration" in fields else None,
            status=fields.get("Status"),
            error_type=fields.get("Error Type"),
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"REPORT line is cut or of an unknown form ({error}): {line!r}") from None


def _number(text: str, unit: str) -> float:
    value, _, given = text.partition(" ")
    if given != unit:
        raise ValueError(f"expected a number of {unit}, got {shortened(text)}")
    return float(value)
