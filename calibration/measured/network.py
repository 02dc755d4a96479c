"""What campaigns measure of S3 and of a function's network, as quantities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from calibration.fitting.bootstrap import Absent, Quantity
from calibration.fitting.laws import Distribution, Level
from calibration.fitting.regression import TokenBucket, least_bounds, theil_sen, used_up
from calibration.measured.cpu import moved_by_cpu, smallest, typical, uploads, works_of
from calibration.measured.rows import Measurements, runs_of, timed
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

LEAST_LATENCY_S = 1e-4
LEAST_PART_BYTES = 5 * 2**20
FALL = 1.5  # how many times slower the end of a large move is than its beginning, where its bucket ran dry
SLOW_S = 0.5  # that a slow repeat takes at least: no latency makes it so
STEADY = 1.25  # rates of an empty bucket are within


def latency(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity]:
    """Requests for the smallest object, less what its bytes and the function's own work take.

    Where requests are work, only of functions with a whole vCPU (else of the largest): a share comes in periods.
    What is latency and what work, each run says by itself, so that the interval knows how unsure it is.
    """
    for probe in ("get", "put"):
        rows = smallest(timed(measured.of(probe)))
        work = getattr(profile.storage, f"{probe}_vcpu_s")
        y = rows.took_s - rows.work_size_bytes / _bytes_per_s(rows, profile)
        if work is not None:
            whole_mb = min(profile.compute.mb_per_vcpu.median, rows.memory_mb.max())
            own = {key: each[2] for key, each in works_of(measured, profile, rows).items()}
            y -= rows.run_key.map(own).fillna(work.median)
            y = y[rows.memory_mb >= whole_mb].clip(lower=LEAST_LATENCY_S)
        rows = rows.loc[y.index].assign(y=y)
        yield measured.quantity(
            ("storage", f"{probe}_latency_s"),
            "s",
            Distribution(),
            runs_of(rows, lambda run: run.y[run.y > 0]),
            f"{probe.upper()} of the smallest object inside a function",
            "probability",
            f"{probe.upper()}, s",
        )


def _bytes_per_s(rows: pd.DataFrame, profile: PlatformProfile) -> pd.Series:
    by_memory = rows.memory_mb * profile.network.function_bytes_per_s_per_mb.median
    return by_memory.clip(upper=profile.storage.connection_bytes_per_s.median)


def network(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity | Absent]:
    """Downloads: token bucket of those that use it up, bounds of the others' rates, once a run; then uploads."""
    by_cpu = bool(moved_by_cpu(measured, profile))
    whole_mb = profile.compute.mb_per_vcpu.median
    rows, sent = (_moves(timed(measured.of(probe)), whole_mb) for probe in ("get", "put"))
    sent = sent[sent.work_connections == 1]
    buckets, rates, up = [], [], []
    for key, run in rows.groupby("run_key", sort=True):
        bucket = _bucket(run)
        if bucket is not None:
            buckets.append(bucket)
        downloads = _rates(run, bucket, by_cpu)
        if len(downloads):
            rates.append(downloads)
            sends = _rates(sent[sent.run_key == key], bucket, by_cpu)
            up.append(least_bounds(sends[:, [0, 2]], sends[:, 3]) if len(sends) else np.full(2, np.nan))
    bounds = np.array([_bounds(run) for run in rates]).reshape(-1, 3)
    by_memory, by_connection, at_most = bounds.T
    if by_cpu:
        connection, burst = profile.storage.connection_bytes_per_s, profile.network.burst_bytes_per_s
        by_connection = _seen(by_connection, connection.median, [(run[:, 3] / run[:, 1]).max() for run in rates])
        at_most = _seen(at_most, burst.median, [run[:, 3].max() for run in rates])
    bursts, sustained = ([getattr(x, name) for x in buckets] for name in ("burst_bytes", "sustained_bytes_per_s"))
    while_waiting = float(np.median(sustained)) * float(rows.first_byte_s.max()) if sustained else 0.0
    for path, unit, numbers, what, resolution in (
        (("network", "burst_bytes"), "bytes", bursts, "bytes beyond the sustained rate", while_waiting),
        (("network", "sustained_bytes_per_s"), "bytes/s", sustained, "rate at their end", 0.0),
        (("network", "function_bytes_per_s_per_mb"), "bytes/s/MB", by_memory, "rate by memory", 0.0),
        (("storage", "connection_bytes_per_s"), "bytes/s", by_connection, "rate of a connection", 0.0),
        (("network", "burst_bytes_per_s"), "bytes/s", at_most, "rate that more memory does not raise", 0.0),
    ):
        known = [np.array([value]) for value in numbers if np.isfinite(value) and value > 0]
        if 2 * len(known) <= len(rates):
            continue  # what most runs do not show is not there
        source = f"S3 downloads of several sizes, connections and memory sizes, {what}"
        yield measured.quantity(
            path,
            unit,
            Level(),
            known,
            source,
            "run",
            f"{path[1]}, {unit}",
            most="medium",
            resolution=resolution,
        )
    yield from uploads(measured, sent, np.array(up).reshape(-1, 2), np.stack([by_memory, by_connection], axis=1))


