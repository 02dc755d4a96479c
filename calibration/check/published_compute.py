"""Public measurements of compute by memory size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.check import probes
from calibration.check.checks import MS, Measured, of_calls, scatter
from simulator.cloud.phases import Compute
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

RESNET50_FLOP = 8.2e9  # 4.1 G multiply-adds an image
MANY = 4000  # calls of a probe whose tail is looked at


def single_thread(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """A SHA-256 loop on one thread."""
    rows = table[
        (table.workload == "cpu-intensive") & (table.start_type == "warm") & (table.architecture == "x86_64")
    ]
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
    took = probes.seconds(profile, 1769, Compute(vcpu_s=1.0, threads=1), MANY)
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


def functions_by_memory(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Two functions of a few hundred milliseconds."""
    by_memory = table.pivot_table(index="function", columns="memory_mb", values="duration_ms_p50")
    for memory in (128, 512, 1024):
        ratios = by_memory[memory] / by_memory[1792]
        simulated = probes.relative_seconds(profile, memory, 1792, threads=1)
        yield Measured(
            f"functions at {memory:,} MB, time over that at 1,792 MB",
            "",
            ratios.mean(),
            simulated,
            scatter(ratios),
            f"{len(ratios)} functions",
            "unseen",
            "pacslab/SLApp, 2020",
        )


def linpack(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Several threads, fp64, on hardware of 2017."""
    rows = table.set_index("memory_mb")
    for memory in (128, 512, 1024):
        row = rows.loc[memory]
        yield Measured(
            f"Linpack at {memory:,} MB, speed over that at 1,536 MB",
            "",
            row.gflops_mean / rows.loc[1536].gflops_mean,
            1 / probes.relative_seconds(profile, memory, 1536, threads=None),
            row.gflops_sd / row.gflops_mean,
            f"{row.n:.0f} calls on many hosts",
            "unseen",
            "kfigiela, 2017",
        )


def vcpu_tiers(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    platform = probes.platform(profile)
    for _, row in table.iterrows():
        seen = {platform.compute.visible_cores(int(edge)) for edge in (row.memory_mb_from, row.memory_mb_to)}
        yield Measured(
            f"cores seen from {row.memory_mb_from:,} to {row.memory_mb_to:,} MB",
            "",
            row.visible_vcpus,
            float(max(seen, key=lambda cores: abs(cores - row.visible_vcpus))),
            None,
            "a step, not a sample",
            "fitted",
            "rwnx/lambda-cpuinfo, 2021-02",
        )


def resnet50(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    rows = table[table.benchmark == "image_recognition_resnet50_pytorch_py"]
    for _, row in rows.iterrows():
        took = probes.seconds(profile, int(row.memory_mb), Compute(flops=RESNET50_FLOP))
        yield Measured(
            f"ResNet-50 of an image at {row.memory_mb:,} MB, p50",
            "ms",
            row.compute_ms_p50,
            float(np.median(took)) / MS,
            None,
            of_calls(row, "compute_ms_p50", "compute_ms_p99"),
            "fitted",
            "SeBS, 2020",
        )
