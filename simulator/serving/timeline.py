"""What happened, for the eye: the record table as a Perfetto / Chrome trace, one track per instance."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moe.files import write_whole
from simulator.records import PHASES, Record

MICROSECONDS = 1e6


def chrome_trace(records: Iterable[Record]) -> dict[str, Any]:
    """The records as a Chrome trace (open it at ui.perfetto.dev or chrome://tracing).

    A process is an MoE layer with its gate, a track an instance; a slice is a call, with its phases inside.
    """
    events: list[dict[str, Any]] = []
    layers: dict[int, str] = {}
    tracks: dict[str, int] = {}
    for row in records:
        layers.setdefault(row.layer, f"layer {row.layer:02d}")
        track = tracks.setdefault(row.instance, len(tracks) + 1)
        names = {"expert": f"expert {row.expert}.{row.replica}", "blocks": f"lane {row.replica}"}
        what = names.get(row.role, "non-MoE")
        about = {
            "tokens": row.tokens,
            "memory_mb": row.memory_mb,
            "cold": row.cold,
            "billed_ms": round(row.billed_s * 1000, 3),
            "status": row.status,
            "bytes_in": row.bytes_in,
            "bytes_out": row.bytes_out,
        }
        events.append(
            _slice(f"{what} · {row.tokens:g} tokens", row.layer, track, row.requested_s, row.ended_s, about)
        )
        for phase in PHASES:
            if phase in row.phases:
                start, end = row.phases[phase]
                events.append(_slice(phase.replace("_", " "), row.layer, track, start, end, {}))
        events.append(_name("thread_name", row.layer, track, row.instance or "refused"))
    events += [_name("process_name", layer, 0, name) for layer, name in layers.items()]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def write_chrome_trace(records: Iterable[Record], path: str | Path) -> None:
    """Write the trace as JSON. Raises PlatformError."""
    write_whole(path, json.dumps(chrome_trace(records)))


def _slice(
    name: str, process: int, track: int, start_s: float, end_s: float, about: dict[str, Any]
) -> dict[str, Any]:
    begin, duration = start_s * MICROSECONDS, (end_s - start_s) * MICROSECONDS
    return {"ph": "X", "name": name, "pid": process, "tid": track, "ts": begin, "dur": duration, "args": about}


def _name(kind: str, process: int, track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": track, "args": {"name": name}}