def _seen(bounds: np.ndarray, base: float, fastest: Sequence[float]) -> np.ndarray:
    """Bounds of runs; where none was met though the base's was exceeded, the fastest that each run saw.

    Where the CPU moves bytes, a bound of the base is that of another network.
    """
    unmet = not np.isfinite(bounds).any() and len(fastest) and np.median(fastest) > base
    return np.asarray(fastest, float) if unmet else bounds


def _bounds(points: np.ndarray) -> np.ndarray:
    """What bounds rates by memory, by connections, at all; the last where the others do not explain them."""
    found = least_bounds(points[:, :3], points[:, 3])
    bound = points[:, 2] * found[2] <= (points[:, :2] * found[:2]).min(axis=1)
    if len(set(points[bound, 0].tolist())) < 2:  # more memory was not seen to raise no rate
        found[2] = np.nan
        found[:2] = least_bounds(points[:, :2], points[:, 3])
    return found


def _moves(rows: pd.DataFrame, whole_mb: float) -> pd.DataFrame:
    """Moves with the connections that carry a part of at least 5 MiB each, and when they were under way.

    `first_byte_s`: until then nothing moves; what the smallest object takes a function with a vCPU in that run
    (else the largest one), of several connections the first of as many.
    """
    small = smallest(rows)
    small = small[small.memory_mb >= min(whole_mb, small.memory_mb.max())]
    known = {key: run.took_s.to_numpy(float) for key, run in small.groupby("run_key")}
    rows = rows[(rows.work_connections == 1) | (rows.work_size_bytes >= rows.work_connections * LEAST_PART_BYTES)]
    waits_s = {
        (key, n): np.quantile(known[key], 1 - 0.5 ** (1 / n)) if key in known else 0.0
        for key, n in set(zip(rows.run_key, rows.work_connections, strict=True))
    }
    since_s = rows.groupby(["function", "instance", "sent_s"]).took_s.cumsum()
    return rows.assign(
        ended=rows.started_s + since_s,
        began=rows.started_s + since_s - rows.took_s,
        first_byte_s=[waits_s[each] for each in zip(rows.run_key, rows.work_connections, strict=True)],
    )


def _gone(rows: pd.DataFrame, sustained: float) -> np.ndarray:
    """Bytes of an instance's bucket that are gone before each of its moves."""
    names = ("work_size_bytes", "began", "ended", "first_byte_s")
    size, began, ended, first_byte_s = (rows[name].to_numpy(float) for name in names)
    return used_up(size, began, ended, first_byte_s, sustained)


def _bucket(run: pd.DataFrame) -> TokenBucket | None:
    """Of the downloads of a run that use a bucket up within one call: medians of what each tells.

    A full bucket gains nothing until the first byte: what would have flowed in meanwhile is not beyond it.
    """
    found = []
    for _, instance in run.sort_values("began", kind="stable").groupby("instance", sort=True):
        for _, call in instance.groupby("sent_s", sort=True):
            curve = _curve(call)
            if curve is None:
                continue
            until_s, moved, after = curve
            sustained, beyond = theil_sen(until_s[after:], moved[after:])
            if sustained <= 0:
                continue
            gone = _gone(instance, sustained)[instance.began >= float(call.began.iloc[0])][0]
            beyond += gone if gone else sustained * float(call.first_byte_s.iloc[0])
            found.append(TokenBucket(np.nan, beyond, sustained))
    return TokenBucket(*np.median(np.array(found), axis=0)) if found else None


def _curve(call: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Of a call whose rate falls: seconds and bytes since its start, and the repeat from which on it is slow."""
    took_s, sizes = call.took_s.to_numpy(float), call.work_size_bytes.to_numpy(float)
    rate = sizes / took_s
    slow = rate < np.sqrt(rate[:2].max() * rate[-1])
    after = int(np.argmax(slow))
    late = rate[after + 1 :]  # the repeat at which the bucket ran dry is partly fast
    if after == 0 or not len(late) or took_s[after + 1 :].min() < SLOW_S:
        return None
    if rate[0] < FALL * late.max() or late.max() > STEADY * late.min():
        return None
    return np.cumsum(took_s), np.cumsum(sizes), after


def _rates(run: pd.DataFrame, bucket: TokenBucket | None, by_cpu: bool) -> np.ndarray:
    """Memory, connections, 1 and bytes/s of moves that no empty bucket slowed, shape (points, 4)."""
    kept = []
    for _, rows in run.sort_values("began", kind="stable").groupby("instance", sort=True):
        if bucket is not None:
            gone = _gone(rows, bucket.sustained_bytes_per_s)
            rows = rows[gone + rows.work_size_bytes <= bucket.burst_bytes]
        kept.append(rows)
    found = []
    if not kept:
        return np.empty((0, 4))
    import pandas as pd

    for (memory_mb, connections), rows in pd.concat(kept).groupby(["memory_mb", "work_connections"]):
        points = typical(rows, "work_size_bytes", by_cpu)
        if len(points) > 1:
            slope = theil_sen(points[:, 0], points[:, 1]).slope
            if slope > 0:
                found.append((memory_mb, connections, 1.0, 1 / slope))
    return np.array(found).reshape(-1, 4)
