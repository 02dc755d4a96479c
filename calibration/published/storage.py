"""S3, as others measured it: requests and objects.

Of each file: what it gives a profile (`_fit`), and what is held against a profile (`_check`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from calibration.check import probes
from calibration.check.checks import KB, MBYTE, MIB, MS, Measured, of_calls, scatter
from calibration.fitting.bootstrap import Quantity
from calibration.fitting.laws import Bandwidth, Distribution, Level
from calibration.tables import Origin
from simulator.cloud.transfers import Get, Put
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

STANDARD, EXPRESS = "S3 Standard", "S3 Express One Zone"
LARGEST_PART = 8 * MIB


def latency_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """1 KB requests of both storage classes; one experiment of 100,000 requests is a run."""
    for storage, place in ((STANDARD, ("storage",)), (EXPRESS, ("storage", "express"))):
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


def latency_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """1 KB from a function of 7,076 MB, both storage classes."""
    beside = partial(Measured, unit="ms", data="fitted", source="Skyrise, 2024-04-18")
    express = profile.model_copy(
        update={"storage": profile.storage.model_copy(update={"storage_class": "express"})}
    )
    classes = ((STANDARD, profile, (0.5, 0.9, 0.99)), (EXPRESS, express, (0.5, 0.99)))
    for name, chosen, quantiles in classes:
        for operation, phase in (("Read", Get([KB], "gather")), ("Write", Put([KB]))):
            rows = table[(table.storage == name) & (table.operation == operation)]
            simulated = probes.seconds(chosen, 7076, phase, probes.MANY)
            runs = [run.latency_ms for _, run in rows.groupby("source_file")]
            for q in quantiles:
                yield beside(
                    f"{name} {'GET' if operation == 'Read' else 'PUT'} 1 KB, p{100 * q:.0f}",
                    measured=rows.latency_ms.quantile(q),
                    simulated=float(np.quantile(simulated, q)) / MS,
                    spread=scatter(run.quantile(q) for run in runs),
                    spread_of=f"{len(runs)} runs in one day",
                )


def latency_summary_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """The whole runs, 100,000 requests each, from which the raw file is a sample: farther out in the tail."""
    beside = partial(Measured, unit="ms", data="same runs", source="Skyrise, 2024-04-18, summary")
    for operation, phase in (("Read", Get([KB], "gather")), ("Write", Put([KB]))):
        runs = table[(table.storage == STANDARD) & (table.operation == operation)]
        simulated = probes.seconds(profile, 7076, phase, 5 * probes.MANY)
        for column, q in (("latency_ms_median", 0.5), ("latency_ms_percentile_99.9", 0.999)):
            yield beside(
                f"{STANDARD} {'GET' if operation == 'Read' else 'PUT'} 1 KB, whole runs, p{100 * q:g}",
                measured=runs[column].mean(),
                simulated=float(np.quantile(simulated, q)) / MS,
                spread=scatter(runs[column]),
                spread_of=f"{len(runs)} runs in one day",
            )


def by_memory_fit(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
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


def by_memory_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Objects of megabytes; `compression` downloads many small files and is left out there."""
    beside = partial(Measured, unit="ms")
    for _, row in table.iterrows():
        download = row.benchmark == "thumbnailer_py"
        if not download and row.benchmark not in ("uploader_py", "compression_py"):
            continue
        size = row.download_bytes_p50 if download else row.upload_bytes_p50
        prefix = "download" if download else "upload"
        in_parts = 2 if size > LARGEST_PART else 1  # as boto3's upload_file does, which SeBS uses
        phase = Get([size], "gather") if download else Put([size], parts=in_parts)
        yield beside(
            f"S3 {'GET' if download else 'PUT'} {size / MBYTE:.1f} MB at {row.memory_mb:,} MB, p50",
            measured=row[f"{prefix}_ms_p50"],
            simulated=float(np.median(probes.seconds_at_once(profile, int(row.memory_mb), phase))) / MS,
            spread=None,
            spread_of=of_calls(row, f"{prefix}_ms_p50", f"{prefix}_ms_p99"),
            data="same runs" if download else "unseen",
            source=f"SeBS, 2020, {row.benchmark.removesuffix('_py')}",
        )


def upload_fit(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
    """A PUT over one connection: as much slower than a GET as writes of many clients; their number is a run."""
    rows = table[(table.storage == STANDARD) & (table.quantity == "throughput")]
    slower = (rows.write / rows.read).to_numpy(float)
    yield Quantity(
        ("storage", "put_connection_bytes_per_s"),
        "bytes/s",
        Level(),
        [np.array([x]) for x in slower * profile.storage.connection_bytes_per_s.median],
        origin,
        "Skyrise, aggregate throughput, S3 writes over reads, times the rate of a GET over one connection",
        "run",
        "PUT over one connection, bytes/s",
        most="low",
    )


def connection_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
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


def connection_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """One connection to S3, from a machine whose own network does not bound it."""
    beside = partial(Measured, unit="ms", data="unseen", source="dvassallo/s3-benchmark, 2019, from EC2")
    for size, rows in table.groupby("object_mb"):
        simulated = probes.seconds(profile, 3008, Get([size * MIB], "gather"))
        yield beside(
            f"S3 GET {size} MiB over one connection, p50",
            measured=rows.ttlb_ms_p50.mean(),
            simulated=float(np.median(simulated)) / MS,
            spread=scatter(rows.ttlb_ms_p50),
            spread_of=f"{len(rows)} numbers of connections",
        )


def requests_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    beside = partial(Measured, unit="1/s", spread_of="one run", data="unseen", source="Skyrise, 2024")
    peak = table[table.quantity == "iops_single_prefix_peak"].iloc[0]
    for kind, measured in (("get", peak.read), ("put", peak.write)):
        yield beside(
            f"S3 {kind.upper()} requests a second of a prefix",
            measured=measured,
            simulated=probes.requests_in_a_second(profile, kind),
            spread=None,
        )
