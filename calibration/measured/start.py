"""What campaigns measure of how a call starts, as quantities: warm starts, packages, keep-alive, scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.fitting.bootstrap import Absent, Quantity
from calibration.fitting.laws import Bandwidth, Beneath, Distribution, Expiry, Halving, Level, side_by_side
from calibration.fitting.regression import theil_sen
from calibration.measured.rows import Measurements, runs_of
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd


def warm(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """Client's wall time of a call that does nothing, less what the handler took."""
    yield measured.quantity(
        ("start", "warm_s"),
        "s",
        Distribution(),
        runs_of(measured.of("warm"), _front_end_s),
        "wall time of a warm call less its Duration; the client's network round trip is in it",
        "probability",
        "warm start, s",
    )


def packages(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """INIT, and what else a cold call takes beyond a warm one."""
    cold = measured.of("cold")
    warm = {key: _front_end_s(run) for key, run in measured.of("warm").groupby("run_key")}

    def sums(run: pd.DataFrame) -> np.ndarray:
        return side_by_side(_before_init_s(run), warm[run.run_key.iloc[0]])

    for name, rows in cold.groupby("package"):
        place = ("start", "packages", str(name))
        small = rows[rows.padding_bytes == rows.padding_bytes.min()]
        yield measured.quantity(
            (*place, "init_s"),
            "s",
            Distribution(),
            runs_of(small, lambda run: run.init_s[run.init_s > 0]),
            "Init Duration of forced cold starts",
            "probability",
            f"INIT, {name}, s",
        )
        told = small[small.run_key.isin(list(warm))]
        if len(told):
            yield measured.quantity(
                (*place, "provisioning_s"),
                "s",
                Beneath(),
                runs_of(told, sums),
                "wall time of a cold call less Duration and Init Duration, from which warm starts were taken out",
                "probability",
                "before INIT, with a warm start, s",
                most="medium",
            )


def fetch(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """How much longer a cold call takes whose package is larger; the package with the most sizes tells it."""
    cold = measured.of("cold").copy()
    sizes = cold.groupby("package").padding_bytes.nunique()
    if not len(sizes) or sizes.max() < 2:
        return
    chosen = cold[cold.package == sizes.idxmax()]
    runs = runs_of(chosen, lambda run: _medians(run.assign(y=_before_init_s(run, keep=True)), ["padding_bytes"]))
    runs = [run for run in runs if len(run) > 1]
    if not runs or theil_sen(*np.concatenate(runs).T).slope <= 0:
        return  # a larger package starts no later
    yield measured.quantity(
        ("start", "fetch_bytes_per_s"),
        "bytes/s",
        Bandwidth(by_distance=True),
        runs,
        "cold starts of a package with more and less incompressible bytes",
        "package beyond a small one, bytes",
        "before INIT, s",
        most="medium",
    )


def keep_alive(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity | Absent]:
    """Whether an instance is still there after an idle time: all leave at once, or half of them each period.

    Whichever is likelier. Idle times tell no more than a bracket.
    """
    rows = measured.of("keep-alive")
    rows = rows[rows.idle_s.notna()].assign(y=lambda table: (~table.cold).astype(float))
    runs = runs_of(rows, lambda run: run.groupby("idle_s").y.agg(["mean", "size"]).reset_index().to_numpy(float))
    if not runs:
        return
    fixed, halves = Expiry(), Halving()
    at_once = fixed.likelihood(runs) >= halves.likelihood(runs)
    name, law = ("keep_alive_s", fixed) if at_once else ("keep_alive_halving_s", halves)
    low, high = law.between(runs)
    said = f"anything from {low:g} to {high:g} s fits alike"
    if high == math.inf:
        high = max(profile.start.instance_age_s.median, low)
        said = f"at least {low:g} s: after no longer time were they gone; at most the {high:g} s that one lives"
    yield measured.quantity(
        ("start", name),
        "s",
        law,
        runs,
        f"instances called again after idle times; {said}",
        "idle time, s",
        "share of instances still warm",
        most="medium",
        between=(low, high),
    )
    if at_once:
        yield Absent(("start", "keep_alive_halving_s"))


def account(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """Calls at once, as the account's settings say: no campaign goes beyond them."""
    yield measured.quantity(
        ("concurrency", "account"),
        "1",
        Level(),
        [np.array([limit]) for limit in measured.accounts],
        "the account's own setting",
        "campaign",
        "calls at once",
    )


def scaling(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """New instances that calls at once may start, and how many more some time later.

    Both are counted: the truth is less than one instance away, and each run narrows it down.
    """
    import pandas as pd

    rows = pd.concat([measured.of("burst"), measured.failed[measured.failed.probe == "burst"]])
    rows = rows[rows.status.isin(["ok", "throttled"]) & (rows.at_once > 1)]
    told = [_of_function(calls) for _, calls in rows.groupby(["run_key", "function"], sort=True)]
    for name, unit, counted, what in (
        ("scaling_burst", "1", [first for first, _ in told], "calls at once on a new function that were served"),
        ("scaling_per_s", "1/s", [later for _, later in told], "instances started later, by the time since"),
    ):
        brackets = np.array([each for each in counted if each is not None])
        if not len(brackets):
            continue
        low, high = float(brackets[:, 0].max()), float(brackets[:, 1].min())
        yield measured.quantity(
            ("concurrency", name),
            unit,
            Level(),
            [np.array([bracket.mean()]) for bracket in brackets],
            what,
            "function",
            f"instances{'' if unit == '1' else ', ' + unit}",
            most="medium",
            between=(low, high) if low <= high else None,
        )


def _of_function(calls: pd.DataFrame) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Of bursts on one function: brackets of what the first may start, and of how many more there are each second.

    None where it was not throttled: then they are not bounded.
    """
    calls = calls.sort_values("sent_s", kind="stable")
    size = int(calls.at_once.iloc[0])
    bursts = [calls.iloc[k : k + size] for k in range(0, len(calls), size)]
    throttled = [bool((burst.status == "throttled").any()) for burst in bursts]
    if not throttled[0]:
        return None, None
    served, new = float((bursts[0].status == "ok").sum()), 0.0
    last = throttled.index(False) - 1 if False in throttled else len(bursts) - 1
    seconds = float(bursts[last].sent_s.min() - bursts[0].sent_s.min())
    if not seconds:
        return (served, served + 1), None
    new = sum(float((burst.status.eq("ok") & burst.cold).sum()) for burst in bursts[1 : last + 1])
    return (served, served + 1), (max(new - 1, 0.5) / seconds, (new + 1) / seconds)


def _front_end_s(rows: pd.DataFrame) -> np.ndarray:
    seconds = (rows.client_s - rows.duration_s).to_numpy(float)
    return seconds[seconds > 0]


def _before_init_s(rows: pd.DataFrame, keep: bool = False) -> np.ndarray:
    """Wall time of cold calls less Duration and INIT, s; `keep`: in the table's rows, with NaN."""
    seconds = (rows.client_s - rows.duration_s - rows.init_s).to_numpy(float)
    return seconds if keep else seconds[seconds > 0]


def _medians(rows: pd.DataFrame, by: list[str]) -> np.ndarray:
    """Medians of `y` by other columns, shape (groups, columns + 1)."""
    return rows.groupby(by).y.median().reset_index().dropna().to_numpy(float)
