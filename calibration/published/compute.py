"""Compute by memory size, as others measured it; and the cluster's price.

Of each file: what it gives a profile (`_fit`), and what is held against a profile (`_check`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from calibration.check import probes
from calibration.check.checks import MS, Measured, of_calls, scatter
from calibration.fitting.bootstrap import Quantity
from calibration.fitting.laws import Level, table_of
from calibration.published.rates import G, product_rate
from calibration.tables import Origin
from simulator.cloud.phases import Compute
from simulator.draws import quantile_at
from simulator.profiles.constant import Fit, VisibleCores
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

LEAST_MS = 40.0  # shorter computations show hiccups of milliseconds
RESNET50_FLOP = 8.2e9  # 4.1 G multiply-adds an image


def _single_thread(table: pd.DataFrame) -> pd.DataFrame:
    """Warm calls of the loop on x86."""
    warm = (table.workload == "cpu-intensive") & (table.start_type == "warm")
    return table[warm & (table.architecture == "x86_64")]


def _resnet50(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of images, one for each memory size."""
    rows = table[table.benchmark == "image_recognition_resnet50_pytorch_py"]
    return rows.dropna(subset=["compute_ms_p50"])


def single_thread_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """A SHA-256 loop on one thread, x86, warm; a language runtime is a run."""
    rows = _single_thread(table)
    largest = rows.memory_mb.max()
    vcpu, tails = [], []
    for _, run in rows.groupby("runtime"):
        run = run.sort_values("memory_mb")
        full, small = run[run.memory_mb == largest], run[run.memory_mb < largest]
        if len(full) and len(small):
            ratio = small.duration_ms_mean / float(full.duration_ms_mean.iloc[0])
            vcpu.append((small.memory_mb * ratio).to_numpy(float))
            over_mean = (full.duration_ms_p99 / full.duration_ms_mean).to_numpy(float)
            tails.append(_p99_over_median(over_mean))
    what = "cebert/aws-lambda-performance-benchmarks, SHA-256 loop on one thread"
    yield Quantity(
        ("compute", "mb_per_vcpu"),
        "MB",
        Level(),
        vcpu,
        origin,
        f"{what}: memory x time over time at {largest} MB, which is taken as a whole vCPU",
        "runtime",
        "memory of a vCPU, MB",
        most="medium",
    )
    yield Quantity(
        ("compute", "jitter"),
        "1",
        Level(tail=True),
        tails,
        origin,
        f"{what}, p99 over mean at {largest} MB as a lognormal",
        "runtime",
        "p99 over median of a computation",
        most="medium",
    )


def _p99_over_median(over_mean: np.ndarray) -> np.ndarray:
    """p99 over median of the lognormal whose p99 over mean is given: exp(z sigma - sigma^2 / 2)."""
    z = ndtri(0.99)
    sigma = z - np.sqrt(np.maximum(z**2 - 2 * np.log(over_mean), 0.0))
    return np.exp(z * sigma)


def single_thread_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """A SHA-256 loop on one thread."""
    rows = _single_thread(table)
    by_memory = rows.pivot_table(index="runtime", columns="memory_mb", values="duration_ms_mean")
    between = f"{len(by_memory)} runtimes"
    for memory in (128, 512):
        ratios = by_memory[memory] / by_memory[1769]
        simulated = probes.relative_seconds(profile, memory, 1769, threads=1)
        yield Measured(
            f"SHA-256 loop at {memory} MB, time over that at 1,769 MB",
            "",
            ratios.mean(),
            simulated,
            scatter(ratios),
            between,
            "unseen",
            "cebert, 2025-12",
        )
    full = rows[rows.memory_mb == 1769]
    tails = full.duration_ms_p99 / full.duration_ms_mean
    took = probes.seconds(profile, 1769, Compute(vcpu_s=1.0, threads=1), probes.MANY)
    yield Measured(
        "SHA-256 loop at 1,769 MB, p99 over mean",
        "",
        tails.mean(),
        float(np.quantile(took, 0.99) / took.mean()),
        scatter(tails),
        between,
        "fitted",
        "cebert, 2025-12",
    )


def resnet50_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """An image at several memory sizes, in guests of 2020 that had neither AVX2 nor FMA."""
    beside = partial(Measured, unit="ms", data="of its time", source="SeBS, 2020")
    for _, row in _resnet50(table).iterrows():
        took = probes.seconds_at_once(profile, int(row.memory_mb), Compute(flops=RESNET50_FLOP))
        yield beside(
            f"ResNet-50 of an image at {row.memory_mb:,} MB, p50",
            measured=row.compute_ms_p50,
            simulated=float(np.median(took)) / MS,
            spread=None,
            spread_of=of_calls(row, "compute_ms_p50", "compute_ms_p99"),
        )


