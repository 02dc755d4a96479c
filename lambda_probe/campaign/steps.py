"""A campaign as steps: which function does what, and how often."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Literal, TypeAlias

from lambda_probe.campaign import file as files
from lambda_probe.campaign.backend import Account, ProbeFunction, ProbePackage
from lambda_probe.campaign.works import ExpertPass, GetObjects, Multiply, Nothing, PutObjects, Send, Wait, Work
from moe.errors import InputError

Manner: TypeAlias = Literal["cold", "warm", "sized", "limit", "idle", "burst"]

ATTEMPTS_PER_SAMPLE = 3  # a step ends after so many calls per sample that it wants, whatever they gave
MB_PER_VCPU = 1769.0  # of AWS
FLOPS_PER_VCPU = 16e9  # a first guess, from which CPU work is made long enough
LEAST_PART_BYTES = 5 * 2**20  # of a multipart upload, but for the last one
STARTING_S, DEPLOYING_S = 0.3, 0.6  # guesses, for the expected duration only
BYTES_PER_S, REQUEST_S = 40e6, 0.03  # likewise


@dataclass(frozen=True)
class Step:
    """Calls of one function that do the same.

    Attributes:
        key: names it in its campaign. run: from 0. probe: as in the measurement table.
        function, target: what is called, and what that calls (of `send`).
        samples: calls, or bursts, that are wanted.
        manner: cold (a new instance for each), warm (one instance), sized (warm, work made long enough first),
            limit (sizes by halving), idle (called again after a gap, while other functions' gaps pass as well),
            burst (all at once).
        call_s: what a call is expected to take inside the function, s.
        at_once: calls of a burst. rest_s: before each burst but the first; idle_s: the gap.
        between, within: sizes in bytes, of a limit.
    """

    key: str
    run: int
    probe: str
    function: ProbeFunction
    work: Work
    samples: int
    manner: Manner
    call_s: float = 0.01
    target: ProbeFunction | None = None
    at_once: int = 1
    rest_s: float = 0.0
    idle_s: float = math.nan
    between: tuple[int, int] = (0, 0)
    within: int = 1

    @property
    def functions(self) -> tuple[ProbeFunction, ...]:
        """What is called, after what that calls."""
        return (self.function,) if self.target is None else (self.target, self.function)

    @property
    def calls(self) -> int:
        """Invocations by the campaign, if each gives a sample."""
        if self.manner == "limit":
            return 2 + max(0, math.ceil(math.log2((self.between[1] - self.between[0]) / self.within)))
        return self.samples * self.at_once * (2 if self.manner == "idle" else 1)

    @property
    def expected_s(self) -> float:
        """Wall time that all calls are expected to take, s; without gaps, which pass together."""
        waits = (self.samples - 1) * self.rest_s
        starting = self.samples * (STARTING_S + DEPLOYING_S) if self.manner == "cold" else 0.0
        return waits + starting + self.calls / self.at_once * (self.call_s + 0.01)


def together(steps: Iterable[Step]) -> Iterator[tuple[list[Step], float]]:
    """Steps in their order, those of a run whose gaps pass together as one list, and its longest gap, s."""
    for _, same in groupby(enumerate(steps), lambda each: (each[1].run,) if each[1].manner == "idle" else each[0]):
        group = [step for _, step in same]
        yield group, max(0.0 if math.isnan(step.idle_s) else step.idle_s * step.samples for step in group)


@dataclass(frozen=True)
class Plan:
    """All steps of a campaign on a platform, and what was left out of it and why, a line each."""

    steps: tuple[Step, ...]
    left_out: tuple[str, ...] = ()


def plan_of(campaign: files.Campaign, backend: str, account: Account, runtime: str) -> Plan:
    """The steps of a campaign, run after run; what the platform or the account does not have is left out.

    Raises InputError when nothing is left.
    """
    planner = _Planner(campaign, backend, account, runtime)
    steps = tuple(step for run in range(campaign.runs) for step in planner.steps(run))
    if not steps:
        reasons = "; ".join(planner.left_out) or "no probe is meant for it"
        raise InputError(f"campaign {campaign.name}: nothing to measure on {backend}: {reasons}")
    return Plan(steps, tuple(planner.left_out))


@dataclass
class _Planner:
    """Where steps are made; `left_out` says what was not, once for each reason."""

    campaign: files.Campaign
    backend: str
    account: Account
    runtime: str
    left_out: dict[str, None] = field(default_factory=dict)

    def steps(self, run: int) -> Iterator[Step]:
        """Of one run, in order."""
        for number, probe in enumerate(self.campaign.probes):
            if self.backend not in probe.backends:
                if not any(
                    self.backend in each.backends for each in self.campaign.probes if each.probe == probe.probe
                ):
                    self._leave_out(f"{probe.probe}: not asked for on {self.backend}")
                continue
            done = set()
            for name in probe.packages:
                package = self._package(probe, self.campaign.packages[name])
                if package is None or package in done:
                    continue
                done.add(package)
                for memory_mb in probe.memory_mb:
                    if not self._fits(memory_mb):
                        continue
                    place = f"{number}-{probe.probe}-{name}-{memory_mb}"
                    function = ProbeFunction(f"r{run}-{place}", memory_mb, package, timeout_s=30)
                    steps = list(self._works(probe, function))
                    timeout_s = max((step.function.timeout_s for step in steps), default=0)
                    for index, step in enumerate(steps):  # those of one function are deployed with one timeout
                        patient = replace(step.function, timeout_s=timeout_s)
                        yield replace(step, key=f"{run}/{place}/{index}", run=run, function=patient)

    def _works(self, probe: files.Probe, function: ProbeFunction) -> Iterable[Step]:
        new = partial(Step, "", 0, probe.probe, samples=probe.samples)
        match probe:
            case files.Cold():
                return [new(function, Nothing(), manner="cold")]
            case files.Warm():
                return [new(function, Nothing(), manner="warm")]
            case files.Multiply() | files.Expert():
                took_s = probe.seconds * probe.repeats
                patient = replace(function, timeout_s=_timeout(20 * took_s))
                works = self._cpu_works(probe, function.memory_mb)
                return [new(patient, work, manner="sized", call_s=took_s) for work in works]
            case files.Move():
                return [_moving(new, function, work) for work in self._moves(probe)]
            case files.Send():
                pairs = [(size, 0) for size in probe.size_bytes] + [(0, size) for size in probe.answer_bytes]
                return [_sending(new, function, there, back, probe.repeats) for there, back in pairs]
            case files.PayloadLimit():
                low, high = probe.between_bytes
                ways = [_sending(new, function, high, 0, 1), _sending(new, function, 0, high, 1)]
                return [
                    replace(step, manner="limit", samples=1, between=(low, high), within=probe.within_bytes)
                    for step in ways
                ]
            case files.KeepAlive():
                return self._gaps(new, function, probe)
            case files.Burst():
                return self._bursts(new, function, probe)

    def _package(self, probe: files.Probe, package: files.Package) -> ProbePackage | None:
        """As the platform has it. Where only cold starts tell a package apart, the plain one stands for it."""
        found, known = package.probe_package(self.runtime), self.account.packages
        if self.backend == "local" and found.package_type == "image":
            self._leave_out(f"package {found.name}: the embedded endpoint runs no images")
            return None
        if known is None or found.name in known:
            return found
        plain = package.model_copy(update={"imports": ()}).probe_package(self.runtime)
        if probe.probe != "cold" and plain.name in known:
            return plain
        self._leave_out(f"package {found.name}: the platform has none of that name")
        return None

    def _fits(self, memory_mb: int) -> bool:
        most_mb = self.account.most_memory_mb
        if memory_mb > most_mb:
            self._leave_out(f"{memory_mb} MB: the account allows {most_mb} MB at most")
            return False
        if self.backend == "local" and memory_mb > self.local_cores * self.mb_per_vcpu:
            vcpus = memory_mb / self.mb_per_vcpu
            self._leave_out(f"{memory_mb} MB: {vcpus:.1f} cores, and this machine has {self.local_cores}")
            return False
        return True

    @property
    def local_cores(self) -> int:
        """Cores that this process may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def mb_per_vcpu(self) -> float:
        """Memory that buys a vCPU."""
        return self.campaign.local.mb_per_core if self.backend == "local" else MB_PER_VCPU

    def _cpu_works(self, probe: files.Multiply | files.Expert, memory_mb: int) -> list[Work]:
        """Works of about the duration that is wanted if a vCPU does FLOPS_PER_VCPU; mostly it does more."""
        vcpus = memory_mb / self.mb_per_vcpu
        if isinstance(probe, files.Multiply):
            threads = [n for n in probe.threads if n <= max(1, math.ceil(vcpus))]
            return [Multiply(FLOPS_PER_VCPU * min(n, vcpus) * probe.seconds, n, probe.repeats) for n in threads]
        made: list[Work] = []
        for tokens in probe.tokens:
            flop = 4.0 * probe.hidden * probe.intermediate * tokens
            passes = max(1, round(FLOPS_PER_VCPU * vcpus * probe.seconds / flop))
            made.append(ExpertPass(tokens, probe.hidden, probe.intermediate, passes, probe.repeats))
        return made

    def _moves(self, probe: files.Move) -> list[GetObjects | PutObjects]:
        kind = GetObjects if probe.probe == "get" else PutObjects
        pairs = [(size, n) for size in probe.size_bytes for n in probe.connections]
        return [kind(size, n, probe.repeats) for size, n in pairs if n == 1 or size >= n * LEAST_PART_BYTES]

    def _gaps(self, new: partial[Step], function: ProbeFunction, probe: files.KeepAlive) -> list[Step]:
        at_once = self._at_once(probe.instances)
        made = []
        for gap in dict.fromkeys(probe.idle_s):
            each = replace(function, name=f"{function.name}-{gap:g}", timeout_s=_timeout(probe.seconds))
            step = new(each, Wait(probe.seconds), manner="idle", call_s=probe.seconds)
            made.append(replace(step, at_once=at_once, idle_s=gap))
        return made

    def _bursts(self, new: partial[Step], function: ProbeFunction, probe: files.Burst) -> list[Step]:
        made = []
        for at_once in dict.fromkeys(self._at_once(n) for n in probe.at_once):
            each = replace(
                function, name=f"{function.name}-{at_once}", timeout_s=_timeout(probe.seconds)
            )  # a function of its own: its instances are all new
            step = new(each, Wait(probe.seconds), manner="burst", call_s=probe.seconds)
            made.append(replace(step, at_once=at_once, rest_s=probe.rest_s))
        return made

    def _at_once(self, wanted: int) -> int:
        if wanted > self.account.concurrency:
            self._leave_out(f"{wanted} calls at once: the account allows {self.account.concurrency}, so that many")
        return min(wanted, self.account.concurrency)

    def _leave_out(self, reason: str) -> None:
        self.left_out[reason] = None


def _moving(new: partial[Step], function: ProbeFunction, work: GetObjects | PutObjects) -> Step:
    took_s = work.repeats * (REQUEST_S + work.size_bytes / BYTES_PER_S)
    return new(replace(function, timeout_s=_timeout(10 * took_s)), work, manner="warm", call_s=took_s)


def _sending(new: partial[Step], function: ProbeFunction, there: int, back: int, repeats: int) -> Step:
    target = replace(function, name=f"{function.name}-target")
    took_s = repeats * (REQUEST_S + (there + back) / BYTES_PER_S)
    work = Send(target.name, there, back, repeats)
    function = replace(function, timeout_s=_timeout(10 * took_s))
    return new(function, work, manner="warm", call_s=took_s, target=target)


def _timeout(took_s: float) -> int:
    return min(900, max(60, math.ceil(took_s)))


def scaled(work: Work, factor: float) -> Work:
    """CPU work that takes so many times as long."""
    if isinstance(work, Multiply):
        return replace(work, flop=work.flop * factor)
    if isinstance(work, ExpertPass):
        return replace(work, passes=max(1, round(work.passes * factor)))
    return work
