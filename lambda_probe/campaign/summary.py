"""A measurement table in short: what each probe measured, how often, median and 99th percentile, failures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNITS = ((2**30, "GB"), (2**20, "MB"), (2**10, "KB"))


@dataclass
class Summary:
    """One line: what was measured at one memory size.

    Attributes:
        what: such as `16 tokens`. unit: of the values. values: of the calls that did not fail; a work that is
            repeated in a call has one for each time. failures: calls.
    """

    probe: str
    what: str
    memory_mb: int
    unit: str
    values: list[float] = field(default_factory=list)
    failures: int = 0

    def as_json(self) -> dict[str, Any]:
        """As one object; median and p99 are null without values."""
        middle, high = (float(x) for x in np.quantile(self.values, [0.5, 0.99])) if self.values else (None, None)
        return {
            "probe": self.probe,
            "what": self.what,
            "memory_mb": self.memory_mb,
            "unit": self.unit,
            "samples": len(self.values),
            "median": middle,
            "p99": high,
            "failures": self.failures,
        }


def summaries(rows: Iterable[dict[str, Any]]) -> list[Summary]:
    """What a measurement table's rows say, in the order of the campaign."""
    found: dict[tuple[str, str, int], Summary] = {}
    limits: dict[tuple[str, str, int], dict[int, float]] = {}  # the largest that fitted, of each run
    for row in rows:
        if row["probe"] == "sizing":
            continue
        work = json.loads(row["work"])
        for what, unit, values in _values(row, work):
            key = (row["probe"], what, row["memory_mb"])
            line = found.setdefault(key, Summary(*key, unit))
            failed = row["status"] != "ok" and row["probe"] != "payload-limit"
            line.failures += failed
            if row["probe"] == "payload-limit":
                best = limits.setdefault(key, {})
                best[row["run"]] = max([best.get(row["run"], 0.0), *values])
            elif not failed:
                line.values += [value for value in values if value == value]
    for key, best in limits.items():
        found[key].values = list(best.values())
    probes = list(dict.fromkeys(line.probe for line in found.values()))
    whats = list(dict.fromkeys(line.what for line in found.values()))
    return sorted(
        found.values(), key=lambda line: (probes.index(line.probe), whats.index(line.what), line.memory_mb)
    )


def _values(row: dict[str, Any], work: dict[str, Any]) -> list[tuple[str, str, list[float]]]:
    """What a row measured: (what, unit, values)."""
    seconds, wall_s = row["seconds"], row["client_s"]
    match row["probe"]:
        case "cold":
            init_s = row.get("init_s", math.nan)
            about = row["package"].split("-", 2)[-1] + _padding(row)
            return [(f"INIT {about}", "s", [init_s]), (f"first call {about}", "s", [wall_s])]
        case "warm":
            return [("call", "s", [wall_s])]
        case "multiply":
            rates = [work["flop"] / each / 1e9 for each in seconds]
            return [(f"{work['threads']} thread" + "s" * (work["threads"] > 1), "GFLOP/s", rates)]
        case "expert":
            per_token = [each / work["tokens"] for each in seconds]
            return [(f"batch of {work['tokens']}", "s/token", per_token)]
        case "get" | "put":
            over = f" over {work['connections']}" if work["connections"] > 1 else ""
            return [(size_text(work["size_bytes"]) + over, "s", seconds)]
        case "send":
            back = work["answer_bytes"] > work["size_bytes"]
            size = size_text(max(work["answer_bytes"], work["size_bytes"]))
            return [(f"{size} {'back' if back else 'there'}", "s", seconds)]
        case "payload-limit":
            way, size = ("answer", "answer_bytes") if work["answer_bytes"] else ("request", "size_bytes")
            return [(f"largest {way}", "bytes", [float(work[size])] if row["status"] == "ok" else [])]
        case "keep-alive":
            idle_s = row.get("idle_s", math.nan)
            return [] if math.isnan(idle_s) else [(f"cold after {idle_s:g} s", "share", [float(row["cold"])])]
        case _:
            return [(f"{row['at_once']} at once", "s", [wall_s])]


def size_text(size_bytes: int) -> str:
    """Such as 16 MB."""
    for unit, name in UNITS:
        if size_bytes >= unit:
            return f"{size_bytes / unit:.3g} {name}"
    return f"{size_bytes} B"


def _padding(row: dict[str, Any]) -> str:
    return f" +{size_text(row['padding_bytes'])}" if row["padding_bytes"] else ""