def visible_cores_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[VisibleCores]:
    """Cores seen by memory: a rule that was read off, not fitted."""
    yield VisibleCores(
        up_to_mb=dict(zip(table.memory_mb_to.tolist(), table.visible_vcpus.tolist(), strict=True)),
        source="rwnx/lambda-cpuinfo, cores seen by memory size",
        date=origin.date,
        confidence="high",
        fit=Fit(method="read off", samples=len(table), runs=1, file=origin.file, sha256=origin.sha256),
    )


def visible_cores_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    beside = partial(
        Measured, unit="", spread_of="a step, not a sample", data="fitted", source="rwnx/lambda-cpuinfo, 2021-02"
    )
    platform = probes.platform(profile)
    for _, row in table.iterrows():
        seen = {platform.compute.visible_cores(int(edge)) for edge in (row.memory_mb_from, row.memory_mb_to)}
        yield beside(
            f"cores seen from {row.memory_mb_from:,} to {row.memory_mb_to:,} MB",
            measured=row.visible_vcpus,
            simulated=float(max(seen, key=lambda cores: abs(cores - row.visible_vcpus))),
            spread=None,
        )


def _compute_tails(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of benchmarks that compute for longer than a hiccup, p99 over median; `uploader` waits for the web."""
    rows = table[(table.compute_ms_p50 > LEAST_MS) & (table.benchmark != "uploader_py")]
    return rows.assign(p99_over_p50=rows.compute_ms_p99 / rows.compute_ms_p50)


def instance_fit(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
    """Calls on many instances at once have a wider tail than those of one: the rest is between instances."""
    z, jitter = ndtri(0.99), table_of(profile.compute.jitter.value)
    of_one = np.log(quantile_at(jitter, 0.99) / quantile_at(jitter, 0.5)) / z
    runs = []
    for _, rows in _compute_tails(table).groupby("benchmark"):
        sigma = np.log(rows.p99_over_p50.to_numpy(float)) / z
        runs.append(np.exp(z * np.sqrt(np.maximum(sigma**2 - of_one**2, 0.0))))
    yield Quantity(
        ("compute", "instance_factor"),
        "1",
        Level(tail=True),
        runs,
        origin,
        "SeBS, p99 over median of warm calls on many instances less the jitter of one, as lognormals",
        "benchmark",
        "p99 over median between instances",
        most="low",
    )


def instance_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """The tail of whole computations, each on an instance of its own."""
    tails = _compute_tails(table).p99_over_p50
    took = probes.seconds_at_once(profile, 1769, Compute(vcpu_s=1.0), 900)
    yield Measured(
        "computation on many instances, p99 over p50",
        "",
        tails.mean(),
        float(np.quantile(took, 0.99) / np.median(took)),
        scatter(tails),
        f"{len(tails)} benchmarks and memory sizes",
        "fitted",
        "SeBS, 2020",
    )


def functions_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Two functions of a few hundred milliseconds."""
    beside = partial(Measured, unit="", data="unseen", source="pacslab/SLApp, 2020")
    by_memory = table.pivot_table(index="function", columns="memory_mb", values="duration_ms_p50")
    for memory in (128, 512, 1024):
        ratios = by_memory[memory] / by_memory[1792]
        simulated = probes.relative_seconds(profile, memory, 1792, threads=1)
        yield beside(
            f"functions at {memory:,} MB, time over that at 1,792 MB",
            measured=ratios.mean(),
            simulated=simulated,
            spread=scatter(ratios),
            spread_of=f"{len(ratios)} functions",
        )


def linpack_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Several threads, fp64, on hardware of 2017: absolute rates of a function."""
    beside = partial(Measured, unit="GFLOP/s", data="same runs", source="kfigiela, 2017")
    rows = table.set_index("memory_mb")
    for memory in (128, 512, 1024, 1536):
        row = rows.loc[memory]
        yield beside(
            f"Linpack, fp64, at {memory:,} MB",
            measured=row.gflops_mean,
            simulated=product_rate(profile, memory, "fp64") / G,
            spread=row.gflops_sd / row.gflops_mean,
            spread_of=f"{row.n:.0f} calls on many hosts",
        )


def cluster_price_fit(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
    """Price of the cluster's instance type."""
    rows = table[table.instance_type == profile.cluster.instance]
    yield Quantity(
        ("cluster", "price_per_hour"),
        "USD",
        Level(),
        [rows.usd_per_hour_linux_ondemand_us_east_1.to_numpy(float)] if len(rows) else [],
        origin,
        f"Amazon EC2 on-demand price of {profile.cluster.instance}, Linux, through aws/karpenter-provider-aws",
        "run",
        "price, USD/h",
        most="medium",
    )
