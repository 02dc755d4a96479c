"""What campaigns measure of transfers that are work of the function's own CPU: requests, uploads, payloads.

A profile has these constants only where memory sizes show them: `shown` says when, and a constant that was looked
for and not seen is `Absent`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from calibration.fitting.bootstrap import Absent, Quantity
from calibration.fitting.laws import Level
from calibration.fitting.regression import TOLD, start_and_slope, theil_sen
from calibration.measured.compute import mb_per_vcpu
from calibration.measured.rows import Measurements, timed
from moe.statistics import t_half_width
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

SMALL_BYTES = 65_536  # so small an object is latency
SURE = 0.99  # confidence of the interval that is to exclude "no effect"
OF_AWS = (
    ("start", "image_bytes_per_s"),
    ("network", "process_bytes_per_s"),
    ("compute", "instance_factor"),
    ("compute", "sync_bytes_per_s"),
    *(
        ("storage", name)
        for name in ("get_drift", "put_drift", "slow_gets", "slow_puts", "put_connection_bytes_per_s")
    ),
)
"""What only AWS's hosts and network do: where transfers are work of a function's CPU, the embedded endpoint's, it
does not hold."""
BY_CPU = 0.7  # share of its wall time that a transfer has to spend on its CPU share to be moved by it


def shown(values: Sequence[float] | np.ndarray, none: float = 0.0) -> bool:
    """Whether the 99% interval of the runs' mean (Student's t) is above or below `none`."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return False
    return abs(float(known.mean()) - none) > float(t_half_width(known, confidence=SURE))


def moved_by_cpu(measured: Measurements, profile: PlatformProfile) -> bool | None:
    """Whether CPU time explains how long transfers of functions with less than a vCPU take.

    None: no function said its CPU time, or none had less than a vCPU.
    """
    import pandas as pd

    moves = pd.concat([measured.of("get"), measured.of("put")])
    moves = moves[(moves.work_connections == 1) & (moves.work_size_bytes > SMALL_BYTES)]
    share = moves.memory_mb / profile.compute.mb_per_vcpu.median
    told = (share < 1) & (moves.cpu_s.map(len) > 0) & (moves.cpu_s.map(len) == moves.seconds.map(len))
    moves, share = moves[told], share[told]
    if not len(moves):
        return None
    sums = pd.DataFrame(
        {"cpu": moves.cpu_s.map(sum), "wall": moves.seconds.map(sum) * share, "run": moves.run_key}
    )
    by_run = sums.groupby("run").sum()
    return bool((by_run.cpu / by_run.wall).median() >= BY_CPU)


def typical(rows: pd.DataFrame, by: str, by_cpu: bool) -> np.ndarray:
    """What a transfer takes for each value of a column, shape (values, 2), from the rows of `timed`.

    The median of all repeats. Where the CPU moves bytes, a repeat waits for the next period or does not, and only
    the mean over a call's repeats tells: the median of these.
    """
    if by_cpu:
        rows = rows.groupby([by, "function", "sent_s"], sort=True).took_s.mean().reset_index()
    return rows.groupby(by).took_s.median().reset_index().to_numpy(float)


def request_work(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity | Absent]:
    """Requests for the smallest object take latency + work / vCPUs of one thread: the work, once a run."""
    for probe in ("get", "put"):
        rows = smallest(timed(measured.of(probe)))
        told = np.array(list(works_of(measured, profile, rows).values())).reshape(-1, 3)
        if not len(told):
            continue
        path = ("storage", f"{probe}_vcpu_s")
        slopes, effects, works = told.T
        if not shown(slopes) or np.median(effects) <= TOLD:
            yield Absent(path)
            continue
        yield measured.quantity(
            path,
            "s",
            Level(),
            [np.array([work]) for work in works],
            f"{probe.upper()} of the smallest object at {_sizes(rows)}: work of the function's vCPU",
            "run",
            "work of a request, vCPU-s",
            most="medium",
        )


def works_of(
    measured: Measurements, profile: PlatformProfile, rows: pd.DataFrame
) -> dict[int, tuple[float, float, float]]:
    """Of each run that tells it, by its number, what `_work_of` says; `rows`: of `smallest`."""
    by_cpu, of_vcpu = bool(moved_by_cpu(measured, profile)), mb_per_vcpu(measured, profile)
    found = {key: _work_of(run, of_vcpu(run), by_cpu) for key, run in rows.groupby("run_key", sort=True)}
    return {key: each for key, each in found.items() if each is not None}


def _work_of(run: pd.DataFrame, vcpu_mb: float, by_cpu: bool) -> tuple[float, float, float] | None:
    """Of a run: slope by 1 / vCPUs, by how much it changes what a request takes over the sizes, and the work.

    The slope may be below 0, and tells whether there is work; the work is at least 0, by relative errors, so
    that what the smallest function takes does not count most. None of one memory size.
    """
    points = typical(run, "memory_mb", by_cpu)
    slowness, took_s = 1 / np.minimum(1.0, points[:, 0] / vcpu_mb), points[:, 1]
    if len(set(slowness.tolist())) < 2:
        return None
    slope = theil_sen(slowness, took_s, by_distance=True).slope
    effect = slope * float(np.ptp(slowness)) / float(took_s.min())
    return slope, effect, start_and_slope(slowness, took_s).slope


def smallest(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of one connection that moved the smallest object, if that is small."""
    rows = rows[(rows.work_connections == 1) & (rows.work_size_bytes <= SMALL_BYTES)]
    return rows[rows.work_size_bytes == rows.work_size_bytes.min()]


def uploads(
    measured: Measurements, rows: pd.DataFrame, up: np.ndarray, down: np.ndarray
) -> Iterator[Quantity | Absent]:
    """Bytes/s of uploads where they are not those of downloads: by memory, and of a connection.

    `up`, `down`: both rates of each run, or NaN, shape (runs, 2).
    """
    by_memory, connection = ("network", "function_upload_bytes_per_s_per_mb"), "put_connection_bytes_per_s"
    told = (
        (by_memory, "bytes/s/MB", "rate by memory"),
        (("storage", connection), "bytes/s", "rate of a connection"),
    )
    for (path, unit, what), sent, got in zip(told, up.T, down.T, strict=True):
        both = np.isfinite(sent) & np.isfinite(got)
        if not both.any():
            continue
        logs = np.log(sent[both] / got[both])
        if not shown(logs) or abs(float(np.median(logs))) <= TOLD:
            yield Absent(path)
            continue
        yield measured.quantity(
            path,
            unit,
            Level(),
            [np.array([rate]) for rate in sent[both]],
            f"S3 uploads of several sizes at {_sizes(rows)}: {what}, which is not that of downloads",
            "run",
            f"{what} of uploads, {unit}",
            most="medium",
        )


def _sizes(rows: pd.DataFrame) -> str:
    return f"{int(rows.memory_mb.min())} to {int(rows.memory_mb.max())} MB"
