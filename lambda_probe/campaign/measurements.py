"""The measurement table of a campaign: one row per attempt, the record table's columns, and the client's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lambda_probe.account.calls import Attempt
from lambda_probe.campaign.backend import BackendFacts, BackendPrices, ProbeFunction
from lambda_probe.campaign.works import Answer, GetObjects, PutObjects, Work, answer_of, event_of
from moe.parquet import about_of, read_parquet, write_parquet
from simulator.records import COLUMNS, Record, columns_of

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "probe-measurements/1"
FILE = "measurements.parquet"

CLIENT_COLUMNS = {
    "run": "number of the run, from 0: what was measured together; runs are independent, samples of one are not",
    "probe": "what was measured: cold, warm, multiply, expert, get, put, send, payload-limit, keep-alive, burst; "
    "sizing: a look at how long work takes, too short to be used",
    "package": "name of the package, as in a platform profile",
    "package_type": "zip | image",
    "runtime": "such as python3.12",
    "architecture": "x86_64 | arm64",
    "padding_bytes": "bytes in the package beyond a small one",
    "idle_s": "how long its instance had been idle by intent before the call; NaN where that is not probed",
    "at_once": "calls that were sent at the same time, this one included",
    "work": "what the function was asked to do (JSON; lambda_probe.campaign.works)",
    "sent_s": "when the attempt was sent, client's clock, s since 1970",
    "client_s": "until its answer was there, client's clock, s",
    "duration_s": "Duration of the REPORT line, NaN without one",
    "init_s": "Init Duration of the REPORT line, NaN where there is none",
    "reported_memory_mb": "Memory Size of the REPORT line, NaN without one",
    "max_memory_mb": "Max Memory Used of the REPORT line, NaN without one",
    "seconds": "what the function timed, s: a list, one for each repeat",
    "cpu_s": "CPU time of the function's process in each of them, s: a list; empty where it was not told",
    "target_s": "what the function that it called took itself, s: a list",
    "payload_bytes": "bytes of the encoded payload that it sent",
    "first": "whether it was its instance's first call, by the function's own account",
    "import_s": "first-call work inside the handler, s",
    "cores": "cores that the function sees",
    "log": "the platform's lines about the call, raw",
    "error": "what went wrong, one line",
    "backend": "aws | local | simulated",
    "region": "of AWS, or of the embedded endpoint's settings",
    "versions": "JSON: of this project, Python, boto3, the platform",
}


@dataclass(frozen=True)
class Measured:
    """One attempt of a campaign, and what was asked for.

    Attributes:
        run, probe, idle_s, at_once, work: as in CLIENT_COLUMNS. function: what was called.
        attempt: what came of it.
    """

    run: int
    probe: str
    function: ProbeFunction
    work: Work
    attempt: Attempt
    idle_s: float = math.nan
    at_once: int = 1

    @property
    def answer(self) -> Answer:
        """What the function said; empty where it failed or said something else."""
        try:
            return answer_of(self.attempt.answer)
        except (KeyError, TypeError, ValueError):
            return Answer()


def row_of(measured: Measured, facts: BackendFacts, prices: BackendPrices, began_s: float) -> dict[str, Any]:
    """A row of the table as plain values; `began_s`: when the campaign began, s since 1970."""
    attempt, function, report, answer = (
        measured.attempt,
        measured.function,
        measured.attempt.report,
        measured.answer,
    )
    record = _record(measured, prices, began_s)
    row = columns_of(record)
    nan = math.nan
    row |= {
        "run": measured.run,
        "probe": measured.probe,
        "package": function.package.name,
        "package_type": function.package.package_type,
        "runtime": function.package.runtime,
        "architecture": function.package.architecture,
        "padding_bytes": function.package.padding_bytes,
        "idle_s": measured.idle_s,
        "at_once": measured.at_once,
        "work": json.dumps(event_of(measured.work), sort_keys=True),
        "sent_s": attempt.sent_s,
        "client_s": attempt.client_s,
        "duration_s": report.duration_ms / 1000 if report else nan,
        "init_s": report.init_ms / 1000 if report and report.init_ms is not None else nan,
        "reported_memory_mb": float(report.memory_mb) if report else nan,
        "max_memory_mb": float(report.max_memory_mb) if report else nan,
        "seconds": list(answer.seconds),
        "cpu_s": list(answer.cpu_s),
        "target_s": list(answer.target_s),
        "payload_bytes": answer.payload_bytes,
        "first": answer.first,
        "import_s": answer.import_s,
        "cores": answer.cores,
        "log": attempt.log,
        "error": attempt.error or answer.stopped,
        "backend": facts.name,
        "region": facts.region,
        "versions": json.dumps(dict(facts.versions), sort_keys=True),
    }
    return row


def _record(measured: Measured, prices: BackendPrices, began_s: float) -> Record:
    """The attempt as a row of the record table; times by the client's clock, s from the campaign's start.

    The handler's start is reckoned back from the answer's arrival: what the way back takes counts before it.
    """
    attempt, function, work, report = (
        measured.attempt,
        measured.function,
        measured.work,
        measured.attempt.report,
    )
    requested = attempt.sent_s - began_s
    ended = requested + attempt.client_s
    duration = report.duration_ms / 1000 if report else math.nan
    done = len(measured.answer.seconds)
    record = Record(
        batch=measured.run,
        layer=0,
        role="function",
        function=attempt.function,
        memory_mb=function.memory_mb,
        instance=measured.answer.instance,
        attempt=attempt.attempt,
        status=attempt.status,
        cold=(report is not None and report.cold) or measured.answer.first,
        requested_s=requested,
        started_s=ended - duration,
        ended_s=ended,
        billed_s=report.billed_ms / 1000 if report else 0.0,
        billed_gb_s=report.billed_gb_s if report else 0.0,
        gets=done * work.connections if isinstance(work, GetObjects) else 0,
        puts=done * work.connections if isinstance(work, PutObjects) else 0,
        bytes_in=float(done * work.size_bytes) if isinstance(work, GetObjects) else 0.0,
        bytes_out=float(done * work.size_bytes) if isinstance(work, PutObjects) else 0.0,
    )
    record.compute_cost_usd = record.billed_gb_s * prices.gb_s
    record.request_cost_usd = prices.invocation + record.gets * prices.get + record.puts * prices.put
    if report is not None and report.init_ms is not None:
        record.add_phase("init", ended - duration - report.init_ms / 1000, ended - duration)
    return record


def write_measurements(path: Path, rows: Iterable[dict[str, Any]], about: dict[str, Any]) -> None:
    """The table as a parquet file, whole or not at all; `about` goes into its metadata."""
    import pandas as pd

    table = pd.DataFrame(list(rows), columns=[*COLUMNS, *CLIENT_COLUMNS])
    write_parquet(path, {name: table[name].to_numpy() for name in table}, {"schema": SCHEMA, **about})


def read_measurements(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table and what its metadata says. Raises InputError when it is none."""
    table = read_parquet(path)
    about, rows = about_of(path, table, SCHEMA, "measurement table"), table.to_pandas()
    told = rows["cpu_s"] if "cpu_s" in rows else [None] * len(rows)  # functions did not always tell it
    rows["cpu_s"] = [[] if cpu_s is None or isinstance(cpu_s, float) else cpu_s for cpu_s in told]
    return rows, about
