"""What campaigns measure of S3, of a function's network and of payloads, as quantities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.fitting import Quantity
from calibration.laws import Bandwidth, Distribution, Level
from calibration.measured import Measurements, runs_of, timed
from calibration.regression import TokenBucket, least_bounds, theil_sen, used_up
from simulator.profile import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

SMALL_BYTES = 65_536  # so small an object is latency
LEAST_PART_BYTES = 5 * 2**20
FALL = 1.5  # how many times slower the end of a large move is than its beginning, where its bucket ran dry
SLOW_S = 0.5  # that a slow repeat takes at least: no latency makes it so
STEADY = 1.25  # rates of an empty bucket are within


def latency(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity]:
    """Requests for the smallest object, less what its bytes take."""
    for probe in ("get", "put"):
        rows = timed(measured.of(probe))
        rows = rows[(rows.work_connections == 1) & (rows.work_size_bytes <= SMALL_BYTES)]
        rows = rows[rows.work_size_bytes == rows.work_size_bytes.min()]
        moving_s = rows.work_size_bytes / _bytes_per_s(rows, profile)
        yield measured.quantity(
            ("storage", f"{probe}_latency_s"),
            "s",
            Distribution(),
            runs_of(rows.assign(y=rows.took_s - moving_s), lambda run: run.y[run.y > 0]),
            f"{probe.upper()} of the smallest object inside a function",
            "probability",
            f"{probe.upper()}, s",
        )


def _bytes_per_s(rows: pd.DataFrame, profile: PlatformProfile) -> pd.Series:
    by_memory = rows.memory_mb * profile.network.function_bytes_per_s_per_mb.median
    return by_memory.clip(upper=profile.storage.connection_bytes_per_s.median)


def network(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """Downloads: token bucket of those that use it up, bounds of the others' rates, once a run."""
    rows = _moves(timed(measured.of("get")))
    buckets, rates = [], []
    for _, run in rows.groupby("run_key", sort=True):
        bucket = _bucket(run)
        if bucket is not None:
            buckets.append(bucket)
        rates.append(_rates(run, bucket))
    values = {
        "burst_bytes": [bucket.burst_bytes for bucket in buckets],
        "sustained_bytes_per_s": [bucket.sustained_bytes_per_s for bucket in buckets],
    }
    bounds = np.array([_bounds(run) for run in rates if len(run)]).reshape(-1, 3)
    by_memory, by_connection, at_most = bounds.T
    for path, unit, numbers, what in (
        (("network", "burst_bytes"), "bytes", values["burst_bytes"], "bytes beyond the sustained rate"),
        (("network", "sustained_bytes_per_s"), "bytes/s", values["sustained_bytes_per_s"], "rate at their end"),
        (("network", "function_bytes_per_s_per_mb"), "bytes/s/MB", by_memory, "rate by memory"),
        (("storage", "connection_bytes_per_s"), "bytes/s", by_connection, "rate of a connection"),
        (("network", "burst_bytes_per_s"), "bytes/s", at_most, "rate that more memory does not raise"),
    ):
        known = [np.array([value]) for value in numbers if np.isfinite(value) and value > 0]
        source = f"S3 downloads of several sizes, connections and memory sizes, {what}"
        yield measured.quantity(path, unit, Level(), known, source, "run", f"{path[1]}, {unit}", most="medium")


def _bounds(points: np.ndarray) -> np.ndarray:
    """What bounds rates by memory, by connections, at all; the last where the others do not explain them."""
    found = least_bounds(points[:, :3], points[:, 3])
    bound = points[:, 2] * found[2] <= (points[:, :2] * found[:2]).min(axis=1)
    if len(set(points[bound, 0].tolist())) < 2:  # more memory was not seen to raise no rate
        found[2] = np.nan
        found[:2] = least_bounds(points[:, :2], points[:, 3])
    return found


def _moves(rows: pd.DataFrame) -> pd.DataFrame:
    """Downloads with the connections that carry a part of at least 5 MiB each, and when they were under way."""
    rows = rows[(rows.work_connections == 1) | (rows.work_size_bytes >= rows.work_connections * LEAST_PART_BYTES)]
    since_s = rows.groupby(["function", "instance", "sent_s"]).took_s.cumsum()
    return rows.assign(ended=rows.started_s + since_s, began=rows.started_s + since_s - rows.took_s)


