"""What campaigns measure of how a call starts, as quantities: warm starts, packages, keep-alive, scaling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.fitting.bootstrap import Quantity
from calibration.fitting.laws import Bandwidth, Beneath, Distribution, Expiry, Halving, Level
from calibration.fitting.regression import halving_period, theil_sen
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
    cold, warm_s = measured.of("cold"), _front_end_s(measured.of("warm"))
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
        if len(warm_s):
            yield measured.quantity(
                (*place, "provisioning_s"),
                "s",
                Beneath(warm_s),
                runs_of(small, _before_init_s),
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


def keep_alive(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """Whether an instance is still there after an idle time: all leave at once, or half of them each period."""
    rows = measured.of("keep-alive")
    rows = rows[rows.idle_s.notna()].assign(y=lambda table: (~table.cold).astype(float))
    runs = runs_of(rows, lambda run: run.groupby("idle_s").y.mean().reset_index().to_numpy(float))
    if not runs:
        return
    points = np.concatenate(runs)
    last_warm_s, first_gone_s = Expiry().between(runs)
    if first_gone_s == math.inf:
        return  # none left: no idle time was long enough
    fixed, halves = Expiry(), Halving()
    expiry_error = fixed.error(fixed.centre(runs), runs)
    halving_error = halves.error(halves.centre(runs), runs)
    bounds = (last_warm_s, first_gone_s) if expiry_error <= halving_error else halving_period(*points.T)
    name, law = ("keep_alive_s", fixed) if expiry_error <= halving_error else ("keep_alive_halving_s", halves)
    yield measured.quantity(
        ("start", name),
        "s",
        law,
        runs,
        f"instances called again after idle times; anything from {bounds[0]:g} to {bounds[1]:g} s fits alike",
        "idle time, s",
        "share of instances still warm",
        most="medium",
        between=bounds,
    )


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
    """New instances that calls at once may start, and how many more some time later."""
    import pandas as pd

    rows = pd.concat([measured.of("burst"), measured.failed[measured.failed.probe == "burst"]])
    rows = rows[rows.status.isin(["ok", "throttled"]) & (rows.at_once > 1)]
    first, later = [], []
    for _, run in rows.groupby("run_key", sort=True):
        told = [_of_function(calls) for _, calls in run.groupby(["function", "at_once"])]
        first.append(np.array([started for started, _ in told if started]))
        later.append(np.array([rate for _, rates in told for rate in rates]))
    for name, unit, values, what in (
        ("scaling_burst", "1", first, "calls at once on a new function that were not throttled"),
        ("scaling_per_s", "1/s", later, "instances started beyond those that were there, by the time since"),
    ):
        yield measured.quantity(
            ("concurrency", name),
            unit,
            Level(),
            [each for each in values if each.size],
            what,
            "run",
            f"instances{'' if unit == '1' else ', ' + unit}",
            most="medium",
        )


def _of_function(calls: pd.DataFrame) -> tuple[float, list[float]]:
    """Of bursts on one function: instances of the first where it was throttled (else 0), rates of later ones."""
    calls = calls.sort_values("sent_s", kind="stable")
    size = int(calls.at_once.iloc[0])
    bursts = [calls.iloc[k : k + size] for k in range(0, len(calls), size)]
    if not (bursts[0].status == "throttled").any():
        return 0.0, []
    rates = []
    for before, now in itertools.pairwise(bursts):
        seconds = float(now.sent_s.min() - before.sent_s.min())
        if (now.status == "throttled").any() and seconds > 0:
            rates.append(float((now.status.eq("ok") & now.cold).sum()) / seconds)
    return float((bursts[0].status == "ok").sum()), [rate for rate in rates if rate > 0]


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
