"""The simulator as a platform that can be probed: works played as a function's phases, on one Lambda service."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import simpy

from lambda_probe.account.calls import ATTEMPTS, FIRST_WAIT_S, LONGEST_WAIT_S, Attempt
from lambda_probe.account.report import parse_report
from lambda_probe.campaign.backend import Account, BackendFacts, BackendPrices, ProbeFunction
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
from moe.errors import InputError, nearest
from simulator.cloud.call import Call, Phase, Program, Steps
from simulator.cloud.invocation import Invoke, Latch, Target
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute, Return, Sleep
from simulator.cloud.platform import platform_of_profile
from simulator.cloud.transfers import Get, Put
from simulator.draws import Retries
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


class SimulatedBackend:
    """The `Backend` protocol on a profile: one Lambda service that lives as long as the campaign.

    Nobody is asked for a real second: `rest` lets simulated time pass. What a profile has no constant for takes no
    time: first-call work inside a handler, and the way of an answer to a client.

    Args:
        profile: the platform. seed: of all that is random.
    """

    def __init__(self, profile: PlatformProfile, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        platform = platform_of_profile(profile, None, rng)
        once = Retries(1, 0.0, 0.0, rng)  # attempts are this backend's own
        self._profile = profile
        self._env = simpy.Environment()
        self._service = LambdaService(self._env, platform.changed(retries=once), keep=lambda _: None)
        self._calls = 0
        self.facts = BackendFacts("simulated", profile.name, {"profile": profile.name, "simpy": simpy.__version__})
        prices = profile.prices
        self.prices = BackendPrices(
            prices.gb_s.median, prices.invocation.median, prices.s3_get.median, prices.s3_put.median
        )

    def account(self) -> Account:
        """The profile's."""
        packages = tuple(self._profile.start.packages)
        return Account(int(self._profile.concurrency.account.median), packages=packages)

    def create(self, function: ProbeFunction) -> None:
        """Deploy a function. Raises InputError: the profile has no such package."""
        packages = self._profile.start.packages
        if function.package.name not in packages:
            raise InputError(
                f"profile '{self._profile.name}': start.packages: no package '{function.package.name}'"
                f"{nearest(function.package.name, packages)}"
            )
        self._service.deploy(
            function.name,
            function.memory_mb,
            package=function.package.name,
            package_bytes=function.package.padding_bytes,
            timeout_s=function.timeout_s,
        )

    def delete(self, name: str) -> None:
        """Remove a function."""
        del self._service.functions[name]

    def forget(self, name: str) -> None:
        """Drop the function's idle instances."""
        self._service.functions[name].idle.clear()

    def call(self, name: str, work: Work) -> list[Attempt]:
        """Call a function once, as often as `account.calls.call` would where it is throttled or fails."""
        made: list[Attempt] = []
        for number in range(1, ATTEMPTS + 1):
            made.append(self._attempt(self._play([name], work)[0], work, number))
            if made[-1].status not in ("throttled", "failed"):
                break
            if number < ATTEMPTS:
                self.rest(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (number - 1)))
        return made

    def call_at_once(self, names: Sequence[str], work: Work) -> list[list[Attempt]]:
        """Call functions all at the same time."""
        return [[self._attempt(played, work, 1)] for played in self._play(names, work)]

    def rest(self, seconds: float) -> None:
        """Let simulated time pass."""
        if seconds > 0:
            self._env.run(until=self._env.now + seconds)

    def now_s(self) -> float:
        """Simulated time, s from the start."""
        return float(self._env.now)

    def close(self) -> None:
        """Nothing stays behind."""
        self._service.functions.clear()

    # -- one call -----------------------------------------------------------------------------------------

    def _play(self, names: Sequence[str], work: Work) -> list[Played]:
        """Calls sent now, when all of them have ended."""
        env, latch, all_played = self._env, Latch(self._env, len(names)), []
        for name in names:
            if name not in self._service.functions:
                raise InputError(f"function: no function '{name}' is deployed")
            memory_mb = self._service.functions[name].memory_mb
            played = Played(env.now, Record(0, 0, "function", name, memory_mb))
            program = self._program(work, played)
            all_played.append(played)
            self._service.invoke(played.row, program, lambda _: latch.count_down(), repeatable=False)
        if names:
            env.run(until=latch.ended)
        return all_played

    def _program(self, work: Work, played: Played) -> Program:
        """A work as phases; what the handler would time goes into `played`."""
        seconds = played.seconds
        if isinstance(work, Wait):
            return (Timed(Sleep(work.seconds), seconds),)
        if isinstance(work, Nothing):
            return (Timed(Sleep(0.0), seconds),)
        if isinstance(work, ExpertPass):
            phase: Phase = Compute(self._expert_s(work, played.row.memory_mb) * work.passes)
            return (Timed(phase, seconds, work.passes),) * work.repeats
        if isinstance(work, Multiply):
            phase = Compute(flops=work.flop, threads=work.threads)
        elif isinstance(work, GetObjects):
            phase = Get([work.size_bytes], "gather", parts=work.connections)
        elif isinstance(work, PutObjects):
            phase = Put([work.size_bytes], parts=work.connections)
        else:
            phase = Invoke((self._target(work, played),), wait=True)
        return (Timed(phase, seconds),) * work.repeats

    def _expert_s(self, work: ExpertPass, memory_mb: int) -> float:
        values = MATRICES * work.hidden * work.intermediate
        per_call, per_token = expert_seconds(self._profile, [memory_mb], FLOAT_BYTES * values, 2 * values)
        return float(per_call[0] + work.tokens * per_token[0])

    def _target(self, work: Send, played: Played) -> Target:
        if work.target not in self._service.functions:
            raise InputError(f"function: no function '{work.target}' is deployed")
        row = Record(0, 0, "function", work.target, self._service.functions[work.target].memory_mb)
        answer = (Return(work.answer_bytes),) if work.answer_bytes else (Sleep(0.0),)

        def ended(last: Record) -> None:
            if last.status != "ok":
                played.failed.append(f"{work.target}: {last.status}")

        return Target(
            row, answer, max(1, work.size_bytes), then=ended, repeatable=False
        )  # an event is never empty

    # -- what the caller sees -----------------------------------------------------------------------------

    def _attempt(self, played: Played, work: Work, number: int) -> Attempt:
        """A call's row as an attempt, by way of the lines that Lambda would have logged."""
        row = played.row
        status, client_s = STATUS.get(row.status, row.status), row.ended_s - played.sent_s
        if status in ("throttled", "payload-too-large"):
            return Attempt(row.function, number, played.sent_s, client_s, status, error=f"{status}, simulated")
        log = self._log(row)
        answer = self._answer(played, work) if status == "ok" else None
        error = "" if status == "ok" else "; ".join([f"{row.status}, simulated", *played.failed])
        return Attempt(
            row.function, number, played.sent_s, client_s, status, answer, parse_report(log), log, error
        )

    def _answer(self, played: Played, work: Work) -> dict[str, Any]:
        row, sends = played.row, isinstance(work, Send)
        factor = self._service.platform.payload.encoding_factor
        answer = Answer(
            seconds=tuple(played.seconds),
            cpu_s=tuple(self._cpu_s(played, work)),
            target_s=(0.0,) * len(played.seconds) if sends else (),
            first=row.cold,
            cores=int(self._service.platform.compute.visible_cores(row.memory_mb)),
            instance=row.instance,
            payload_bytes=math.ceil(work.size_bytes * factor) if isinstance(work, Send) else 0,
        )
        return asdict(answer)

    def _cpu_s(self, played: Played, work: Work) -> list[float]:
        """CPU time of what a handler timed: none of transfers, but where the function's own CPU moves bytes."""
        if not isinstance(work, GetObjects | PutObjects):
            return []
        by_cpu = self._service.platform.own_work.moved_by_cpu
        vcpus = self._service.platform.compute.vcpus(played.row.memory_mb, 1)
        return [seconds * vcpus if by_cpu else 0.0 for seconds in played.seconds]

    def _log(self, row: Record) -> str:
        self._calls += 1
        request = f"simulated-{self._calls}"
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
            round(self._profile.compute.runtime_bytes.median / MB),
            status,
            kind,
            billed_ms=round(row.billed_s * 1000),
        )
        return lines.splitlines()[1]  # after END
