"""The platform as the simulation runs it: rates, prices and streams of random numbers.

Made from a platform profile (tails, bursts, sharing, cold starts), or from a deployment problem: then it is the
*ideal platform*, with the problem's own constants and nothing else (docs/formats.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from simulator.cloud.billing import Prices
from simulator.cloud.storage import RequestLimit, Requests, Storage
from simulator.draws import Chances, Draws, Halvings, Lifetimes, Retries
from simulator.plan import DeploymentProblem, ProblemPlatform
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class LinkRates:
    """Bandwidth of one function, one way, bytes/s: its cap, that of a connection, and its token bucket."""

    function: float
    connection: float = math.inf
    burst_bytes: float = math.inf
    sustained: float = math.inf


@dataclass(frozen=True)
class Package:
    """How a function is packaged: what an instance of it goes through before its first call, and its price.

    Attributes:
        provisioning: placement, sandbox and fetch of a small package, s.
        init: duration of INIT, s; it does not depend on memory.
        init_is_billed: whether it is part of the billed duration.
        gb_s_usd: price of a GB-s on its architecture.
        fetch_bytes_per_s: of the code beyond a small package.
    """

    provisioning: Draws
    init: Draws | Lifetimes
    init_is_billed: bool
    gb_s_usd: float
    fetch_bytes_per_s: float = math.inf

    def provisioning_s(self, package_bytes: float = 0.0) -> float:
        """The next draw, with the fetch of so many bytes beyond a small package, s."""
        return self.provisioning.next() + package_bytes / self.fetch_bytes_per_s


@dataclass(frozen=True)
class Concurrency:
    """How many calls may run at once, and the token bucket of instances that each function may start."""

    account: float = math.inf
    scaling_burst: float = math.inf
    scaling_per_s: float = 0.0


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

    def throttle_wait_s(self, attempt: int) -> float:
        """Wait after the throttled attempt number `attempt` (from 1), s."""
        return min(self.throttle_cap_s, self.throttle_base_s * 2.0 ** min(attempt - 1, 30))


@dataclass(frozen=True)
class Platform:
    """Constants and random streams of one simulation.

    `link_rates` maps a function's memory (MB) to its bandwidth, `upload_rates` to that of what leaves it;
    `moved_by_cpu`: an upload takes time from the compute that goes on meanwhile; `get_vcpu_s`, `put_vcpu_s`: work
    of the function's vCPU for a request.
    `payload_overhead` stands in place of `warm_start`
    where a call carries a payload. `is_ideal` marks the closed form's platform: there both are counted, loads of
    non-MoE functions take the problem's durations as they stand, and handing on results is free.
    """

    name: str
    is_ideal: bool
    prices: Prices
    link_rates: Callable[[int], LinkRates]
    upload_rates: Callable[[int], LinkRates]
    moved_by_cpu: bool
    get_vcpu_s: float
    put_vcpu_s: float
    warm_start: Draws
    package: Package
    packages: Mapping[str, Package]
    init_limit_s: float
    keep_alive: Draws | Halvings
    instance_age_s: float
    timeout_s: float
    concurrency: Concurrency
    retries: Retries
    handler_error: Chances
    instance_life: Lifetimes
    storage: Storage
    jitter: Draws
    payload_overhead: Draws
    payload_bytes_per_s: float
    payload_bytes_per_s_per_mb: float
    payload_limit_bytes: float
    payload_encoding_factor: float
    stragglers: Chances
    straggler_factor: float
    asynchronous: Asynchronous
    mb_per_vcpu: float
    flops_per_vcpu: float
    visible_cores: Callable[[int], float]

    def speed(self, memory_mb: int, threads: int | None = None) -> float:
        """vCPUs that `threads` keep busy (None: one for each core that the function sees)."""
        return min(memory_mb / self.mb_per_vcpu, self.visible_cores(memory_mb), threads or math.inf)

    def get_work_s(self, memory_mb: int) -> float:
        """What the function's own vCPU does for a GET, s."""
        return self.get_vcpu_s / self.speed(memory_mb, 1) if self.get_vcpu_s else 0.0

    def put_work_s(self, memory_mb: int) -> float:
        """The same for a PUT."""
        return self.put_vcpu_s / self.speed(memory_mb, 1) if self.put_vcpu_s else 0.0

    def still(self) -> Platform:
        """The same platform with every distribution at its median, and nothing that goes wrong."""
        unused = np.random.default_rng(0)

        def median(draws: Draws) -> Draws:
            return Draws(draws.median, unused)

        return replace(
            self,
            warm_start=median(self.warm_start),
            jitter=median(self.jitter),
            payload_overhead=median(self.payload_overhead),
            storage=replace(
                self.storage,
                gets=Requests(median(self.storage.gets.latency)),
                puts=Requests(median(self.storage.puts.latency)),
            ),
        )

    def payload_seconds(self, size: float, memory_mb: float = math.inf) -> float:
        """Overhead and transfer of a payload of `size` raw bytes, s, alone on a function of `memory_mb`."""
        rate = min(self.payload_bytes_per_s, self.payload_bytes_per_s_per_mb * memory_mb)
        return self.payload_overhead.next() + size * self.payload_encoding_factor / rate

    def payload_rates(self, memory_mb: int) -> LinkRates:
        """What the payloads that a function sends at once share, and each one's own limit."""
        return LinkRates(self.payload_bytes_per_s_per_mb * memory_mb, self.payload_bytes_per_s)

    @property
    def get_latency(self) -> Draws:
        """Of S3's GET, s."""
        return self.storage.gets.latency

    @property
    def put_latency(self) -> Draws:
        """Of S3's PUT, s."""
        return self.storage.puts.latency


