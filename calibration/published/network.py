"""A function's network, as others measured it.

Of each file: what it gives a profile (`_fit`), and what is held against a profile (`_check`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from calibration.check import probes
from calibration.check.checks import MBYTE, MS, Measured, scatter
from calibration.fitting.bootstrap import Quantity
from calibration.fitting.laws import Level
from calibration.fitting.regression import burst_rate, token_bucket
from calibration.tables import Origin
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

MEMORY_MB = 7076  # of Skyrise's functions
SETTLED_S = 2.0  # from when their bucket is empty
WHOLE_S = 5.0  # a run so long shows the sustained rate
GBIT = 1e9 / 8


def _full(table: pd.DataFrame) -> pd.DataFrame:
    """The runs whose bucket was full at their start."""
    return table[(table.source_file != "network_burst.json") | (table.repetition == 0)]


def intervals_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """Token bucket of a function; a run is a repetition, both ways, whose bucket was full at its start."""
    buckets: list[np.ndarray] = []
    short: list[list[tuple[np.ndarray, np.ndarray]]] = []
    for _, run in _full(table).groupby(["source_file", "repetition"]):
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


def intervals_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Bytes over time; runs whose bucket was not full at their start are left out."""
    beside = partial(Measured, unit="MB", data="same runs", source="Skyrise, 2024-03, intervals")
    interval_s = table.report_interval_ms.iloc[0] * MS
    table = table.assign(megabytes=table.throughput_MBps_reported * interval_s, at_s=table.t_start_ms * MS)
    for direction, rows in _full(table).groupby("direction"):
        runs = [run for _, run in rows.groupby(["source_file", "repetition"])]
        for until_s in (0.1, 0.5, 1.0, 5.0, 10.0):
            moved = [run[run.at_s < until_s].megabytes.sum() for run in runs if run.at_s.max() >= until_s * 0.97]
            simulated = probes.bytes_moved(profile, MEMORY_MB, np.array([until_s]))[0] / MBYTE
            yield beside(
                f"{direction} in {until_s:g} s, {MEMORY_MB:,} MB",
                measured=float(np.mean(moved)),
                simulated=float(simulated),
                spread=scatter(moved),
                spread_of=f"{len(moved)} runs",
            )


def by_memory_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """The sustained rate by memory size, in a VPC; a region is a run."""
    beside = partial(Measured, unit="MB/s", data="unseen", source="sjakthol/aws-network-benchmark, 2024, in a VPC")
    for memory, rows in table.groupby("memory_mb"):
        rates = rows.baseline_gbps * GBIT / MBYTE
        yield beside(
            f"sustained rate, {memory:,} MB",
            measured=rates.mean(),
            simulated=profile.network.sustained_at(float(memory)) / MBYTE,
            spread=scatter(rates),
            spread_of=f"{len(rates)} regions",
        )


def summary_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    beside = partial(Measured, unit="MB/s", data="fitted", source="Skyrise, 2024-03, per function")
    edges = probes.bytes_moved(profile, MEMORY_MB, np.array([0.0, 0.02, 2.0, 10.0])) / MBYTE
    simulated = {"burst_peak_MBps": edges[1] / 0.02, "after_2s_mean_MBps": (edges[3] - edges[2]) / 8.0}
    for column, name in (("burst_peak_MBps", "peak rate"), ("after_2s_mean_MBps", "rate after 2 s")):
        for direction, rows in _full(table).groupby("direction"):
            values = rows[column].dropna()
            yield beside(
                f"{direction}, {name}, {MEMORY_MB:,} MB",
                measured=values.mean(),
                simulated=float(simulated[column]),
                spread=scatter(values),
                spread_of=f"{len(values)} runs",
            )
