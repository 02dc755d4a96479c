"""One call of the simulated platform: a probe's work as phases, and what its caller sees of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lambda_probe.account.calls import Attempt
from lambda_probe.account.report import parse_report
from lambda_probe.campaign.works import (
    Answer,
    ExpertPass,
    GetObjects,
    Multiply,
    Nothing,
    PutObjects,
    Send,
    Wait,
    Work,
)
from lambda_probe.local import report_lines
from moe.errors import InputError
from simulator.cloud.call import Call, Phase, Program, Steps
from simulator.cloud.invocation import Invoke, Target
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute, Return, Sleep
from simulator.cloud.transfers import Get, Put
from simulator.plan import MB
from simulator.profiles.closed_form import expert_seconds
from simulator.profiles.schema import PlatformProfile
from simulator.records import Record

FLOAT_BYTES = 4
MATRICES = 2  # of an expert's MLP
STATUS = {"instance-lost": "failed", "s3-error": "handler-error", "upstream-failed": "handler-error"}
"""What a caller sees of a status of the record table, where that is not the same."""


@dataclass(slots=True)
class Timed(Phase):
    """A phase that notes what it takes, as a probe's handler does with its clock.

    Args:
        phase: what is timed. seconds: where it is noted; divided by `passes`.
    """

    alone: ClassVar[bool] = False
    phase: Phase
    seconds: list[float]
    passes: int = 1

    def meet(self, call: Call, at: float) -> Steps:
        """Do it. Raises CallFailed."""
        if self.phase.alone:
            end = self.phase.run(call, at)
        else:
            end = yield from self.phase.meet(call, at)
        self.seconds.append((end - at) / self.passes)
        return end


@dataclass
class Played:
    """A call of the simulated platform.

    Attributes:
        sent_s: when. row: its row. seconds: what its handler timed. failed: why calls that it made itself failed.
    """

    sent_s: float
    row: Record
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def program_of(work: Work, played: Played, service: LambdaService, profile: PlatformProfile) -> Program:
    """A work as phases; what the handler would time goes into `played`."""
    seconds = played.seconds
    if isinstance(work, Wait):
        return (Timed(Sleep(work.seconds), seconds),)
    if isinstance(work, Nothing):
        return (Timed(Sleep(0.0), seconds),)
    if isinstance(work, ExpertPass):
        phase: Phase = Compute(_expert_s(work, played.row.memory_mb, profile) * work.passes)
        return (Timed(phase, seconds, work.passes),) * work.repeats
    if isinstance(work, Multiply):
        phase = Compute(flops=work.flop, threads=work.threads)
    elif isinstance(work, GetObjects):
        phase = Get([work.size_bytes], "gather", parts=work.connections)
    elif isinstance(work, PutObjects):
        phase = Put([work.size_bytes], parts=work.connections)
    else:
        phase = Invoke((_target(work, played, service),), wait=True)
    return (Timed(phase, seconds),) * work.repeats


def _expert_s(work: ExpertPass, memory_mb: int, profile: PlatformProfile) -> float:
    values = MATRICES * work.hidden * work.intermediate
    per_call, per_token = expert_seconds(profile, [memory_mb], FLOAT_BYTES * values, 2 * values)
    return float(per_call[0] + work.tokens * per_token[0])


def _target(work: Send, played: Played, service: LambdaService) -> Target:
    if work.target not in service.functions:
        raise InputError(f"function: no function '{work.target}' is deployed")
    row = Record(0, 0, "function", work.target, service.functions[work.target].memory_mb)
    answer = (Return(work.answer_bytes),) if work.answer_bytes else (Sleep(0.0),)

    def ended(last: Record) -> None:
        if last.status != "ok":
            played.failed.append(f"{work.target}: {last.status}")

    return Target(row, answer, max(1, work.size_bytes), then=ended, repeatable=False)  # an event is never empty


# -- what the caller sees ---------------------------------------------------------------------------------


def attempt_of(
    played: Played,
    work: Work,
    number: int,
    requests: Iterator[str],
    service: LambdaService,
    profile: PlatformProfile,
) -> Attempt:
    """A call's row as an attempt, by way of the lines that Lambda would have logged."""
    row = played.row
    status, client_s = STATUS.get(row.status, row.status), row.ended_s - played.sent_s
    if status in ("throttled", "payload-too-large"):
        return Attempt(row.function, number, played.sent_s, client_s, status, error=f"{status}, simulated")
    log = _log(row, next(requests), profile)
    answer = _answer(played, work, service) if status == "ok" else None
    error = "" if status == "ok" else "; ".join([f"{row.status}, simulated", *played.failed])
    return Attempt(row.function, number, played.sent_s, client_s, status, answer, parse_report(log), log, error)


def _answer(played: Played, work: Work, service: LambdaService) -> dict[str, Any]:
    row, sends = played.row, isinstance(work, Send)
    factor = service.platform.payload.encoding_factor
    answer = Answer(
        seconds=tuple(played.seconds),
        cpu_s=tuple(_cpu_s(played, work, service)),
        target_s=(0.0,) * len(played.seconds) if sends else (),
        first=row.cold,
        cores=int(service.platform.compute.visible_cores(row.memory_mb)),
        instance=row.instance,
        payload_bytes=math.ceil(work.size_bytes * factor) if isinstance(work, Send) else 0,
    )
    return {**vars(answer)}


def _cpu_s(played: Played, work: Work, service: LambdaService) -> list[float]:
    """CPU time of what a handler timed: none of transfers, but where the function's own CPU moves bytes."""
    if not isinstance(work, GetObjects | PutObjects):
        return []
    by_cpu = service.platform.own_work.moved_by_cpu
    vcpus = service.platform.compute.vcpus(played.row.memory_mb, 1)
    return [seconds * vcpus if by_cpu else 0.0 for seconds in played.seconds]


def _log(row: Record, request: str, profile: PlatformProfile) -> str:
    """The REPORT line that Lambda would have logged."""
    init = row.phases.get("init")
    duration_s = row.ended_s - row.started_s
    status, kind = {
        "ok": ("", ""),
        "timeout": ("timeout", ""),
        "out-of-memory": ("error", "Runtime.OutOfMemory"),
    }.get(row.status, ("error", "Runtime.ExitError"))
    lines = report_lines.end_and_report(
        request,
        duration_s,
        init[1] - init[0] if init else None,
        row.memory_mb,
        round(profile.compute.runtime_bytes.median / MB),
        status,
        kind,
        billed_ms=round(row.billed_s * 1000),
    )
    return lines.splitlines()[1]  # after END
