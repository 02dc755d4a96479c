"""Public measurements of storage, network, compute and prices, as quantities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from calibration.fitting.bootstrap import Quantity
from calibration.fitting.laws import Bandwidth, Distribution, Level
from calibration.fitting.regression import burst_rate, token_bucket
from calibration.tables import Origin
from simulator.profiles.constant import Fit, VisibleCores
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

MS, MIB, MBYTE = 1e-3, 2.0**20, 1e6
RESNET50_FLOP = 8.2e9  # 4.1 G multiply-adds an image
SETTLED_S = 2.0  # from when the bucket of Skyrise's functions is empty
WHOLE_S = 5.0  # a run so long shows the sustained rate


def s3_latency(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """1 KB requests of both storage classes; one experiment of 100,000 requests is a run."""
    for storage, place in (("S3 Standard", ("storage",)), ("S3 Express One Zone", ("storage", "express"))):
        for operation, name, kind in (("Read", "get_latency_s", "GET"), ("Write", "put_latency_s", "PUT")):
            rows = table[(table.storage == storage) & (table.operation == operation)]
            yield Quantity(
                (*place, name),
                "s",
                Distribution(),
                [run.latency_ms.to_numpy(float) * MS for _, run in rows.groupby(["run_date", "source_file"])],
                origin,
                f"Skyrise, 1 KB {kind} from Lambda, {storage}",
                "probability",
                f"{storage}, {kind} of 1 KB, s",
            )


def s3_by_memory(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
    """Bandwidth by memory: the steepest of the sizes, since at larger ones the connection is the bound."""
    rows = table[table.benchmark == "thumbnailer_py"].dropna(subset=["download_bytes_p50", "download_ms_p50"])
    moving_s = rows.download_ms_p50 * MS - profile.storage.get_latency_s.median
    rates = (rows.download_bytes_p50 / moving_s / rows.memory_mb).to_numpy(float)
    yield Quantity(
        ("network", "function_bytes_per_s_per_mb"),
        "bytes/s/MB",
        Level(),
        [rates.max(keepdims=True)] if len(rates) else [],
        origin,
        "SeBS, S3 GET of 2.2 MB less the latency of a GET, the steepest by memory (512 MB), one run",
        "run",
        "bandwidth by memory, bytes/s/MB",
        most="low",
    )


def s3_connection(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """Objects over one connection from a machine whose network is no bound; a number of connections is a run."""
    points = table.assign(size=table.object_mb * MIB, took_s=table.ttlb_ms_p50 * MS)
    runs = [run[["size", "took_s"]].to_numpy(float) for _, run in points.groupby("threads")]
    yield Quantity(
        ("storage", "connection_bytes_per_s"),
        "bytes/s",
        Bandwidth(),
        [run for run in runs if len(set(run[:, 0])) > 1],
        origin,
        "dvassallo/s3-benchmark, S3 GET of 4-16 MiB over one connection from EC2 (SeBS has one size only)",
        "object, bytes",
        "GET, p50, s",
        most="medium",
    )


def network(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """Token bucket of a function; a run is a repetition, both ways, whose bucket was full at its start."""
    full = table[(table.source_file != "network_burst.json") | (table.repetition == 0)]
    buckets: list[np.ndarray] = []
    short: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for _, run in full.groupby(["source_file", "repetition"]):
        moved = [_moved(way) for _, way in run.groupby("direction")]
        if all(until_s[-1] >= WHOLE_S for until_s, _ in moved):
            buckets.append(np.array([token_bucket(*each, SETTLED_S) for each in moved]))
        else:
            short.append(moved)
    size = float(np.median(np.concatenate(buckets)[:, 1])) if buckets else np.nan
    bursts = [run[:, 0] for run in buckets]
    if buckets:
        bursts += [np.array([burst_rate(*each, size) for each in moved]) for moved in short]
    for name, unit, runs, what in (
        ("burst_bytes_per_s", "bytes/s", bursts, "rate while the first three quarters of the bucket are used"),
        ("burst_bytes", "bytes", [run[:, 1] for run in buckets], "bytes beyond the sustained rate, 2-10 s"),
        ("sustained_bytes_per_s", "bytes/s", [run[:, 2] for run in buckets], "rate from 2 to 10 s"),
    ):
        yield Quantity(
            ("network", name),
            unit,
            Level(),
            runs,
            origin,
            f"Skyrise, iperf3 from functions of 7,076 MB, {what}, each way",
            "run",
            f"{name}, {unit}",
            most="medium",
        )


def _moved(run: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals (s) and bytes moved by then, of one run one way."""
    run = run.sort_values("t_start_ms")
    interval_s = run.report_interval_ms.to_numpy(float) * MS
    moved = np.cumsum(run.throughput_MBps_reported.to_numpy(float) * MBYTE * interval_s)
    return run.t_start_ms.to_numpy(float) * MS + interval_s, moved


def single_thread(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """A SHA-256 loop on one thread, x86, warm; a language runtime is a run."""
    rows = table[
        (table.workload == "cpu-intensive") & (table.start_type == "warm") & (table.architecture == "x86_64")
    ]
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


def resnet50(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
    """FLOP/s of a vCPU: an image at several memory sizes, which make one run."""
    rows = table[table.benchmark == "image_recognition_resnet50_pytorch_py"].dropna(subset=["compute_ms_p50"])
    vcpus = rows.memory_mb / profile.compute.mb_per_vcpu.median
    rates = (RESNET50_FLOP / (rows.compute_ms_p50 * MS) / vcpus).to_numpy(float)
    yield Quantity(
        ("compute", "flops_per_vcpu"),
        "FLOP/s",
        Level(),
        [rates] if len(rates) else [],
        origin,
        "SeBS, ResNet-50 of an image in PyTorch, fp32, 8.2 GFLOP, median of three memory sizes",
        "run",
        "speed of a vCPU, FLOP/s",
        most="medium",
    )


def cluster_price(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
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


def visible_cores(table: pd.DataFrame, origin: Origin) -> VisibleCores:
    """Cores seen by memory: a rule that was read off, not fitted."""
    return VisibleCores(
        up_to_mb=dict(zip(table.memory_mb_to.tolist(), table.visible_vcpus.tolist(), strict=True)),
        source="rwnx/lambda-cpuinfo, cores seen by memory size",
        date=origin.date,
        confidence="high",
        fit=Fit(method="read off", samples=len(table), runs=1, file=origin.file, sha256=origin.sha256),
    )