def _bucket(run: pd.DataFrame) -> TokenBucket | None:
    """Of the downloads of a run that use a bucket up within one call: medians of what each tells."""
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
            sizes, began, ended = (
                instance[name].to_numpy(float) for name in ("work_size_bytes", "began", "ended")
            )
            gone = used_up(sizes, began, ended, sustained)[began >= float(call.began.iloc[0])][0]
            found.append(TokenBucket(np.nan, beyond + gone, sustained))
    return TokenBucket(*np.median(np.array(found), axis=0)) if found else None


def _curve(call: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Of a call whose rate falls: seconds and bytes since its start, and the repeat from which on it is slow."""
    took_s, sizes = call.took_s.to_numpy(float), call.work_size_bytes.to_numpy(float)
    rate = sizes / took_s
    slow = rate < np.sqrt(rate[:2].max() * rate[-1])
    after = int(np.argmax(slow))
    late = rate[after + 1 :]  # the repeat at which the bucket ran dry is partly fast
    if after == 0 or not len(late) or took_s[after:].min() < SLOW_S:
        return None
    if rate[0] < FALL * late.max() or late.max() > STEADY * late.min():
        return None
    return np.cumsum(took_s), np.cumsum(sizes), after


def _rates(run: pd.DataFrame, bucket: TokenBucket | None) -> np.ndarray:
    """Memory, connections, 1 and bytes/s of downloads that no empty bucket slowed, shape (points, 4)."""
    kept = []
    for _, rows in run.sort_values("began", kind="stable").groupby("instance", sort=True):
        if bucket is not None:
            sizes, began, ended = (rows[name].to_numpy(float) for name in ("work_size_bytes", "began", "ended"))
            gone = used_up(sizes, began, ended, bucket.sustained_bytes_per_s)
            rows = rows[gone + sizes <= bucket.burst_bytes]
        kept.append(rows)
    found = []
    if not kept:
        return np.empty((0, 4))
    import pandas as pd

    for (memory_mb, connections), rows in pd.concat(kept).groupby(["memory_mb", "work_connections"]):
        points = rows.groupby("work_size_bytes").took_s.median().reset_index().to_numpy(float)
        if len(points) > 1:
            slope = theil_sen(points[:, 0], points[:, 1]).slope
            if slope > 0:
                found.append((memory_mb, connections, 1.0, 1 / slope))
    return np.array(found).reshape(-1, 4)


def payload(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """From one function to another: seconds = overhead + encoded bytes / bandwidth, one way."""
    sent = measured.of("send")
    alone = [_less(took, own) for took, own in zip(sent.seconds, sent.target_s, strict=True)]
    rows = timed(sent.assign(seconds=alone))
    if not len(rows):
        return
    rows = rows[rows.work_answer_bytes == 0].rename(columns={"took_s": "y"})
    points = runs_of(rows, lambda run: run.groupby("payload_bytes").y.median().reset_index())
    points = [run for run in points if len(run) > 1]
    if not points or theil_sen(*np.concatenate(points).T).slope <= 0:
        return
    yield measured.quantity(
        ("payload", "bytes_per_s"),
        "bytes/s",
        Bandwidth(by_distance=True),
        points,
        "function to function, request payloads of several sizes",
        "encoded payload, bytes",
        "invocation less what the target took, s",
    )
    slope = theil_sen(*np.concatenate(points).T).slope
    small = rows[rows.payload_bytes == rows.payload_bytes.min()]
    small = small.assign(y=small.y - small.payload_bytes * slope)
    yield measured.quantity(
        ("payload", "overhead_s"),
        "s",
        Distribution(),
        runs_of(small, lambda run: run.y[run.y > 0]),
        "function to function, the smallest payload, less what its bytes take",
        "probability",
        "invocation of a function by a function, s",
    )


def _less(took_s: np.ndarray, target_s: np.ndarray) -> np.ndarray:
    """What invocations took without their target's work, s."""
    return np.asarray(took_s) - np.asarray(target_s) if len(took_s) == len(target_s) else np.asarray(took_s)


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
