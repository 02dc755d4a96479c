"""The platform as the simulation runs it: rates, prices and streams of random numbers, in groups.

A group is made of a platform profile (`of`: tails, bursts, sharing, cold starts) or, for the *ideal platform*, of
the deployment problem's own constants and nothing else (`ideal`; a group without it has ideal defaults;
docs/formats.md). So a new constant is a key of the profile, a field of its group, and a line of `of` and `ideal`.
Groups with code of their own stand beside it: `starts`, `network`, `storage`, `billing`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from simulator.cloud.billing import Prices
from simulator.cloud.network import LinkRates, Network
from simulator.cloud.starts import Concurrency, Starts
from simulator.cloud.storage import Storage
from simulator.cloud.streams import UNUSED, Streams, fixed
from simulator.draws import Chances, Draws, Lifetimes, Retries
from simulator.plan import DeploymentProblem, ProblemPlatform
from simulator.profiles.closed_form import mean_speed, scaled_vcpus
from simulator.profiles.schema import PlatformProfile

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Asynchronous:
    """Lambda's asynchronous queue: an event is tried again until it succeeds, is too old or failed too often.

    Attributes:
        limit_bytes: of an event. age_limit_s: after so long it is dropped.
        attempts: that may run and fail. error_waits_s: before the second, the third, ...
        throttle_base_s, throttle_cap_s: exponential backoff where it was throttled.
    """

    limit_bytes: float = math.inf
    age_limit_s: float = math.inf
    attempts: int = 3
    error_waits_s: tuple[float, ...] = (60.0, 120.0)
    throttle_base_s: float = 1.0
    throttle_cap_s: float = 300.0

    @classmethod
    def of(cls, profile: PlatformProfile) -> Asynchronous:
        """A profile's."""
        queue = profile.asynchronous
        attempts = int(queue.attempts.median)
        return cls(
            limit_bytes=queue.limit_bytes.median,
            age_limit_s=queue.age_limit_s.median,
            attempts=attempts,
            error_waits_s=tuple(queue.error_wait_s.median * (1 + k) for k in range(attempts)),
            throttle_base_s=queue.throttle_base_s.median,
            throttle_cap_s=queue.throttle_cap_s.median,
        )

    def throttle_wait_s(self, attempt: int) -> float:
        """Wait after the throttled attempt number `attempt` (from 1), s."""
        return min(self.throttle_cap_s, self.throttle_base_s * 2.0 ** min(attempt - 1, 30))


@dataclass(frozen=True)
class Failures:
    """What goes wrong by itself: a handler fails, an instance is lost after its life (s) or computes slower."""

    handler_error: Chances
    instance_life: Lifetimes
    stragglers: Chances
    straggler_factor: float = 1.0

    @classmethod
    def of(cls, profile: PlatformProfile, streams: Streams) -> Failures:
        """A profile's."""
        failures, lost_per_hour = profile.failures, profile.failures.instances_lost_per_hour.median
        mean_life_s = SECONDS_PER_HOUR / lost_per_hour if lost_per_hour else math.inf
        return cls(
            handler_error=streams.chances("handler_error", failures.handler_error),
            instance_life=Lifetimes(mean_life_s, streams["instance_life"]),
            stragglers=streams.chances("stragglers", failures.straggler),
            straggler_factor=failures.straggler_factor.median,
        )

    @classmethod
    def ideal(cls) -> Failures:
        """The ideal platform's: none."""
        return cls(Chances(0.0, UNUSED), Lifetimes(math.inf, UNUSED), Chances(0.0, UNUSED))