def platform_of_profile(
    profile: PlatformProfile, problem: ProblemPlatform | None, rng: np.random.Generator
) -> Platform:
    """The platform that a profile describes.

    The payload's limit and encoding are the deployment problem's: it chose how its payloads are encoded. Without
    one they are the profile's.
    """
    limit_bytes, encoding = profile.payload.limit_bytes.median, profile.payload.encoding_factor.median
    if problem is not None:
        limit_bytes, encoding = problem.payload_limit_bytes, problem.payload_encoding_factor
    streams = iter(rng.spawn(16 + 2 * len(profile.start.packages)))
    halving, lost_per_hour = profile.start.keep_alive_halving_s, profile.failures.instances_lost_per_hour.median
    halvings = Halvings(halving.median, next(streams)) if halving else None

    def draws(constant: Constant) -> Draws:
        value = constant.value
        return Draws(value if isinstance(value, float) else value.draws_from, next(streams))

    packages = _packages(profile, draws)
    network, connection = profile.network, profile.storage.connection_bytes_per_s.median
    by_memory = profile.payload.function_bytes_per_s_per_mb

    def rates(per_mb: Constant, memory_mb: int) -> LinkRates:
        return LinkRates(
            function=min(memory_mb * per_mb.median, network.burst_bytes_per_s.median),
            connection=connection,
            burst_bytes=network.burst_bytes.median,
            sustained=network.sustained_bytes_per_s.median,
        )

    return Platform(
        name=profile.name,
        is_ideal=False,
        prices=_prices(profile),
        link_rates=partial(rates, network.function_bytes_per_s_per_mb),
        upload_rates=partial(
            rates, network.function_upload_bytes_per_s_per_mb or network.function_bytes_per_s_per_mb
        ),
        moved_by_cpu=network.moved_by_cpu,
        get_vcpu_s=_median_or_0(profile.storage.get_vcpu_s),
        put_vcpu_s=_median_or_0(profile.storage.put_vcpu_s),
        warm_start=draws(profile.start.warm_s),
        package=packages[profile.start.package],
        packages=packages,
        init_limit_s=profile.start.init_limit_s.median,
        keep_alive=halvings or draws(profile.start.keep_alive_s),
        instance_age_s=profile.start.instance_age_s.median,
        timeout_s=profile.concurrency.timeout_s.median,
        concurrency=Concurrency(
            profile.concurrency.account.median,
            profile.concurrency.scaling_burst.median,
            profile.concurrency.scaling_per_s.median,
        ),
        retries=Retries(
            int(profile.retries.attempts.median),
            profile.retries.base_s.median,
            profile.retries.cap_s.median,
            next(streams),
            profile.retries.again_after,
        ),
        handler_error=Chances(profile.failures.handler_error.median, next(streams)),
        instance_life=Lifetimes(SECONDS_PER_HOUR / lost_per_hour if lost_per_hour else math.inf, next(streams)),
        storage=_storage(profile, draws, rng.spawn(4)),
        jitter=draws(profile.compute.jitter),
        payload_overhead=draws(profile.payload.overhead_s),
        payload_bytes_per_s=profile.payload.bytes_per_s.median,
        payload_bytes_per_s_per_mb=by_memory.median if by_memory is not None else math.inf,
        payload_limit_bytes=limit_bytes,
        payload_encoding_factor=encoding,
        stragglers=Chances(profile.failures.straggler.median, next(streams)),
        straggler_factor=profile.failures.straggler_factor.median,
        asynchronous=_asynchronous(profile),
        mb_per_vcpu=profile.compute.mb_per_vcpu.median,
        flops_per_vcpu=profile.compute.flops_per_vcpu.median,
        visible_cores=profile.compute.visible_cores.at,
    )


def _median_or_0(constant: Constant | None) -> float:
    return 0.0 if constant is None else constant.median


def _prices(profile: PlatformProfile) -> Prices:
    """What is charged on the day that a profile names."""
    return Prices(
        invocation=profile.prices.invocation.median,
        put=profile.storage_class.put_usd,
        get=profile.storage_class.get_usd,
        billing_step_s=profile.prices.billing_step_s.on(profile.prices.date),
        warm_start_is_billed=False,
        tmp_gb_s=profile.prices.tmp_gb_s.median,
        free_gb_s=profile.prices.free_gb_s.median,
        free_invocations=profile.prices.free_invocations.median,
        provisioned_gb_s=profile.prices.provisioned_gb_s.median,
        provisioned_duration_gb_s=profile.prices.provisioned_duration_gb_s.median,
        provisioned_step_s=profile.prices.provisioned_step_s.median,
    )


