"""Rows of the record table out of the logs of a live model's functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lambda_probe.account.report import Report, is_report, parse_report
from lambda_probe.handlers.exchange import MARK, Account
from moe.errors import InputError
from simulator.records import Record, to_pandas

if TYPE_CHECKING:
    import pandas as pd

EXTRA_COLUMNS = {
    "polls": "of gets, those that asked whether something was there yet",
    "compute_cpu_s": "CPU time of the phase compute, s",
    "duration_s": "Duration of the REPORT line",
    "max_memory_mb": "Max Memory Used of the REPORT line: the most that the instance ever used",
    "error": "what the function said went wrong",
}


@dataclass(frozen=True)
class LivePrices:
    """USD: of a GB-s, an invocation, a PUT and a GET."""

    gb_s: float
    invocation: float
    put: float
    get: float


@dataclass(frozen=True)
class LiveCall:
    """A call of a batch: what its function told (`ended_s` 0: it never came to an end) and its REPORT."""

    account: Account
    report: Report


@dataclass(frozen=True)
class LiveRow:
    """A row of the record table, and the columns that only live runs have."""

    record: Record
    polls: int
    compute_cpu_s: float
    duration_s: float
    max_memory_mb: int
    error: str


def calls_in(log: str, batch: str) -> tuple[list[LiveCall], list[Account]]:
    """The calls of a batch that a function's log tells of: ended ones, and those without a REPORT line yet."""
    accounts: dict[str, Account] = {}
    reports: dict[str, Report] = {}
    for line in log.splitlines():
        if line.startswith(MARK):
            account = Account(**json.loads(line.removeprefix(MARK)))
            if account.batch == batch:
                accounts[account.request_id] = account
        elif is_report(line):
            try:
                report = parse_report(line)
            except InputError:
                continue
            reports[report.request_id] = report
    ended = [LiveCall(x, reports[name]) for name, x in accounts.items() if name in reports]
    return ended, [x for name, x in accounts.items() if name not in reports]


def row_of(call: LiveCall, number: int, name: str, began_s: float, prices: LivePrices) -> LiveRow:
    """A call as a row; times from `began_s` (s since 1970) on.

    Args:
        number: of the batch. name: of the function, without the deployment's prefix.
    """
    account, report = call.account, call.report
    started = account.began_s - began_s
    record = Record(
        batch=number,
        layer=account.layer,
        role=account.role,
        function=name,
        memory_mb=report.memory_mb,
        expert=account.expert,
        replica=account.replica,
        tokens=float(account.tokens),
        caller=account.caller,
        instance=account.instance,
        status=status_of(call),
        cold=report.init_ms is not None,
        requested_s=account.sent_s - began_s,
        started_s=started,
        ended_s=(account.ended_s - began_s) if account.ended_s else started + report.duration_ms / 1000,
        billed_s=report.billed_ms / 1000,
        billed_gb_s=report.billed_gb_s,
        bytes_in=account.bytes_in,
        bytes_out=account.bytes_out,
        gets=account.gets,
        puts=account.puts,
        exchange_gets=account.exchange_gets,
        exchange_puts=account.exchange_puts,
        compute_cost_usd=report.billed_gb_s * prices.gb_s,
        request_cost_usd=prices.invocation + account.gets * prices.get + account.puts * prices.put,
        exchange_cost_usd=account.exchange_gets * prices.get + account.exchange_puts * prices.put,
    )
    record.add_phase("queue", record.requested_s, started)
    for phase, (start, end) in account.phases.items():
        record.add_phase(phase, start - began_s, end - began_s)
    return LiveRow(
        record=record,
        polls=account.polls,
        compute_cpu_s=account.compute_cpu_s,
        duration_s=report.duration_ms / 1000,
        max_memory_mb=report.max_memory_mb,
        error=account.error,
    )


def status_of(call: LiveCall) -> str:
    """How a call ended, in the record table's words."""
    error, report = call.account.error, call.report
    if error:
        return "upstream-failed" if error.startswith(("Stopped", "Refused")) else "handler-error"
    if "OutOfMemory" in (report.error_type or ""):
        return "out-of-memory"
    if report.status == "timeout":
        return "timeout"
    return "ok" if call.account.ended_s and not report.status else "handler-error"


def table_of(rows: Iterable[LiveRow], about: Mapping[str, object]) -> pd.DataFrame:
    """The record table, EXTRA_COLUMNS, and the same values for all rows of further columns (`about`)."""
    rows = list(rows)
    table = to_pandas([row.record for row in rows])
    for name in EXTRA_COLUMNS:
        table[name] = [getattr(row, name) for row in rows]
    return table.assign(**about)