@dataclass(frozen=True)
class Cpu:
    """A function's CPU, by its memory (MB), and how much its work jitters (a factor).

    `instance`: how much longer everything takes on a new instance (a factor). `sync_bytes_per_s`: of its /tmp.
    """

    jitter: Draws
    instance: Draws
    visible_cores: Callable[[int], float]
    mb_per_vcpu: float = 1.0
    flops_per_vcpu: float = 1.0
    scaling_exponent: float = 1.0
    sync_bytes_per_s: float = math.inf

    @classmethod
    def of(cls, profile: PlatformProfile, streams: Streams) -> Cpu:
        """A profile's."""
        compute = profile.compute
        return cls(
            jitter=streams.draws("jitter", compute.jitter),
            instance=(
                fixed(1.0)
                if compute.instance_factor is None
                else streams.draws("instance_factor", compute.instance_factor)
            ),
            visible_cores=compute.visible_cores.at,
            mb_per_vcpu=compute.mb_per_vcpu.median,
            flops_per_vcpu=compute.flops_per_vcpu.median * mean_speed(profile, profile.architecture),
            scaling_exponent=compute.scaling_exponent.median,
            sync_bytes_per_s=math.inf if compute.sync_bytes_per_s is None else compute.sync_bytes_per_s.median,
        )

    @classmethod
    def ideal(cls) -> Cpu:
        """The ideal platform's: the problem gives its work in seconds."""
        return cls(jitter=fixed(1.0), instance=fixed(1.0), visible_cores=lambda _: math.inf)

    def vcpus(self, memory_mb: int, threads: int | None = None) -> float:
        """Whole vCPUs' worth of work that `threads` do (None: one for each core that the function sees)."""
        vcpus = min(memory_mb / self.mb_per_vcpu, self.visible_cores(memory_mb), threads or math.inf)
        return float(scaled_vcpus(vcpus, self.scaling_exponent))

    def vcpus_unthrottled(self, memory_mb: int, threads: int | None = None) -> float:
        """The same while the function is not stopped: a thread runs on a core of its own."""
        cores = min(self.visible_cores(memory_mb), threads or math.inf)
        return float(scaled_vcpus(cores, self.scaling_exponent))


@dataclass(frozen=True)
class Payloads:
    """Payloads of calls: overhead (s), bandwidth, and what an encoded one may have.

    Attributes:
        overhead: in place of a call's warm start; on the ideal platform both are counted.
        bytes_per_s: of one. function_bytes_per_s_per_mb: of all that a function sends at once.
        limit_bytes: of an encoded one. encoding_factor: bytes of an encoded one over raw bytes.
    """

    overhead: Draws
    bytes_per_s: float
    function_bytes_per_s_per_mb: float = math.inf
    limit_bytes: float = math.inf
    encoding_factor: float = 1.0

    @classmethod
    def of(cls, profile: PlatformProfile, problem: ProblemPlatform | None, streams: Streams) -> Payloads:
        """A profile's; limit and encoding are the problem's, which chose how its payloads are encoded."""
        payload, by_memory = profile.payload, profile.payload.function_bytes_per_s_per_mb
        limit_bytes, encoding_factor = payload.limit_bytes.median, payload.encoding_factor.median
        if problem is not None:
            limit_bytes, encoding_factor = problem.payload_limit_bytes, problem.payload_encoding_factor
        return cls(
            overhead=streams.draws("payload_overhead", payload.overhead_s),
            bytes_per_s=payload.bytes_per_s.median,
            function_bytes_per_s_per_mb=math.inf if by_memory is None else by_memory.median,
            limit_bytes=limit_bytes,
            encoding_factor=encoding_factor,
        )

    @classmethod
    def ideal(cls, constants: ProblemPlatform) -> Payloads:
        """The ideal platform's: B_f."""
        return cls(fixed(0.0), constants.direct_bandwidth_bytes_per_s)

    def seconds(self, size: float, memory_mb: float = math.inf) -> float:
        """Overhead and transfer of a payload of `size` raw bytes, s, alone on a function of `memory_mb`."""
        rate = min(self.bytes_per_s, self.function_bytes_per_s_per_mb * memory_mb)
        return self.overhead.next() + size * self.encoding_factor / rate

    def rates(self, memory_mb: int) -> LinkRates:
        """What the payloads that a function sends at once share, and each one's own limit."""
        return LinkRates(self.function_bytes_per_s_per_mb * memory_mb, self.bytes_per_s)


