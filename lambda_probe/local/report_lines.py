"""The lines that Lambda itself writes to a function's log (`lambda_probe.account.report` reads them)."""

from __future__ import annotations

import math
from datetime import UTC, datetime


def start(request_id: str) -> str:
    """Before a call's own lines."""
    return f"START RequestId: {request_id} Version: $LATEST\n"


def init_report(init_s: float, phase: str, status: str, error_type: str = "") -> str:
    """Of an INIT that failed."""
    line = f"INIT_REPORT Init Duration: {_ms(init_s)}\tPhase: {phase}\tStatus: {status}"
    return f"{line}\tError Type: {error_type}\n" if error_type else f"{line}\n"


def timed_out(request_id: str, duration_s: float) -> str:
    """Of a call that was stopped at its timeout."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{stamp} {request_id} Task timed out after {duration_s:.2f} seconds\n\n"


def end_and_report(
    request_id: str,
    duration_s: float,
    init_s: float | None,
    memory_mb: int,
    max_memory_mb: int,
    status: str = "",
    error_type: str = "",
    billed_ms: int | None = None,
) -> str:
    """After a call's own lines.

    `billed_ms`: None: as `billed` says.
    """
    if billed_ms is None:
        billed_ms = billed(duration_s, init_s)
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {_ms(duration_s)}",
        f"Billed Duration: {billed_ms} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {max_memory_mb} MB",
    ]
    if init_s is not None:
        fields.append(f"Init Duration: {_ms(init_s)}")
    if status:
        fields.append(f"Status: {status}")
    if error_type:
        fields.append(f"Error Type: {error_type}")
    return f"END RequestId: {request_id}\n" + "\t".join(fields) + "\t\n"


def billed(duration_s: float, init_s: float | None) -> int:
    """Duration and INIT as they are shown, together, rounded up to 1 ms (AWS since 2025-08-01)."""
    shown_ms = round(duration_s * 1000, 2) + round((init_s or 0.0) * 1000, 2)
    return math.ceil(round(shown_ms, 2))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
