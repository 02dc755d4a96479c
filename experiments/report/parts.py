"""Blocks and sections that pages of several kinds of run share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from experiments.report.latency_path import OTHER
from experiments.report.page import Column, DataTable, Picture, Plot, Section, Value, plain
from experiments.report.reading import Run
from simulator.records import PHASES, Bill, Record

MOST_CALLS = 20_000  # of all batches in a timeline
TIMELINE_PHASES = PHASES
BILL_PARTS = {
    "experts' GB-s": lambda bill: bill.compute_usd,
    "experts' requests": lambda bill: bill.request_usd,
    "requests that carry tokens": lambda bill: bill.gate_exchange_usd,
    "non-MoE GB-s, working": lambda bill: bill.non_moe_compute_usd - bill.waiting_usd,
    "non-MoE GB-s, waiting": lambda bill: bill.waiting_usd,
    "non-MoE requests": lambda bill: bill.non_moe_request_usd,
    "/tmp": lambda bill: bill.tmp_usd,
    "kept instances": lambda bill: bill.standby_usd,
}


def flat(data: Any, prefix: str = "") -> dict[str, Value]:
    """A file's mapping as `a.b.c` -> value; lists of values stay one value."""
    if isinstance(data, dict) and (data or not prefix):
        return {
            key: value for name, inner in data.items() for key, value in flat(inner, f"{prefix}{name}.").items()
        }
    if isinstance(data, list) and any(isinstance(item, dict) for item in data):
        return {key: value for n, inner in enumerate(data) for key, value in flat(inner, f"{prefix}{n}.").items()}
    if isinstance(data, list):
        data = ", ".join(map(str, data))
    return {prefix.rstrip("."): plain(data) if data != {} else None}


def bill_bars(bills: dict[str, Bill], scale: float, unit: str, of_experts: bool = True) -> Plot:
    """What is paid for: a bar a bill. `scale` takes USD of a bill to the unit."""
    title, parts = "The bill by its parts", []
    for place, (name, value) in enumerate(BILL_PARTS.items()):
        values = [max(0.0, value(bill) * scale) for bill in bills.values()]
        if any(values):
            said = name if of_experts else name.replace("experts'", "functions'")
            parts.append({"name": said, "colour": f"c{place}", "values": values})
    about = (
        "The experts' GB-s are the billed cost, the paper's bill; with their requests and those that carry tokens "
        "it is the full bill; all is the total."
        if of_experts
        else "The functions' GB-s are the billed cost; with their requests it is the full bill; all is the total."
    )
    return Plot("bars", title, {"unit": unit, "rows": list(bills), "parts": parts}, about)


def phase_bars(title: str, seconds: dict[str, dict[str, float]], about: str) -> Plot:
    """Seconds by phase: a bar a row."""
    parts = [
        {
            "name": "invocations and other waiting" if phase == OTHER else phase.replace("_", " "),
            "colour": f"phase-{phase}",
            "values": [row[phase] for row in seconds.values()],
        }
        for phase in (*PHASES, OTHER)
        if any(row[phase] for row in seconds.values())
    ]
    return Plot("bars", title, {"unit": "s", "rows": list(seconds), "parts": parts}, about)


def timeline(title: str, batches: Iterable[tuple[str, Sequence[Record]]], about: str) -> Plot:
    """What every function did, and when; batches after MOST_CALLS calls are left out, and the text says so."""
    shown: list[dict[str, Any]] = []
    left_out, calls = 0, 0
    for name, records in batches:
        calls += len(records)
        if shown and calls > MOST_CALLS:
            left_out += 1
            continue
        began = min(row.requested_s for row in records)
        rows = sorted(records, key=lambda row: (row.requested_s, row.layer, row.expert, row.replica))
        shown.append({"name": name, "calls": [_call(row, began) for row in rows]})
    if left_out:
        about += f" {left_out} more are left out: over {MOST_CALLS:,} calls."
    return Plot("timeline", title, {"phases": list(TIMELINE_PHASES), "batches": shown}, about)


def _call(row: Record, began_s: float) -> dict[str, Any]:
    status = "" if row.status == "ok" else f"\n{row.status}, attempt {row.attempt}"
    return {
        "instance": row.instance or f"{row.function} (refused)",
        "text": f"{row.instance or row.function}: {row.tokens:g} tokens, {row.memory_mb} MB"
        f"{', cold' if row.cold else ''}, billed {row.billed_s:.3f} s{status}",
        "phases": [
            [place, round(row.phases[phase][0] - began_s, 6), round(row.phases[phase][1] - began_s, 6)]
            for place, phase in enumerate(TIMELINE_PHASES)
            if phase in row.phases
        ],
    }


def configuration(run: Run, model: type[BaseModel] | None = None) -> Section | None:
    """What was asked, key by key, with what each key is; None where the folder does not say."""
    settings = flat(run.config)
    if not settings:
        return None
    rows = [[key, _said(value), _about(model, key)] for key, value in settings.items()]
    columns = [Column("key"), Column("value"), Column("what it is")]
    if not any(row[2] for row in rows):
        rows, columns = [row[:2] for row in rows], columns[:2]
    about = "config.yaml of the folder: every key, those left at their defaults included."
    return Section("What was asked", [DataTable("config", columns, rows, about=about)])


def provenance(run: Run) -> Section | None:
    """Where the numbers come from: code, machine, versions, time; None where the folder does not say."""
    rows = [[key, _said(value)] for key, value in flat(run.provenance).items()]
    blocks = [DataTable("provenance", [Column("what"), Column("value")], rows, title="Provenance")] if rows else []
    if run.wall_times:
        taken = [[key, plain(value)] for key, value in run.wall_times.items()]
        columns = [Column("what"), Column("wall time", "s")]
        blocks.append(DataTable("wall", columns, taken, title="How long it took"))
    return Section("Where the numbers come from", blocks) if blocks else None


def picture(path: Path, title: str, about: str = "") -> list[Picture]:
    """A picture of the folder, if it is there."""
    return [Picture(title, path, about)] if path.exists() else []


def present(*sections: Section | None) -> list[Section]:
    """The sections that there are."""
    return [section for section in sections if section is not None]


def _said(value: Value) -> str:
    return "null" if value is None else str(value)


def _about(model: Any, key: str) -> str:
    """The description of a key in the model of its file; nothing where it has none."""
    about = ""
    for part in key.split("."):
        fields = getattr(model, "model_fields", {})
        found = next((field for name, field in fields.items() if part in (name, field.alias)), None)
        if found is None:
            return ""
        model, about = found.annotation, found.description or ""
    return about