@dataclass(frozen=True)
class OwnWork:
    """What functions do by themselves to exchange bytes, as on the embedded endpoint; on AWS nothing of it counts.

    Attributes:
        moved_by_cpu: whether an upload takes time from the compute that goes on meanwhile.
        get_vcpu_s, put_vcpu_s: work of the function's vCPU before it sends a request.
        poll_s: how often a function that waits looks into S3 for what it waits for; 0: it is told.
    """

    moved_by_cpu: bool = False
    get_vcpu_s: float = 0.0
    put_vcpu_s: float = 0.0
    poll_s: float = 0.0

    @classmethod
    def of(cls, profile: PlatformProfile) -> OwnWork:
        """A profile's; how often functions look, whoever runs them says."""
        network, storage = profile.network, profile.storage
        return cls(
            moved_by_cpu=network.moved_by_cpu,
            get_vcpu_s=0.0 if storage.get_vcpu_s is None else storage.get_vcpu_s.median,
            put_vcpu_s=0.0 if storage.put_vcpu_s is None else storage.put_vcpu_s.median,
        )


@dataclass(frozen=True)
class Platform:
    """Constants and random streams of one simulation, in the groups of the profile.

    `is_ideal` marks the closed form's platform: there a call with a payload has a warm start as well, loads of
    non-MoE functions take the durations of the problem, and `direct` hands results on where the problem says so.
    """

    name: str
    is_ideal: bool
    prices: Prices
    start: Starts
    concurrency: Concurrency
    retries: Retries
    asynchronous: Asynchronous
    failures: Failures
    compute: Cpu
    network: Network
    storage: Storage
    payload: Payloads
    own_work: OwnWork

    def get_work_s(self, memory_mb: int) -> float:
        """What the function's own vCPU does for a GET, s."""
        work = self.own_work.get_vcpu_s
        return work / self.compute.vcpus(memory_mb, 1) if work else 0.0

    def put_work_s(self, memory_mb: int) -> float:
        """The same for a PUT."""
        work = self.own_work.put_vcpu_s
        return work / self.compute.vcpus(memory_mb, 1) if work else 0.0

    def changed(self, **groups: Any) -> Platform:
        """The platform with other groups; of one that is given as a mapping, only those fields are other."""
        changes = {
            name: replace(getattr(self, name), **new) if isinstance(new, Mapping) else new
            for name, new in groups.items()
        }
        return replace(self, **changes)

    @cached_property
    def still(self) -> Platform:
        """The same platform with every distribution at its median, and nothing that goes wrong."""
        return self.changed(
            start=self.start.still(),
            compute={"jitter": fixed(self.compute.jitter.median), "instance": fixed(1.0)},
            payload={"overhead": fixed(self.payload.overhead.median)},
            storage=self.storage.still(),
        )


def platform_of_profile(
    profile: PlatformProfile, problem: ProblemPlatform | None, rng: np.random.Generator
) -> Platform:
    """The platform that a profile describes, for a deployment problem where there is one."""
    streams = Streams(profile, rng)
    return Platform(
        name=profile.name,
        is_ideal=False,
        prices=Prices.of(profile),
        start=Starts.of(profile, streams),
        concurrency=Concurrency.of(profile),
        retries=streams.retries("retries", profile.retries, profile.retries.again_after),
        asynchronous=Asynchronous.of(profile),
        failures=Failures.of(profile, streams),
        compute=Cpu.of(profile, streams),
        network=Network.of(profile),
        storage=Storage.of(profile, streams),
        payload=Payloads.of(profile, problem, streams),
        own_work=OwnWork.of(profile),
    )


def ideal_platform(problem: DeploymentProblem) -> Platform:
    """The platform of the closed form: always warm, no jitter, no rounding, transfers at B_s and B_f."""
    constants = problem.platform
    return Platform(
        name="ideal",
        is_ideal=True,
        prices=Prices.ideal(constants),
        start=Starts.ideal(constants),
        concurrency=Concurrency(),
        retries=Retries(1, 0.0, 0.0, UNUSED),
        asynchronous=Asynchronous(),
        failures=Failures.ideal(),
        compute=Cpu.ideal(),
        network=Network.ideal(constants),
        storage=Storage.ideal(constants),
        payload=Payloads.ideal(constants),
        own_work=OwnWork(),
    )
