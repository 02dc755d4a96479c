"""The one record table: a row for every invocation attempt, simulated or live.

Bill, latency, timeline and summary are all computed from these rows. Times are seconds from the start of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PHASES = (
    "queue",
    "provisioning",
    "init",
    "parameter_download",
    "wait",
    "input_download",
    "compute",
    "upload",
    "hand_on",
    "gather",
)

COLUMNS = {
    "batch": "number of the batch, from 0",
    "step": "0 for the pass over the batch's tokens, then the number of the decode step",
    "layer": "MoE layer, from 0; for a non-MoE function the layer that it gates (the tail: number of layers)",
    "role": "expert | non-moe; blocks: a lane of a stage of whole blocks; function: of no MoE model; ping: only "
    "keeps an instance; provisioned: its price",
    "expert": "expert of the layer, -1 for non-MoE functions",
    "replica": "replica of the expert, from 0",
    "tokens": "tokens that the call computes",
    "function": "name of the Lambda function",
    "caller": "name of the function that called it, empty for clients",
    "instance": "name of the instance that served the call",
    "memory_mb": "memory of the function, MB",
    "attempt": "1 for the first try",
    "status": "ok, or why the attempt failed: throttled, timeout, out-of-memory, handler-error, failed, s3-error, "
    "instance-lost, payload-too-large, response-too-large, upstream-failed (one that it waits for)",
    "cold": "whether the call started an instance",
    "requested_s": "when the caller asked",
    "started_s": "when the handler started",
    "ended_s": "when the handler returned",
    "billed_s": "billed duration, INIT included where it is billed",
    "billed_gb_s": "billed duration x memory / 1024",
    "bytes_in": "bytes that came into the instance",
    "bytes_out": "bytes that left it",
    "gets": "S3 GET requests",
    "puts": "S3 PUT and LIST requests, which have one price",
    "refused": "S3 requests answered with a 5xx (SlowDown, errors): not in gets and puts, not billed",
    "exchange_gets": "of gets, those that carry tokens between a non-MoE function and experts",
    "exchange_puts": "of puts, likewise",
    "compute_cost_usd": "billed GB-s x price, the free tier taken off",
    "tmp_cost_usd": "/tmp beyond 512 MB",
    "request_cost_usd": "invocation and S3 requests, with S3 Express their bytes as well",
    "exchange_cost_usd": "of request_cost_usd, the exchange requests",
    **{f"{phase}_{edge}_s": f"{edge} of the phase {phase}" for phase in PHASES for edge in ("start", "end")},
}

STANDBY = ("ping", "provisioned")  # roles of rows that serve nobody


@dataclass(slots=True)
class Record:
    """One row of the record table while it is written; COLUMNS says what each field is."""

    batch: int
    layer: int
    role: str
    function: str
    memory_mb: int
    step: int = 0
    expert: int = -1
    replica: int = 0
    tokens: float = 0.0
    caller: str = ""
    instance: str = ""
    attempt: int = 1
    status: str = "ok"
    cold: bool = False
    requested_s: float = math.nan
    started_s: float = math.nan
    ended_s: float = math.nan
    billed_s: float = 0.0
    billed_gb_s: float = 0.0
    bytes_in: float = 0.0
    bytes_out: float = 0.0
    gets: int = 0
    puts: int = 0
    refused: int = 0
    exchange_gets: int = 0
    exchange_puts: int = 0
    compute_cost_usd: float = 0.0
    tmp_cost_usd: float = 0.0
    request_cost_usd: float = 0.0
    exchange_cost_usd: float = 0.0
    phases: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add_phase(self, phase: str, start_s: float, end_s: float) -> None:
        """Note a phase; one that comes again extends the first."""
        before = self.phases.get(phase)
        self.phases[phase] = (before[0], end_s) if before else (start_s, end_s)

    def end_phases(self, at_s: float) -> None:
        """Nothing goes on after `at_s`: cut off phases that would have."""
        self.phases = {name: (a, min(b, at_s)) for name, (a, b) in self.phases.items() if a < at_s}

    def again(self, attempt: int | None = None, batch: int | None = None, step: int | None = None) -> Record:
        """A fresh row for the same call, by default for its next attempt."""
        return Record(
            batch=self.batch if batch is None else batch,
            step=self.step if step is None else step,
            layer=self.layer,
            role=self.role,
            function=self.function,
            memory_mb=self.memory_mb,
            expert=self.expert,
            replica=self.replica,
            tokens=self.tokens,
            caller=self.caller,
            attempt=self.attempt + 1 if attempt is None else attempt,
        )


@dataclass(slots=True)
class Bill:
    """What one or more batches cost, by parts; and the three bills (docs/formats.md), each containing the last.

    Attributes:
        billed_gb_s: GB-s of the experts' functions, the number that the paper minimises, and of stages of blocks;
            of an application, all.
        compute_usd: their price. request_usd: their invocations and S3 requests.
        gate_exchange_usd: the S3 requests of non-MoE functions that carry tokens to and from experts.
        non_moe_compute_usd: GB-s of gate and non-MoE functions, and in it
        waiting_usd: what they wait.
        non_moe_request_usd: their invocations and other S3 requests.
        tmp_usd: /tmp beyond what is free.
        standby_usd: instances that were kept initialised, and calls that only keep instances.
    """

    billed_gb_s: float = 0.0
    compute_usd: float = 0.0
    request_usd: float = 0.0
    gate_exchange_usd: float = 0.0
    non_moe_compute_usd: float = 0.0
    waiting_usd: float = 0.0
    non_moe_request_usd: float = 0.0
    tmp_usd: float = 0.0
    standby_usd: float = 0.0

    @property
    def billed_cost_usd(self) -> float:
        """The paper's bill: the experts' GB-s."""
        return self.compute_usd

    @property
    def full_cost_usd(self) -> float:
        """Billed, and the requests that the experts cause."""
        return self.compute_usd + self.request_usd + self.gate_exchange_usd

    @property
    def total_cost_usd(self) -> float:
        """Full, and everything else."""
        rest = self.non_moe_compute_usd + self.non_moe_request_usd
        return self.full_cost_usd + rest + self.tmp_usd + self.standby_usd

    def add(self, row: Record, share: float = 1.0) -> None:
        """One more row, or a share of it."""
        compute, requests = row.compute_cost_usd * share, row.request_cost_usd * share
        self.tmp_usd += row.tmp_cost_usd * share
        if row.role in STANDBY:
            self.standby_usd += compute + requests
        elif row.role == "non-moe":
            self.non_moe_compute_usd += compute
            self.gate_exchange_usd += row.exchange_cost_usd * share
            self.non_moe_request_usd += requests - row.exchange_cost_usd * share
            if "wait" in row.phases and row.billed_s > 0:
                start, end = row.phases["wait"]
                self.waiting_usd += compute * min(1.0, (end - start) / row.billed_s)
        else:
            self.billed_gb_s += row.billed_gb_s * share
            self.compute_usd += compute
            self.request_usd += requests

    def per_batch(self, batches: float) -> Bill:
        """The mean bill of one of `batches`."""
        return Bill(*(getattr(self, item.name) / batches for item in fields(self)))


def bill(records: Iterable[Record]) -> Bill:
    """The bill of a run: a sum over its rows."""
    found = Bill()
    for row in records:
        found.add(row)
    return found


def to_pandas(records: Iterable[Record]) -> pd.DataFrame:
    """The record table, columns as in COLUMNS; a phase that a call did not have is NaN."""
    import pandas as pd

    return pd.DataFrame(list(map(columns_of, records)), columns=list(COLUMNS))


def columns_of(record: Record) -> dict[str, Any]:
    """A row as plain values, columns as in COLUMNS."""
    row = {name: getattr(record, name) for name in _PLAIN}
    for phase in PHASES:
        row[f"{phase}_start_s"], row[f"{phase}_end_s"] = record.phases.get(phase, (math.nan, math.nan))
    return row


def from_pandas(table: pd.DataFrame) -> list[Record]:
    """The rows of a record table, the inverse of `to_pandas`; other columns are left out."""
    phases = [(phase, table[f"{phase}_start_s"].tolist(), table[f"{phase}_end_s"].tolist()) for phase in PHASES]
    records = []
    for place, values in enumerate(zip(*(table[name].tolist() for name in _PLAIN), strict=True)):
        record = Record(**dict(zip(_PLAIN, values, strict=True)))
        spans = ((phase, start_s[place], end_s[place]) for phase, start_s, end_s in phases)
        record.phases = {phase: (start, end) for phase, start, end in spans if not math.isnan(start)}
        records.append(record)
    return records


_OF_PHASES = {f"{phase}_{edge}_s" for phase in PHASES for edge in ("start", "end")}
_PLAIN = tuple(name for name in COLUMNS if name not in _OF_PHASES)
