"""Public measurements of what moves bytes: S3 requests and objects, and a function's network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.check import probes
from calibration.check.checks import KB, MBYTE, MIB, MS, Measured, of_calls, scatter
from simulator.cloud.transfers import Get, Put
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

MANY = 4000  # calls of a probe whose tail is looked at


def s3_latency(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """1 KB from a function of 7,076 MB, both storage classes."""
    express = profile.model_copy(
        update={"storage": profile.storage.model_copy(update={"storage_class": "express"})}
    )
    classes = (("S3 Standard", profile, (0.5, 0.9, 0.99)), ("S3 Express One Zone", express, (0.5, 0.99)))
    for name, chosen, quantiles in classes:
        for operation, phase in (("Read", Get([KB], "gather")), ("Write", Put([KB]))):
            rows = table[(table.storage == name) & (table.operation == operation)]
            simulated = probes.seconds(chosen, 7076, phase, MANY)
            runs = [run.latency_ms for _, run in rows.groupby("source_file")]
            for q in quantiles:
                yield Measured(
                    f"{name} {'GET' if operation == 'Read' else 'PUT'} 1 KB, p{100 * q:.0f}",
                    "ms",
                    rows.latency_ms.quantile(q),
                    float(np.quantile(simulated, q)) / MS,
                    scatter(run.quantile(q) for run in runs),
                    f"{len(runs)} runs in one day",
                    "fitted",
                    "Skyrise, 2024-04-18",
                )


def s3_summary(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """The whole runs, 100,000 requests each, from which the raw file is a sample: farther out in the tail."""
    for operation, phase in (("Read", Get([KB], "gather")), ("Write", Put([KB]))):
        runs = table[(table.storage == "S3 Standard") & (table.operation == operation)]
        simulated = probes.seconds(profile, 7076, phase, 5 * MANY)
        for column, q in (("latency_ms_median", 0.5), ("latency_ms_percentile_99.9", 0.999)):
            yield Measured(
                f"S3 Standard {'GET' if operation == 'Read' else 'PUT'} 1 KB, whole runs, p{100 * q:g}",
                "ms",
                runs[column].mean(),
                float(np.quantile(simulated, q)) / MS,
                scatter(runs[column]),
                f"{len(runs)} runs in one day",
                "same runs",
                "Skyrise, 2024-04-18, summary",
            )


def s3_by_memory(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Objects of megabytes; `compression` downloads many small files and is left out there."""
    for _, row in table.iterrows():
        download = row.benchmark == "thumbnailer_py"
        if not download and row.benchmark not in ("uploader_py", "compression_py"):
            continue
        size = row.download_bytes_p50 if download else row.upload_bytes_p50
        prefix = "download" if download else "upload"
        phase = Get([size], "gather") if download else Put([size])
        yield Measured(
            f"S3 {'GET' if download else 'PUT'} {size / MBYTE:.1f} MB at {row.memory_mb:,} MB, p50",
            "ms",
            row[f"{prefix}_ms_p50"],
            float(np.median(probes.seconds(profile, int(row.memory_mb), phase))) / MS,
            None,
            of_calls(row, f"{prefix}_ms_p50", f"{prefix}_ms_p99"),
            "same runs" if download else "unseen",
            f"SeBS, 2020, {row.benchmark.removesuffix('_py')}",
        )


def s3_from_ec2(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """One connection to S3, from a machine whose own network does not bound it."""
    for size, rows in table.groupby("object_mb"):
        simulated = probes.seconds(profile, 3008, Get([size * MIB], "gather"))
        yield Measured(
            f"S3 GET {size} MiB over one connection, p50",
            "ms",
            rows.ttlb_ms_p50.mean(),
            float(np.median(simulated)) / MS,
            scatter(rows.ttlb_ms_p50),
            f"{len(rows)} numbers of connections",
            "unseen",
            "dvassallo/s3-benchmark, 2019, from EC2",
        )


def s3_requests(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    peak = table[table.quantity == "iops_single_prefix_peak"].iloc[0]
    for kind, measured in (("get", peak.read), ("put", peak.write)):
        yield Measured(
            f"S3 {kind.upper()} requests a second of a prefix",
            "1/s",
            measured,
            probes.requests_in_a_second(profile, kind),
            None,
            "one run",
            "unseen",
            "Skyrise, 2024",
        )


def network(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Bytes over time of 7,076 MB; runs whose bucket was not full at their start are left out."""
    interval_s = table.report_interval_ms.iloc[0] * MS
    table = table.assign(megabytes=table.throughput_MBps_reported * interval_s, at_s=table.t_start_ms * MS)
    full = table[(table.source_file != "network_burst.json") | (table.repetition == 0)]
    for direction, rows in full.groupby("direction"):
        runs = [run for _, run in rows.groupby(["source_file", "repetition"])]
        for until_s in (0.1, 0.5, 1.0, 5.0, 10.0):
            moved = [run[run.at_s < until_s].megabytes.sum() for run in runs if run.at_s.max() >= until_s * 0.97]
            simulated = probes.bytes_moved(profile, 7076, np.array([until_s]))[0] / MBYTE
            yield Measured(
                f"{direction} in {until_s:g} s, 7,076 MB",
                "MB",
                float(np.mean(moved)),
                float(simulated),
                scatter(moved),
                f"{len(moved)} runs",
                "same runs",
                "Skyrise, 2024-03, intervals",
            )


def network_summary(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    full = table[(table.source_file != "network_burst.json") | (table.repetition == 0)]
    edges = probes.bytes_moved(profile, 7076, np.array([0.0, 0.02, 2.0, 10.0])) / MBYTE
    simulated = {"burst_peak_MBps": edges[1] / 0.02, "after_2s_mean_MBps": (edges[3] - edges[2]) / 8.0}
    for column, name in (("burst_peak_MBps", "peak rate"), ("after_2s_mean_MBps", "rate after 2 s")):
        for direction, rows in full.groupby("direction"):
            values = rows[column].dropna()
            yield Measured(
                f"{direction}, {name}, 7,076 MB",
                "MB/s",
                values.mean(),
                float(simulated[column]),
                scatter(values),
                f"{len(values)} runs",
                "fitted",
                "Skyrise, 2024-03, per function",
            )
