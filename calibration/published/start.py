"""Public measurements of how a call starts, as quantities: INIT, warm starts, payloads, keep-alive."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from calibration.fitting.bootstrap import Quantity
from calibration.fitting.laws import Distribution, Halving, Level, Published, table_of
from calibration.fitting.regression import halving_period
from calibration.tables import Origin
from simulator.draws import quantile_at
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

MS, KIB, MIB = 1e-3, 2.0**10, 2.0**20
PACKAGES = tuple(itertools.product(("python3.12", "python3.13"), ("zip", "image"), ("x86_64", "arm64")))


def init(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """INIT by package; a day is a run."""
    for runtime, package, architecture in PACKAGES:
        rows = table[
            (table.runtime == runtime)
            & (table.package_type == package)
            & table.architecture.str.startswith(architecture)
        ]
        name = f"{runtime}-{architecture}-{package}"
        yield Quantity(
            ("start", "packages", name, "init_s"),
            "s",
            Distribution(),
            [day.init_ms.to_numpy(float) * MS for _, day in rows.groupby("date")],
            origin,
            f"maxday/lambda-perf, Init Duration, {runtime} {architecture} {package}, hello world",
            "probability",
            f"INIT, {name}, s",
        )


def init_with_imports(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """A published mean by package type."""
    for package in ("zip", "image"):
        rows = table[table.package_type == package]
        yield Quantity(
            ("start", "packages", f"python-x86_64-{package}-data-science", "init_s"),
            "s",
            Level(),
            [rows.init_ms_mean.to_numpy(float) * MS][: len(rows)],
            origin,
            f"fourTheorem, INIT of a {package} with numpy, pandas and pyarrow at 1024 MB, a mean",
            "run",
            f"INIT, {package} with imports, s",
            most="low",
        )


def invocation(table: pd.DataFrame, origin: Origin, profile: PlatformProfile) -> Iterator[Quantity]:
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
        [np.array([(4 * MIB - KIB) / (large - small)])],
        origin,
        "STeLLAR, IISWC 2021, medians of 1 KB and 4 MB (two points)",
        "run",
        "payload bandwidth, bytes/s",
        most="low",
    )


def keep_alive(table: pd.DataFrame, origin: Origin, _: PlatformProfile) -> Iterator[Quantity]:
    """Share of instances that are still warm after an idle time; a number of instances is a run."""
    points = ["idle_delta_s", "warm_fraction_mean"]
    runs = [run[points].to_numpy(float) for _, run in table.groupby("initial_invocations")]
    every = np.concatenate(runs) if runs else np.empty((0, 2))
    told = "{:.0f} to {:.0f} s fit alike".format(*halving_period(*every.T)) if len(every) else ""
    yield Quantity(
        ("start", "keep_alive_halving_s"),
        "s",
        Halving(),
        runs,
        origin,
        f"SeBS, each such idle period halves the instances (2020); {told}",
        "idle time, s",
        "share of instances still warm",
        most="low",
    )
