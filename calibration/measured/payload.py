"""What campaigns measure of payloads, as quantities: function to function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.fitting.bootstrap import Absent, Quantity
from calibration.fitting.laws import Bandwidth, Distribution, Level
from calibration.fitting.regression import least_bounds, theil_sen
from calibration.measured.cpu import SMALL_BYTES, moved_by_cpu
from calibration.measured.rows import Measurements, runs_of, timed
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd


def payload(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity | Absent]:
    """Function to function: seconds = overhead + encoded bytes / bandwidth, one way; by memory, if it is.

    What the target does to decode and encode is in it: that is what its payload costs.
    """
    rows = _sent(measured, profile)
    if not len(rows):
        return
    rates = [_rates(run) for _, run in rows.groupby("run_key", sort=True)]
    rates = [run for run in rates if len(run)]
    if not rates:
        return
    bounds = np.array([least_bounds(run[:, :2], run[:, 2]) for run in rates])
    sizes = sorted({memory_mb for run in rates for memory_mb in run[:, 0].tolist()})
    path = ("payload", "function_bytes_per_s_per_mb")
    by_memory = len(sizes) > 1 and len(bounds) > 1 and bool(np.isfinite(bounds[:, 0]).all())
    per_mb = float(np.median(bounds[:, 0])) if by_memory else np.inf
    if by_memory:
        yield measured.quantity(
            path,
            "bytes/s/MB",
            Level(),
            [np.array([rate]) for rate in bounds[:, 0]],
            f"payloads both ways at {sizes[0]:g} to {sizes[-1]:g} MB: encoded bytes/s by memory",
            "run",
            "rate of payloads by memory, bytes/s/MB",
            most="medium",
        )
    elif len(sizes) > 1:
        yield Absent(path)
    at_most = bounds[:, 1] if by_memory else np.full(len(bounds), np.nan)
    yield from _bandwidth(measured, profile, rows, rates, per_mb, at_most)
    yield from _overhead(measured, rows, rates)


def _sent(measured: Measurements, profile: PlatformProfile) -> pd.DataFrame:
    """A row for each repeat: `encoded` bytes there and back, `took_s`."""
    rows = timed(measured.of("send"))
    back = rows.work_answer_bytes.fillna(0.0) * profile.payload.encoding_factor.median
    return rows.assign(encoded=rows.payload_bytes + back)


def _rates(run: pd.DataFrame) -> np.ndarray:
    """Memory, 1 and encoded bytes/s of a run's payloads, there and back alike, shape (memory sizes, 3)."""
    found = []
    for memory_mb, rows in run.groupby("memory_mb"):
        seconds_per_byte = []
        for _, way in rows.groupby(rows.work_answer_bytes > 0):
            points = way.groupby("encoded").took_s.median().reset_index().to_numpy(float)
            if len(points) > 1:
                seconds_per_byte.append(theil_sen(points[:, 0], points[:, 1], by_distance=True).slope)
        if seconds_per_byte and np.mean(seconds_per_byte) > 0:
            found.append((memory_mb, 1.0, 1 / float(np.mean(seconds_per_byte))))
    return np.array(found).reshape(-1, 3)


def _bandwidth(
    measured: Measurements,
    profile: PlatformProfile,
    rows: pd.DataFrame,
    rates: list[np.ndarray],
    per_mb: float,
    at_most: np.ndarray,
) -> Iterator[Quantity]:
    """Bytes/s that memory does not bound: of memory sizes that reach them, or the fastest that was seen."""
    path, unit, source = ("payload", "bytes_per_s"), "bytes/s", "function to function, payloads of several sizes"
    fastest = [float(run[:, 2].max()) for run in rates]
    if np.isfinite(per_mb) and not np.isfinite(at_most).all():
        by_cpu = moved_by_cpu(measured, profile)
        if by_cpu and np.median(fastest) > profile.payload.bytes_per_s.median:
            known, what = [np.array([rate]) for rate in fastest], f"{source}: no faster was seen"
            yield measured.quantity(path, unit, Level(), known, what, "run", "rate, bytes/s", most="low")
        return
    if np.isfinite(per_mb):
        rows = rows[rows.memory_mb * per_mb > np.median(at_most) * 1.05]
    there = rows[rows.work_answer_bytes == 0].rename(columns={"took_s": "y"})
    points = runs_of(there, lambda run: run.groupby("payload_bytes").y.median().reset_index())
    points = [run for run in points if len(run) > 1]
    if not points or theil_sen(*np.concatenate(points).T).slope <= 0:
        return
    yield measured.quantity(
        path,
        unit,
        Bandwidth(by_distance=True),
        points,
        source,
        "encoded payload, bytes",
        "invocation, s",
    )


def _overhead(measured: Measurements, rows: pd.DataFrame, rates: list[np.ndarray]) -> Iterator[Quantity]:
    """The smallest payload, less what its bytes take at its memory size."""
    there = rows[rows.work_answer_bytes == 0]
    small = there[there.payload_bytes == there.payload_bytes.min()]
    points = np.concatenate(rates)
    of_size = {mb: float(np.median(points[points[:, 0] == mb, 2])) for mb in set(points[:, 0].tolist())}
    small = small.assign(y=small.took_s - small.payload_bytes / small.memory_mb.map(of_size))
    yield measured.quantity(
        ("payload", "overhead_s"),
        "s",
        Distribution(),
        runs_of(small, lambda run: run.y[run.y > 0]),
        "function to function, the smallest payload, less what its bytes take",
        "probability",
        "invocation of a function by a function, s",
    )


def encoding(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """Bytes that are sent for a raw byte, of large payloads, where the rest of an event does not count."""
    rows = measured.of("send")
    rows = rows[(rows.work_size_bytes > SMALL_BYTES) & (rows.payload_bytes > 0)]
    yield measured.quantity(
        ("payload", "encoding_factor"),
        "1",
        Level(),
        runs_of(rows, lambda run: run.payload_bytes / run.work_size_bytes),
        "encoded over raw bytes of large payloads",
        "run",
        "encoded over raw bytes",
    )


def payload_limit(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity]:
    """Between the largest request that was taken and the smallest one that was refused."""
    import pandas as pd

    factor = profile.payload.encoding_factor.median
    rows = pd.concat([measured.of("payload-limit"), measured.failed[measured.failed.probe == "payload-limit"]])
    rows = rows[(rows.work_size_bytes > 0) & (rows.work_answer_bytes == 0)]
    taken, refused = (
        rows[(rows.status == "ok") == ok].work_size_bytes.to_numpy(float) * factor for ok in (True, False)
    )
    refused = refused[refused > taken.max(initial=0.0)]
    if not len(taken) or not len(refused):
        return
    low, high = float(taken.max()), float(refused.min())
    known = profile.payload.limit_bytes.median
    value = known if low <= known < high else (low + high) / 2
    yield measured.quantity(
        ("payload", "limit_bytes"),
        "bytes",
        Level(),
        [np.array([value])],
        f"the largest request that was taken has {low:,.0f} encoded bytes, the smallest refused {high:,.0f}"
        + ("; the base's limit is between" if value == known else ""),
        "run",
        "limit of a payload, bytes",
        between=(low, high),
    )
