"""A small campaign on the simulator of a profile, written as a campaign's folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from calibration.check.simulated_backend import SimulatedBackend
from lambda_probe.campaign.backend import ProbeFunction, ProbePackage
from lambda_probe.campaign.measurements import FILE, Measured, row_of, write_measurements
from lambda_probe.campaign.works import (
    ExpertPass,
    GetObjects,
    Multiply,
    Nothing,
    PutObjects,
    Send,
    Wait,
    Work,
)
from simulator.profiles.schema import PlatformProfile

PLAIN = "python3.12-x86_64-zip"
MIB = 2**20
MEMORY_MB = (512, 1024, 1769, 3008, 6000, 8000)
ALL = ("cold", "warm", "multiply", "expert", "get", "put", "send", "payload-limit", "keep-alive", "burst")


@dataclass
class Prober:
    """Calls a simulated platform and keeps the rows."""

    backend: SimulatedBackend
    run: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def function(self, name: str, memory_mb: int, package: str = PLAIN, padding: int = 0) -> ProbeFunction:
        made = ProbeFunction(f"r{self.run}-{name}", memory_mb, ProbePackage(package, padding_bytes=padding))
        if "image" in package:
            made = ProbeFunction(made.name, memory_mb, ProbePackage(package, "image"))
        self.backend.create(made)
        return made

    def call(self, probe: str, function: ProbeFunction, work: Work, count: int = 1) -> None:
        for _ in range(count):
            for attempt in self.backend.call(function.name, work):
                self._keep(Measured(self.run, probe, function, work, attempt))

    def at_once(self, probe: str, function: ProbeFunction, count: int, idle_s: float = float("nan")) -> None:
        work = Wait(0.5)
        for (attempt,) in self.backend.call_at_once([function.name] * count, work):
            self._keep(Measured(self.run, probe, function, work, attempt, idle_s, count))

    def _keep(self, measured: Measured) -> None:
        self.rows.append(row_of(measured, self.backend.facts, self.backend.prices, 0.0))


def probe(profile: PlatformProfile, runs: int = 8, seed: int = 0, probes: tuple[str, ...] = ALL) -> pd.DataFrame:
    """The rows of a campaign."""
    prober = Prober(SimulatedBackend(profile, seed))
    for run in range(runs):
        prober.run = run
        _start(prober, probes)
        _compute(prober, probes)
        _bytes(prober, probes)
    return pd.DataFrame(prober.rows)


def write(rows: pd.DataFrame, folder: Path, name: str = "small") -> Path:
    """The rows as a campaign's folder."""
    write_measurements(folder / FILE, rows.to_dict("records"), {"campaign": name})
    return folder


def _start(prober: Prober, probes: tuple[str, ...]) -> None:
    if "cold" in probes:
        for package, padding in ((PLAIN, 0), (PLAIN, 100_000_000), ("python3.12-x86_64-image", 0)):
            function = prober.function(f"cold-{package}-{padding}", 1024, package, padding)
            for _ in range(60 if padding else 150):
                prober.backend.forget(function.name)
                prober.call("cold", function, Nothing())
    if "warm" in probes:
        function = prober.function("warm", 1024)
        prober.call("warm", function, Nothing(), 501)
    if "keep-alive" in probes:
        for idle_s in (60.0, 120.0, 200.0, 240.0, 280.0, 320.0, 360.0, 420.0, 550.0, 590.0, 605.0, 900.0):
            function = prober.function(f"keep-alive-{idle_s}", 128)
            prober.at_once("keep-alive", function, 10)
            prober.backend.rest(idle_s)
            prober.at_once("keep-alive", function, 10, idle_s)
    if "burst" in probes:
        function = prober.function("burst", 128)
        for _ in range(3):
            prober.at_once("burst", function, 300)
            prober.backend.rest(3.0)


def _compute(prober: Prober, probes: tuple[str, ...]) -> None:
    for memory_mb in MEMORY_MB:
        if "multiply" in probes:
            function = prober.function(f"multiply-{memory_mb}", memory_mb)
            for threads in (1, 2, 4):
                prober.call("multiply", function, Multiply(5e9, threads, 6), 2)
        if "expert" in probes:
            function = prober.function(f"expert-{memory_mb}", memory_mb)
            for tokens in (1, 4, 32, 256):
                prober.call("expert", function, ExpertPass(tokens, passes=3, repeats=10), 2)


def _bytes(prober: Prober, probes: tuple[str, ...]) -> None:
    for kind, work in (("get", GetObjects), ("put", PutObjects)):
        if kind not in probes:
            continue
        for memory_mb in MEMORY_MB:
            function = prober.function(f"{kind}-{memory_mb}", memory_mb)
            prober.call(kind, function, work(1024, repeats=60))
            for size in (2 * MIB, 16 * MIB, 64 * MIB):
                prober.call(kind, function, work(size, repeats=3))
                prober.backend.rest(6.0)
            for size in (48 * MIB, 96 * MIB) * 4:
                prober.call(kind, function, work(size, 8))
                prober.backend.rest(6.0)
        function = prober.function(f"{kind}-large", MEMORY_MB[-1])
        prober.call(kind, function, work(64 * MIB, 8, 20))
    if "send" in probes:
        function, target = prober.function("send", 1769), prober.function("target", 1769)
        prober.backend.call(target.name, Nothing())
        for size in (1024, MIB // 2, MIB, 2 * MIB, 3 * MIB):
            prober.call("send", function, Send(target.name, size, 0, 150 if size == 1024 else 10))
    if "payload-limit" in probes:
        function, target = prober.function("limit", 1769), prober.function("limit-target", 1769)
        low, high = 2 * MIB, 8 * MIB
        while high - low > 16_384:
            size = (low + high) // 2
            prober.call("payload-limit", function, Send(target.name, size))
            low, high = (size, high) if prober.rows[-1]["status"] == "ok" else (low, size)
