"""Probes of a simulated platform: what a measurement does on the real one, played on a profile."""

from __future__ import annotations

import numpy as np
import simpy

from moe.errors import InputError, nearest
from simulator.cloud.call import Phase
from simulator.cloud.invocation import Invoke, Target
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.network import Link, LinkRates
from simulator.cloud.phases import Compute, Sleep
from simulator.cloud.platform import Platform, platform_of_profile
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import with_constant
from simulator.records import Record

MANY = 4000  # calls of a probe whose tail is looked at
EVERY_S = 30.0  # between calls of a probe: nothing of one is left when the next begins


def platform(profile: PlatformProfile, seed: int = 0) -> Platform:
    """The platform that a profile describes."""
    return platform_of_profile(profile, None, np.random.default_rng(seed))


def calls(profile: PlatformProfile, memory_mb: int, phase: Phase, count: int, warm: int = 1) -> list[Record]:
    """Rows of so many calls, one after the other, of a function that does one thing."""
    service = LambdaService(simpy.Environment(), platform(profile))
    service.deploy("probe", memory_mb, warm=warm)
    for k in range(count):
        service.after(k * EVERY_S, lambda: service.invoke(Record(0, 0, "probe", "probe", memory_mb), (phase,)))
    service.env.run()
    return service.records


def seconds(profile: PlatformProfile, memory_mb: int, phase: Phase, count: int = 400) -> np.ndarray:
    """What the handler takes, s, shape (count,)."""
    return np.array([row.ended_s - row.started_s for row in calls(profile, memory_mb, phase, count)])


def seconds_at_once(profile: PlatformProfile, memory_mb: int, phase: Phase, count: int = 400) -> np.ndarray:
    """The same of calls at the same time, each on an instance of its own: no two of these are alike."""
    service = LambdaService(simpy.Environment(), platform(profile))
    service.deploy("probe", memory_mb, warm=count)
    for _ in range(count):
        service.invoke(Record(0, 0, "probe", "probe", memory_mb), (phase,))
    service.env.run()
    return np.array([row.ended_s - row.started_s for row in service.records])


def warm_starts(profile: PlatformProfile, count: int) -> np.ndarray:
    """From the request of a warm call to its handler, s, shape (count,)."""
    return np.array([row.started_s - row.requested_s for row in calls(profile, 1024, Compute(), count)])


def inits(profile: PlatformProfile, count: int, package: str | None = None) -> np.ndarray:
    """INIT of calls each of which starts an instance of a package (None: the default), s, shape (count,)."""
    package = package or profile.start.package
    if package not in profile.start.packages:
        raise InputError(
            f"profile '{profile.name}': start.packages: no package '{package}', which was measured"
            f"{nearest(package, profile.start.packages)}"
        )
    start = profile.start.model_copy(update={"package": package, "keep_alive_halving_s": None})
    forgetful = with_constant(profile.model_copy(update={"start": start}), ("start", "keep_alive_s"), 0.0)
    rows = calls(forgetful, 1024, Compute(), count, warm=0)
    return np.array([row.phases["init"][1] - row.phases["init"][0] for row in rows])


def relative_seconds(profile: PlatformProfile, memory_mb: int, base_mb: int, threads: int | None) -> float:
    """Time of the same work at one memory size over that at another, means."""
    work = Compute(vcpu_s=1.0, threads=threads)
    return float(seconds(profile, memory_mb, work).mean() / seconds(profile, base_mb, work).mean())


def bytes_moved(profile: PlatformProfile, memory_mb: int, after_s: np.ndarray) -> np.ndarray:
    """Bytes that the network of a fresh instance has moved one way by each time; shape of `after_s` (s).

    As iperf measures it, which neither decrypts nor copies: so not bound by the function's CPU.
    """
    network = profile.network
    burst_bytes_per_s, burst_bytes = network.burst_bytes_per_s.median, network.burst_bytes.median
    rates = LinkRates(burst_bytes_per_s, burst_bytes=burst_bytes, sustained=network.sustained_at(memory_mb))
    link = Link(rates, 0.0)
    pieces = np.full(int(after_s.max() * link.rates.function / 1e6) + 1, 1e6)
    through = np.append(0.0, link.stream(0.0, pieces))
    return np.interp(after_s, through, np.append(0.0, np.cumsum(pieces)))


def warm_share(profile: PlatformProfile, instances: int, idle_s: float) -> float:
    """Share of warm calls among as many as there were instances, each idle since so long."""
    functions = 900 // instances  # below the account's concurrency
    warm: list[bool] = []
    for seed in range(5):
        service = LambdaService(simpy.Environment(), platform(profile, seed))

        def burst(service: LambdaService = service) -> None:
            for k in range(functions * instances):
                service.invoke(Record(0, 0, "probe", f"probe-{k // instances}", 128), (Sleep(1.0),))

        burst()
        service.env.run()
        first = len(service.records)
        service.after(idle_s, burst)
        service.env.run()
        warm += [not row.cold for row in service.records[first:]]
    return float(np.mean(warm))


def transfers(profile: PlatformProfile, payload_bytes: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """One function invokes another with a payload: s until the request is there, and until its handler starts.

    Args:
        payload_bytes: of the encoded payload. count: of calls.

    Returns:
        Both of shape (count,).
    """
    raw = payload_bytes / profile.payload.encoding_factor.median
    target = Target(Record(0, 0, "consumer", "consumer", 1024), (Compute(),), raw)
    service = LambdaService(simpy.Environment(), platform(profile))
    service.deploy("producer", 1024, warm=1)
    service.deploy("consumer", 1024, warm=1)
    chain = (Invoke((target,), wait=True),)
    for k in range(count):
        service.after(k * EVERY_S, lambda: service.invoke(Record(0, 0, "producer", "producer", 1024), chain))
    service.env.run()
    sent, got = ([row for row in service.records if row.role == role] for role in ("producer", "consumer"))
    arrived = [b.requested_s - a.started_s for a, b in zip(sent, got, strict=True)]
    started = [b.started_s - a.started_s for a, b in zip(sent, got, strict=True)]
    return np.array(arrived), np.array(started)


def requests_in_a_second(profile: PlatformProfile, kind: str) -> int:
    """GET or PUT requests that S3 serves in a second, of ten times as many as it could."""
    storage = platform(profile).storage
    limit = (storage.gets if kind == "get" else storage.puts).limit
    assert limit is not None
    return sum(limit.admits(at) for at in np.linspace(0.0, 1.0, 10 * limit.per_s, endpoint=False).tolist())
