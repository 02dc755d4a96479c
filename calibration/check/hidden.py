"""Platforms with known constants, hidden behind a campaign: are they found again, as surely as it is said?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from calibration.calibrated import NOT_MEASURED
from calibration.check.simulated_backend import SimulatedBackend
from calibration.fitting.bootstrap import Fitted
from calibration.fitting.laws import table_of
from lambda_probe.campaign.file import Campaign
from lambda_probe.campaign.run import run_campaign
from simulator.draws import LARGEST_Z, quantiles_at
from simulator.profiles.constant import Constant, Quantiles
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import Keys, constant_at, with_constant

FACTORS: dict[Keys, tuple[float, float]] = {
    ("start", "warm_s"): (0.5, 2.0),
    ("start", "packages", "python3.12-x86_64-zip", "init_s"): (0.5, 3.0),
    ("start", "packages", "python3.12-x86_64-zip", "provisioning_s"): (0.5, 3.0),
    ("start", "fetch_bytes_per_s"): (0.3, 1.5),
    ("start", "keep_alive_s"): (0.4, 2.4),
    ("concurrency", "scaling_burst"): (0.1, 0.6),
    ("concurrency", "scaling_per_s"): (0.05, 0.5),
    ("compute", "mb_per_vcpu"): (0.8, 1.3),
    ("compute", "flops_per_vcpu"): (0.3, 2.0),
    ("compute", "scaling_exponent"): (0.9, 1.08),
    ("compute", "weight_bandwidth_per_vcpu"): (0.4, 2.0),
    ("compute", "weight_bandwidth_per_function"): (0.6, 1.5),
    ("compute", "runtime_bytes"): (0.7, 2.0),
    ("network", "function_bytes_per_s_per_mb"): (0.6, 1.5),
    ("network", "sustained_bytes_per_s"): (0.5, 1.5),
    ("network", "burst_bytes_per_s"): (0.25, 1.0),
    ("network", "burst_bytes"): (0.3, 1.3),
    ("storage", "connection_bytes_per_s"): (0.6, 1.5),
    ("storage", "get_latency_s"): (0.5, 2.0),
    ("storage", "put_latency_s"): (0.5, 2.0),
    ("payload", "overhead_s"): (0.5, 2.0),
    ("payload", "bytes_per_s"): (0.5, 2.0),
    ("payload", "limit_bytes"): (0.9, 1.1),
}
"""How far a hidden platform's constants are from the packaged ones: factors, drawn evenly in their logarithm."""
JITTER_P99 = (1.03, 1.3)
OPTIONAL: dict[Keys, tuple[str, float, float]] = {
    ("storage", "get_vcpu_s"): ("s", 0.01, 0.04),
    ("storage", "put_vcpu_s"): ("s", 0.01, 0.05),
    ("network", "function_upload_bytes_per_s_per_mb"): ("bytes/s/MB", 20e3, 40e3),
    ("payload", "function_bytes_per_s_per_mb"): ("bytes/s/MB", 8e3, 20e3),
}
"""Of a third of the platforms: unit, and between which values."""
INSTANCE_FACTOR, PUT_CONNECTION = ("compute", "instance_factor"), ("storage", "put_connection_bytes_per_s")
INSTANCE_P99, PUT_CONNECTION_BYTES_PER_S = (1.04, 1.25), (20e6, 50e6)
"""Of another third, whose instances differ in speed and whose uploads have a rate of their own."""


@dataclass(frozen=True)
class Recovered:
    """One constant of one hidden platform, as a campaign told it.

    Attributes:
        platform, seed: which. name: of the constant, dotted. true, found: the value, of a distribution what its
            interval is of. interval: 95%, None where nothing is said. bracket: the data tell no more than it.
        kept: why the base's value stands; None where it does not. ks: of distributions: distance of the two
            distribution functions (Kolmogorov and Smirnov).
    """

    platform: int
    seed: int
    name: str
    true: float
    found: float
    interval: tuple[float, float] | None
    bracket: bool
    kept: str | None
    ks: float | None

    @property
    def holds(self) -> bool | None:
        """Whether the interval holds the truth; None: there is none."""
        return None if self.interval is None else self.interval[0] <= self.true <= self.interval[1]

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.found / self.true - 1)


def hidden_platform(base: PlatformProfile, number: int) -> PlatformProfile:
    """A platform of which nothing is as in the base; every other one halves idle instances, each third one has
    transfers that are work of the function's own CPU, each third one instances that differ.
    """
    rng = np.random.default_rng([17, number])
    profile = base
    for path in (*NOT_MEASURED, INSTANCE_FACTOR, PUT_CONNECTION):
        profile = with_constant(profile, path, None)
    for path, (low, high) in FACTORS.items():
        factor = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        profile = with_constant(profile, path, constant_at(profile, path).scaled(factor))
    jitter = Quantiles(quantiles={0.5: 1.0, 0.99: float(rng.uniform(*JITTER_P99))})
    profile = with_constant(
        profile, ("compute", "jitter"), base.compute.jitter.model_copy(update={"value": jitter})
    )
    made = {"source": "drawn", "date": "2026", "confidence": "low"}
    if number % 2:
        period_s = profile.start.keep_alive_s.median / 2
        halving = Constant(value=period_s, unit="s", **made)
        profile = with_constant(profile, ("start", "keep_alive_halving_s"), halving)
    values = {path: float(rng.uniform(low, high)) for path, (_, low, high) in OPTIONAL.items()}
    if number % 3 == 2:
        for path, value in values.items():
            profile = with_constant(profile, path, Constant(value=value, unit=OPTIONAL[path][0], **made))
    if number % 3 == 1:
        spread = Quantiles(quantiles={0.5: 1.0, 0.99: float(rng.uniform(*INSTANCE_P99))})
        profile = with_constant(profile, INSTANCE_FACTOR, Constant(value=spread, unit="1", **made))
        rate = float(rng.uniform(*PUT_CONNECTION_BYTES_PER_S))
        profile = with_constant(profile, PUT_CONNECTION, Constant(value=rate, unit="bytes/s", **made))
    return profile.model_copy(update={"name": f"hidden-{number}"})


def recovered(fits: Iterable[Fitted], true: PlatformProfile, platform: int, seed: int) -> Iterator[Recovered]:
    """Every constant that was fitted, beside the hidden one."""
    for found in fits:
        path, law = found.quantity.path, found.quantity.law
        wanted = constant_at(true, path)
        if wanted is None:
            continue
        tables = [table_of(each.value) for each in (found.constant, wanted)]
        yield Recovered(
            platform,
            seed,
            ".".join(path),
            true=law.number(wanted.value),
            found=law.number(found.constant.value),
            interval=found.fit.interval,
            bracket=found.quantity.between is not None,
            kept=found.constant.kept,
            ks=ks_distance(*tables) if isinstance(wanted.value, Quantiles) else None,
        )


def measured(campaign: Campaign, true: PlatformProfile, seed: int, folder: Path) -> Path:
    """A campaign's folder, of a platform."""
    start = true.start
    run_campaign(campaign, SimulatedBackend(true, seed), folder, start.packages[start.package].runtime)
    return folder


def ks_distance(fitted: dict[float, float], true: dict[float, float]) -> float:
    """The largest difference of two tables' distribution functions, as a simulation draws from them."""
    z = np.linspace(-LARGEST_Z, LARGEST_Z, 20_001)
    p = ndtr(z)
    mine, yours = (np.maximum.accumulate(quantiles_at(table, p)) for table in (fitted, true))
    x = np.concatenate([mine, yours])
    return float(np.abs(np.interp(x, mine, p) - np.interp(x, yours, p)).max())
