"""Public measurements of how a call starts: INIT by package, keep-alive, invocation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.check import probes
from calibration.check.checks import KB, MIB, MS, Data, Measured, scatter
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

MANY = 4000  # calls of a probe whose tail is looked at

PACKAGES = tuple(itertools.product(("python3.12", "python3.13"), ("x86_64", "arm64"), ("zip", "image")))


def init_raw(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """INIT by package; that of the default one with its tail."""
    for runtime, architecture, package in PACKAGES:
        name = f"{runtime}-{architecture}-{package}"
        rows = table[
            (table.runtime == runtime) & (table.package_type == package) & (table.architecture == architecture)
        ]
        if rows.empty:
            continue
        simulated = probes.inits(profile, MANY, name)
        days = [day.init_ms for _, day in rows.groupby("date")]
        for q in (0.5, 0.9, 0.99) if name == profile.start.package else (0.5, 0.99):
            yield Measured(
                f"INIT, {runtime} {architecture} {package}, p{100 * q:.0f}",
                "ms",
                rows.init_ms.quantile(q),
                float(np.quantile(simulated, q)) / MS,
                scatter(day.quantile(q) for day in days),
                f"{len(days)} days",
                "fitted",
                "maxday/lambda-perf, 2026, raw",
            )


def init_daily(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Days that the raw file does not have, by month."""
    zips = table[
        (table.runtime == "python3.12") & (table.package_type == "zip") & (table.architecture == "x86_64")
    ]
    sampled = zips.date.str[-2:].isin(["05", "20"])  # the raw file's days
    simulated = float(np.median(probes.inits(profile, MANY))) / MS
    for month, rows in zips[~sampled].groupby(zips.date.str[:7]):
        days = rows.groupby("date").init_ms_p50.median()
        yield Measured(
            f"INIT, zip x86_64, p50 of {month}",
            "ms",
            days.median(),
            simulated,
            scatter(days),
            f"{len(days)} days, none of the raw file's",
            "unseen",
            "maxday/lambda-perf, daily",
        )


def init_history(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Two whole years before those that the profile comes from."""
    simulated = float(probes.inits(profile, MANY).mean()) / MS
    rows = table[table.runtime == "python3.12"]
    for year, chosen in rows.groupby(rows.date.str[:4]):
        days = chosen.groupby("date").init_ms_mean.mean()
        if year in ("2024", "2025"):
            yield Measured(
                f"INIT, zip x86_64, mean of {year}",
                "ms",
                days.mean(),
                simulated,
                scatter(days),
                f"{len(days)} days",
                "unseen",
                "maxday/lambda-perf, history",
            )


def init_with_imports(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Packages that import numpy, pandas and pyarrow."""
    for _, row in table[table.package_type != "zip_layers"].iterrows():
        package = f"python-x86_64-{row.package_type}-data-science"
        simulated = float(probes.inits(profile, 100, package).mean()) / MS
        yield Measured(
            f"INIT, {row.package_type} with numpy, pandas, pyarrow, mean",
            "ms",
            row.init_ms_mean,
            simulated,
            None,
            "a published mean only",
            "fitted",
            "fourTheorem, 2023",
        )


def keep_alive(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Instances that are still warm after an idle time, with a keep-alive that halves, and the profile's own."""
    period = profile.start.keep_alive_s.model_copy(update={"value": 380.0})
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


def invocation(table: pd.DataFrame, profile: PlatformProfile) -> Iterator[Measured]:
    """Published medians; a transfer is timed from the producer's sending to the consumer's handler."""
    values = table.set_index("metric")
    unknown, source = "published quantiles only", "STeLLAR, 2021"
    warm = probes.warm_starts(profile, MANY)
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
