"""Public measurements of AWS into constants of a platform profile: INIT and S3 latency.

Reads the files by their columns; a constant whose file is not there keeps the base profile's value.

| file | from | columns used |
|---|---|---|
| coldstart_maxday_raw_*.csv | maxday/lambda-perf | date, runtime, package_type, architecture, init_ms |
| skyrise_s3_latency_raw_*.csv | hpides/skyrise | run_date, storage, operation, latency_ms |
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moe.errors import InputError
from simulator.constant import Constant, Quantiles
from simulator.profile import PlatformProfile, constant_at, with_constant

if TYPE_CHECKING:
    import pandas as pd

PROBABILITIES = (0.05, 0.25, 0.5, 0.9, 0.99, 0.999)
SAMPLES_BEYOND = 5  # a tail quantile is fitted where at least so many samples lie beyond it
MILLISECONDS = 1e-3


@dataclass(frozen=True)
class Quantity:
    """One constant that a public file measures.

    Attributes:
        path: where it stands in the profile.
        pattern: of the file's name. source: what the profile then names.
        run: the column of independent runs. value: the column of values, ms.
        wanted: which rows count.
    """

    path: tuple[str, ...]
    pattern: str
    source: str
    run: str
    value: str
    wanted: Callable[[pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Fit:
    """A fitted constant beside the one it replaces.

    Attributes:
        quantity: what was fitted. samples, runs: how much it rests on.
        constant: the fit. before: the base profile's.
        median_interval_s: 95% interval of the median, from a bootstrap over runs; None of a single run.
    """

    quantity: Quantity
    samples: int
    runs: int
    constant: Constant
    before: Constant
    median_interval_s: tuple[float, float] | None


def _init(runtime: str, package_type: str, architecture: str) -> Quantity:
    def wanted(t: pd.DataFrame) -> pd.Series:
        return (
            (t.runtime == runtime) & (t.package_type == package_type) & t.architecture.str.startswith(architecture)
        )

    return Quantity(
        ("start", "packages", f"{runtime}-{architecture}-{package_type}", "init_s"),
        "coldstart_maxday_raw_*.csv",
        f"maxday/lambda-perf, Init Duration, {runtime} {architecture} {package_type}, hello world",
        "date",
        "init_ms",
        wanted,
    )


def _s3(name: str, operation: str) -> Quantity:
    return Quantity(
        ("storage", name),
        "skyrise_s3_latency_raw_*.csv",
        f"Skyrise, 1 KB {'GET' if operation == 'Read' else 'PUT'} from Lambda, us-east-1",
        "run_date",
        "latency_ms",
        lambda t: (t.storage == "S3 Standard") & (t.operation == operation),
    )


QUANTITIES = (
    *(
        _init(*which)
        for which in itertools.product(("python3.12", "python3.13"), ("zip", "image"), ("x86_64", "arm64"))
    ),
    _s3("get_latency_s", "Read"),
    _s3("put_latency_s", "Write"),
)


def calibrate_public(folder: Path, base: PlatformProfile, seed: int = 0) -> tuple[PlatformProfile, list[Fit]]:
    """The base profile with every constant that the folder's files measure, and the fits.

    Raises InputError when the folder has none of the files, or one without the columns.
    """
    fits = [
        found
        for quantity in QUANTITIES
        for path in sorted(folder.glob(quantity.pattern))[-1:]
        if (found := fit(quantity, path, base, seed)) is not None
    ]
    if not fits:
        names = ", ".join(sorted({quantity.pattern for quantity in QUANTITIES}))
        raise InputError(f"{folder}: none of the public files is there; expected {names}")
    profile = base
    for found in fits:
        profile = with_constant(profile, found.quantity.path, found.constant)
    return profile, fits


def fit(quantity: Quantity, path: Path, base: PlatformProfile, seed: int) -> Fit | None:
    """Quantiles of one quantity, and how sure its median is; None where the file has no row of it.

    Raises InputError when the file lacks a column.
    """
    import pandas as pd

    table = pd.read_csv(path)
    try:
        rows = table[quantity.wanted(table)]
        runs = [group.to_numpy(float) * MILLISECONDS for _, group in rows.groupby(quantity.run)[quantity.value]]
    except (AttributeError, KeyError) as error:
        raise InputError(f"{path}: a column is missing: {error}") from None
    if not runs:
        return None
    values = np.concatenate(runs)
    known = [p for p in PROBABILITIES if min(p, 1 - p) * len(values) >= SAMPLES_BEYOND]
    table_of_quantiles = dict(zip(known, np.quantile(values, known).round(6).tolist(), strict=True))
    before = constant_at(base, quantity.path)
    constant = Constant(
        value=Quantiles(quantiles=table_of_quantiles),
        unit=before.unit,
        source=f"{quantity.source}; {len(values)} samples in {len(runs)} runs",
        date=str(rows[quantity.run].max())[:7],
        confidence="high" if len(runs) >= 5 else "medium",
    )
    return Fit(quantity, len(values), len(runs), constant, before, _median_interval(runs, seed))


def _median_interval(runs: list[np.ndarray], seed: int) -> tuple[float, float] | None:
    """95% interval of the median, resampling whole runs: samples of one run are not independent."""
    if len(runs) < 2:
        return None
    rng = np.random.default_rng(seed)
    medians = [
        float(np.median(np.concatenate([runs[k] for k in rng.integers(len(runs), size=len(runs))])))
        for _ in range(200)
    ]
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)
