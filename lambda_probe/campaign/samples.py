"""What a campaign makes of a call: whether it is a sample, and which size to try next."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lambda_probe.account.calls import Attempt
from lambda_probe.campaign.backend import ProbeFunction
from lambda_probe.campaign.folder import Line
from lambda_probe.campaign.measurements import Measured
from lambda_probe.campaign.steps import Step
from lambda_probe.campaign.works import ExpertPass, Multiply, Send, Work

TOO_LARGE = ("payload-too-large", "response-too-large")


def checked(attempt: Attempt, function: ProbeFunction) -> Attempt:
    """The attempt; one that ran with another memory size than asked for has failed."""
    report = attempt.report
    if report is None or report.memory_mb == function.memory_mb:
        return attempt
    error = f"REPORT says {report.memory_mb} MB, asked for {function.memory_mb}"
    return replace(attempt, status="failed", error=error)


def next_size(step: Step, tried: Mapping[int, bool]) -> int | None:
    """The size to try next; `tried`: whether sizes fitted. None: the limit is known, or not between the two."""
    low, high = step.between
    for size in (high, low):
        if size not in tried:
            return size
    if tried[high] or not tried[low]:
        return None
    fits = max(size for size, fitted in tried.items() if fitted)
    fails = min(size for size, fitted in tried.items() if not fitted)
    return (fits + fails) // 2 if fails - fits > step.within else None


def size_tried(line: Line) -> tuple[int, bool]:
    """Size, and whether it fitted, of a kept call of a limit."""
    row = line.rows[-1]
    work = json.loads(row["work"])
    return max(work["size_bytes"], work["answer_bytes"]), row["status"] == "ok"


def of_size(work: Work, size: int) -> Work:
    """A limit's call with another size, there or back."""
    assert isinstance(work, Send)
    return replace(work, answer_bytes=size) if work.answer_bytes else replace(work, size_bytes=size)


def once(work: Work) -> Work:
    """CPU work without repeats."""
    return replace(work, repeats=1) if isinstance(work, Multiply | ExpertPass) else work


def too_large(status: str, error: str) -> bool:
    """Whether a call failed for its size; a handler may be the one to say so."""
    return status in TOO_LARGE or any(each in error for each in TOO_LARGE)


def is_cold(measured: Sequence[Measured]) -> bool:
    """By the REPORT line, or by the function's own account: not all cold starts have an Init Duration."""
    last = measured[-1]
    return last.answer.first or (last.attempt.report is not None and last.attempt.report.cold)


def failure(measured: Sequence[Measured]) -> str:
    """Why a call is no sample, empty if it is one."""
    return failure_of(measured[-1])


def failure_of(measured: Measured) -> str:
    """Why an attempt failed, empty if it did not."""
    attempt = measured.attempt
    if attempt.status != "ok":
        return f"{attempt.status}: {attempt.error}"
    return measured.answer.stopped


def troubles(rows: Iterable[dict[str, Any]]) -> list[str]:
    """What went wrong in a campaign's rows, a line for each kind and how many rows it is."""
    found: Counter[str] = Counter()
    for row in rows:
        if row["status"] != "ok" and not too_large(row["status"], row["error"]):
            found[f"{row['probe']}: {row['status']}: {row['error']}"] += 1
        elif row["status"] == "ok" and math.isnan(row.get("duration_s", math.nan)):
            found[f"{row['probe']}: no REPORT line that can be read; the log is kept"] += 1
    return [f"{count} rows: {what}" for what, count in found.most_common()]