def _packages(profile: PlatformProfile, draws: Callable[[Constant], Draws]) -> dict[str, Package]:
    """Every package as a profile describes it; streams of random numbers are made in the order of their names."""
    start, prices = profile.start, profile.prices
    found = {}
    for name, package in sorted(start.packages.items()):
        rule = prices.init_is_billed if package.package_type == "zip" else prices.image_init_is_billed
        found[name] = Package(
            provisioning=draws(package.provisioning_s),
            init=draws(package.init_s),
            init_is_billed=bool(rule.on(prices.date)),
            gb_s_usd=(prices.gb_s if package.architecture == "x86_64" else prices.gb_s_arm64).median,
            fetch_bytes_per_s=start.fetch_bytes_per_s.median,
        )
    return found


def _asynchronous(profile: PlatformProfile) -> Asynchronous:
    """The asynchronous queue as a profile describes it."""
    queue = profile.asynchronous
    return Asynchronous(
        limit_bytes=queue.limit_bytes.median,
        age_limit_s=queue.age_limit_s.median,
        attempts=int(queue.attempts.median),
        error_waits_s=tuple(queue.error_wait_s.median * (1 + k) for k in range(int(queue.attempts.median))),
        throttle_base_s=queue.throttle_base_s.median,
        throttle_cap_s=queue.throttle_cap_s.median,
    )


def _storage(
    profile: PlatformProfile, draws: Callable[[Constant], Draws], rngs: Sequence[np.random.Generator]
) -> Storage:
    """S3 as a profile describes it; `rngs` has four generators."""
    chosen, storage, retries = profile.storage_class, profile.storage, profile.retries

    def requests(latency: Constant, limit_per_s: float, errors: int, backoff: int) -> Requests:
        share = storage.error.median
        return Requests(
            latency=draws(latency),
            limit=RequestLimit(int(limit_per_s)),
            errors=Chances(share, rngs[errors]) if share else None,
            retries=Retries(
                int(retries.attempts.median), retries.base_s.median, retries.cap_s.median, rngs[backoff]
            ),
        )

    return Storage(
        gets=requests(chosen.get_latency_s, chosen.get_limit_per_s, 0, 1),
        puts=requests(chosen.put_latency_s, chosen.put_limit_per_s, 2, 3),
        parts=int(storage.parts.median),
        least_part_bytes=storage.least_part_bytes.median,
        get_usd_per_byte=chosen.get_usd_per_byte,
        put_usd_per_byte=chosen.put_usd_per_byte,
    )


def ideal_platform(problem: DeploymentProblem) -> Platform:
    """The platform of the closed form: always warm, no jitter, no rounding, transfers at B_s and B_f."""
    constants = problem.platform
    bandwidth = dict(zip(constants.memory_mb, constants.storage_bandwidths.tolist(), strict=True))
    unused = np.random.default_rng(0)

    def rates(memory_mb: int) -> LinkRates:
        return LinkRates(function=bandwidth.get(memory_mb, constants.gate_bandwidth))

    def constant(value: float) -> Draws:
        return Draws(value, unused)

    return Platform(
        name="ideal",
        is_ideal=True,
        prices=Prices(
            invocation=constants.price_per_invocation,
            put=constants.price_per_put,
            get=constants.price_per_get,
            billing_step_s=0.0,
            warm_start_is_billed=True,
        ),
        link_rates=rates,
        upload_rates=rates,
        moved_by_cpu=False,
        get_vcpu_s=0.0,
        put_vcpu_s=0.0,
        warm_start=constant(constants.warm_start_s),
        package=Package(constant(0.0), constant(0.0), True, constants.price_per_gb_s),
        packages={},
        init_limit_s=math.inf,
        keep_alive=constant(math.inf),
        instance_age_s=math.inf,
        timeout_s=math.inf,
        concurrency=Concurrency(),
        retries=Retries(1, 0.0, 0.0, unused),
        handler_error=Chances(0.0, unused),
        instance_life=Lifetimes(math.inf, unused),
        storage=Storage(
            Requests(constant(constants.storage_delay_s)), Requests(constant(constants.storage_delay_s))
        ),
        jitter=constant(1.0),
        payload_overhead=constant(0.0),
        payload_bytes_per_s=constants.direct_bandwidth_bytes_per_s,
        payload_bytes_per_s_per_mb=math.inf,
        payload_limit_bytes=math.inf,
        payload_encoding_factor=1.0,
        stragglers=Chances(0.0, unused),
        straggler_factor=1.0,
        asynchronous=Asynchronous(),
        mb_per_vcpu=1.0,
        flops_per_vcpu=1.0,
        visible_cores=lambda _: math.inf,
    )
