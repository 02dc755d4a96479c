"""The lines of `report_lines` for a function whose log format is JSON: an event each.

Source: AWS Lambda developer guide, "Telemetry API event schema", and log format JSON (system log level INFO).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from lambda_probe.local.report_lines import billed


def start(request_id: str) -> str:
    """Before a call's own lines."""
    return _event("start", {"requestId": request_id, "version": "$LATEST"})


def init_report(init_s: float, phase: str, status: str, error_type: str = "") -> str:
    """Of an INIT that failed."""
    record = {"initializationType": "on-demand", "phase": phase, "status": status}
    return _event("initReport", record | _kind(error_type) | {"metrics": {"durationMs": _ms(init_s)}})


def timed_out(request_id: str, duration_s: float) -> str:
    """Of a call that was stopped at its timeout."""
    record = {"requestId": request_id, "status": "timeout", "metrics": {"durationMs": _ms(duration_s)}}
    return _event("runtimeDone", record)


def end_and_report(
    request_id: str,
    duration_s: float,
    init_s: float | None,
    memory_mb: int,
    max_memory_mb: int,
    status: str = "",
    error_type: str = "",
) -> str:
    """After a call's own lines."""
    metrics = {
        "durationMs": _ms(duration_s),
        "billedDurationMs": billed(duration_s, init_s),
        "memorySizeMB": memory_mb,
        "maxMemoryUsedMB": max_memory_mb,
        **({} if init_s is None else {"initDurationMs": _ms(init_s)}),
    }
    record = {"requestId": request_id, "metrics": metrics, "status": status or "success"}
    return _event("report", record | _kind(error_type))


def _kind(error_type: str) -> dict[str, str]:
    return {"errorType": error_type} if error_type else {}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def _event(kind: str, record: dict[str, Any]) -> str:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": stamp, "type": f"platform.{kind}", "record": record}, separators=(",", ":")) + "\n"
