"""How a call starts, as others measured it: INIT by package, keep-alive, invocation and payloads.

Of each file: what it gives a profile (`_fit`), and what is held against a profile (`_check`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from calibration.check import probes
from calibration.check.checks import KB, MIB, MS, Data, Measured, scatter
from calibration.fitting.bootstrap import Quantity
from calibration.fitting.laws import Distribution, Halving, Level, Published, table_of
from calibration.tables import Origin
from simulator.draws import quantile_at
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = tuple(itertools.product(("python3.12", "python3.13"), ("zip", "image"), ("x86_64", "arm64")))
"""Runtime, package type and architecture of the packages of a profile that say hello."""
WITH_IMPORTS = {kind: f"python-x86_64-{kind}-data-science" for kind in ("zip", "image")}
"""Packages of a profile that import numpy, pandas and pyarrow, by their type."""


# -- INIT -------------------------------------------------------------------------------------------------


def _packages(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each package's name in a profile, the same in words, and its rows."""
    for runtime, kind, architecture in PACKAGES:
        of_package = (table.package_type == kind) & (table.architecture == architecture)
        rows = table[(table.runtime == runtime) & of_package]
        yield f"{runtime}-{architecture}-{kind}", f"{runtime} {architecture} {kind}", rows


def init_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """INIT by package; a day is a run."""
    for name, said, rows in _packages(table):
        yield Quantity(
            ("start", "packages", name, "init_s"),
            "s",
            Distribution(),
            [day.init_ms.to_numpy(float) * MS for _, day in rows.groupby("date")],
            origin,
            f"maxday/lambda-perf, Init Duration, {said}, hello world",
            "probability",
            f"INIT, {name}, s",
        )


def init_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """INIT by package; that of the default one with its tail."""
    beside = partial(Measured, unit="ms", data="fitted", source="maxday/lambda-perf, 2026, raw")
    for name, said, rows in _packages(table):
        if rows.empty:
            continue
        simulated = probes.inits(profile, probes.MANY, name)
        days = [day.init_ms for _, day in rows.groupby("date")]
        for q in (0.5, 0.9, 0.99) if name == profile.start.package else (0.5, 0.99):
            yield beside(
                f"INIT, {said}, p{100 * q:.0f}",
                measured=rows.init_ms.quantile(q),
                simulated=float(np.quantile(simulated, q)) / MS,
                spread=scatter(day.quantile(q) for day in days),
                spread_of=f"{len(days)} days",
            )


def init_daily_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Days that the raw file does not have, by month."""
    beside = partial(Measured, unit="ms", data="unseen", source="maxday/lambda-perf, daily")
    _, _, zips = next(_packages(table))  # of python3.12 on x86_64
    sampled = zips.date.str[-2:].isin(["05", "20"])  # the raw file's days
    simulated = float(np.median(probes.inits(profile, probes.MANY))) / MS
    for month, rows in zips[~sampled].groupby(zips.date.str[:7]):
        days = rows.groupby("date").init_ms_p50.median()
        yield beside(
            f"INIT, zip x86_64, p50 of {month}",
            measured=days.median(),
            simulated=simulated,
            spread=scatter(days),
            spread_of=f"{len(days)} days, none of the raw file's",
        )


def init_history_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Two whole years before those that the profile comes from."""
    beside = partial(Measured, unit="ms", data="unseen", source="maxday/lambda-perf, history")
    simulated = float(probes.inits(profile, probes.MANY).mean()) / MS
    rows = table[table.runtime == "python3.12"]
    for year, chosen in rows.groupby(rows.date.str[:4]):
        days = chosen.groupby("date").init_ms_mean.mean()
        if year in ("2024", "2025"):
            yield beside(
                f"INIT, zip x86_64, mean of {year}",
                measured=days.mean(),
                simulated=simulated,
                spread=scatter(days),
                spread_of=f"{len(days)} days",
            )


def init_with_imports_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """A published mean by package type."""
    for kind, name in WITH_IMPORTS.items():
        rows = table[table.package_type == kind]
        yield Quantity(
            ("start", "packages", name, "init_s"),
            "s",
            Level(),
            [rows.init_ms_mean.to_numpy(float) * MS][: len(rows)],
            origin,
            f"fourTheorem, INIT of a {kind} with numpy, pandas and pyarrow at 1024 MB, a mean",
            "run",
            f"INIT, {kind} with imports, s",
            most="low",
        )


def init_with_imports_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Packages that import numpy, pandas and pyarrow."""
    beside = partial(
        Measured, unit="ms", spread_of="a published mean only", data="fitted", source="fourTheorem, 2023"
    )
    for kind, name in WITH_IMPORTS.items():
        for mean_ms in table[table.package_type == kind].init_ms_mean:
            simulated = float(probes.inits(profile, 100, name).mean()) / MS
            said = f"INIT, {kind} with numpy, pandas, pyarrow, mean"
            yield beside(said, measured=mean_ms, simulated=simulated, spread=None)


# -- keep-alive -------------------------------------------------------------------------------------------


def keep_alive_fit(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """Share of instances that are still warm after an idle time; a number of instances is a run."""
    points = table.assign(instances=table.initial_invocations * table.n_repetitions)
    columns = ["idle_delta_s", "warm_fraction_mean", "instances"]
    runs = [run[columns].to_numpy(float) for _, run in points.groupby("initial_invocations")]
    between = Halving().between(runs) if runs else None
    yield Quantity(
        ("start", "keep_alive_halving_s"),
        "s",
        Halving(),
        runs,
        origin,
        "SeBS, each such idle period halves the instances (2020)"
        + ("; {:.0f} to {:.0f} s fit alike".format(*between) if between else ""),
        "idle time, s",
        "share of instances still warm",
        most="low",
        between=between,
    )


def keep_alive_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Instances that are still warm after an idle time, with a keep-alive that halves, and the profile's own."""
    period = profile.start.keep_alive_s.with_value(380.0)
    start = profile.start.model_copy(update={"keep_alive_halving_s": period})
    halving = profile.model_copy(update={"start": start})
    for idle_s, rows in table.groupby("idle_delta_s"):
        if idle_s in (360, 420, 720, 780, 1080, 1140, 1320):
            yield _still_warm("halving each 380 s", halving, idle_s, rows, "fitted")
        if idle_s in (360, 480, 900):
            yield _still_warm("profile's keep-alive", profile, idle_s, rows, "unseen")


def _still_warm(name: str, profile: PlatformProfile, idle_s: float, rows: pd.DataFrame, data: Data) -> Measured:
    shares = rows.warm_fraction_mean
    return Measured(
        f"warm instances after {idle_s:.0f} s idle, {name}",
        "",
        shares.mean(),
        probes.warm_share(profile, 10, idle_s),
        scatter(shares),
        f"{len(rows)} numbers of instances",
        data,
        "SeBS, 2020",
    )


# -- invocation -------------------------------------------------------------------------------------------


def invocation_fit(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
    """Published quantiles of warm calls, and of payloads from function to function."""
    values = table.set_index("metric")
    warm = values.loc["warm_invocation_response_ms_minus_rtt"]
    small, large = (float(values.loc[f"inline_transfer_{size}_ms"].p50) * MS for size in ("1KB", "4MB"))
    overhead = table_of(profile.payload.overhead_s.value)
    tail = quantile_at(overhead, 0.99) / quantile_at(overhead, 0.5)
    levels = (0.5, 0.99)
    for path, quantiles, what in (
        (("start", "warm_s"), (warm.p50 * MS, warm.p99 * MS), "warm invocation, network round trip subtracted"),
        (("payload", "overhead_s"), (small, small * tail), "function to function, 1 KB; tail as it was"),
    ):
        yield Quantity(
            path,
            "s",
            Published(levels),
            [np.array(quantiles)],
            origin,
            f"STeLLAR, IISWC 2021, {what}",
            "probability",
            f"{'.'.join(path)}, s",
            most="medium",
        )
    yield Quantity(
        ("payload", "bytes_per_s"),
        "bytes/s",
        Level(),
        [np.array([(4 * MIB - KB) / (large - small)])],
        origin,
        "STeLLAR, IISWC 2021, medians of 1 KB and 4 MB (two points)",
        "run",
        "payload bandwidth, bytes/s",
        most="low",
    )


def invocation_check(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Published medians; a transfer is timed from the producer's sending to the consumer's handler."""
    values = table.set_index("metric")
    unknown, source = "published quantiles only", "STeLLAR, 2021"
    warm = probes.warm_starts(profile, probes.MANY)
    row = values.loc["warm_invocation_response_ms_minus_rtt"]
    for q, measured in ((0.5, row.p50), (0.99, row.p99)):
        simulated = float(np.quantile(warm, q)) / MS
        yield Measured(
            f"warm invocation, p{100 * q:.0f}", "ms", measured, simulated, None, unknown, "fitted", source
        )
    for name, metric, size in (
        ("1 KB", "inline_transfer_1KB_ms", KB),
        ("4 MB", "inline_transfer_4MB_ms", 4 * MIB),
    ):
        arrived, started = probes.transfers(profile, size, 1000)
        row = values.loc[metric]
        for q, measured in ((0.5, row.p50), (0.99, row.p99)):
            if np.isnan(measured):
                continue
            for part, took in (("payload alone", arrived), ("until the handler starts", started)):
                simulated = float(np.quantile(took, q)) / MS
                title = f"function to function, {name}, {part}, p{100 * q:.0f}"
                data: Data = "fitted" if took is arrived and q == 0.5 else "same runs"
                yield Measured(title, "ms", measured, simulated, None, unknown, data, source)
