"""Public measurements of AWS: what each file gives a profile, and what of it is held against one.

Reads the files by their columns. A constant whose file is not there keeps the base profile's value and is marked
`not measured`; one that the base describes better keeps it as well. What is fitted and how: docs/calibration.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from calibration.calibrated import Calibration, check_values, marked
from calibration.check.checks import Measured
from calibration.fitting.bootstrap import Quantity, fit
from calibration.published import compute, network, rates, start, storage
from calibration.tables import Origin, Period, read_table
from moe.errors import InputError
from simulator.profiles.constant import VisibleCores
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import constant_at, with_constant

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
Fits: TypeAlias = "Callable[[pd.DataFrame, Origin, PlatformProfile], Iterator[Quantity | VisibleCores]]"
Checks: TypeAlias = "Callable[[pd.DataFrame, PlatformProfile], Iterator[Measured]]"


@dataclass(frozen=True)
class PublicFile:
    """What one file measures.

    Attributes:
        pattern: of its name; of several files the last one counts. region: where its source states one.
        fit: what it gives a profile. check: what is held against a profile. None: nothing.
    """

    pattern: str
    fit: Fits | None = None
    check: Checks | None = None
    region: str | None = None


FILES = (
    PublicFile("coldstart_maxday_raw_*.csv", start.init_fit, start.init_check),
    PublicFile("coldstart_maxday_daily_*.csv", None, start.init_daily_check),
    PublicFile("coldstart_maxday_history_python_x86_zip.csv", None, start.init_history_check),
    PublicFile("fourtheorem_init_by_memory_*.csv", start.init_with_imports_fit, start.init_with_imports_check),
    PublicFile("sebs_container_eviction_*.csv", start.keep_alive_fit, start.keep_alive_check),
    PublicFile("stellar_aws_scalars_*.csv", start.invocation_fit, start.invocation_check),
    PublicFile("skyrise_s3_latency_raw_*.csv", storage.latency_fit, storage.latency_check, "us-east-1"),
    PublicFile("skyrise_s3_latency_from_lambda_*.csv", None, storage.latency_summary_check),
    PublicFile("sebs_aws_s3_by_memory_*.csv", storage.by_memory_fit, storage.by_memory_check),
    PublicFile("s3_ec2_*_dvassallo_*.csv", storage.connection_fit, storage.connection_check),
    PublicFile("skyrise_storage_aggregate_*.csv", storage.upload_fit, storage.requests_check),
    PublicFile(
        "skyrise_lambda_network_intervals*.csv", network.intervals_fit, network.intervals_check, "us-east-1"
    ),
    PublicFile("skyrise_lambda_network_per_function*.csv", None, network.summary_check),
    PublicFile("lambda_network_sjakthol_*.csv", None, network.by_memory_check),
    PublicFile(
        "lambda_memory_scaling_cebert_*.csv", compute.single_thread_fit, compute.single_thread_check, "us-east-2"
    ),
    PublicFile("pacslab_slapp_function_duration_by_memory_*.csv", None, compute.functions_check),
    PublicFile("lambda_linpack_gflops_by_memory_*.csv", None, compute.linpack_check),
    PublicFile("lambda_vcpu_tiers*.csv", compute.visible_cores_fit, compute.visible_cores_check),
    PublicFile("sebs_aws_s3_by_memory_*.csv", None, compute.resnet50_check),
    PublicFile("sebs_aws_s3_by_memory_*.csv", compute.instance_fit, compute.instance_check),
    PublicFile("compute_rates*.csv", rates.rates_fit, rates.rates_check),
    PublicFile("mlperf_inference_single_node*.csv", rates.efficiency_fit, None),
    PublicFile("ec2_ondemand_prices_*.csv", compute.cluster_price_fit, None, "us-east-1"),
)
"""In the order of the pages; later ones see what earlier ones fitted. Not held against a profile: prices, which
are no measurement; the sum of many clients' throughput, which the simulator does not bound; and what two have."""


def files_in(folder: Path, reader: Callable[[PublicFile], T | None]) -> list[tuple[Path, str | None, T]]:
    """Path, region and reader of the files in a folder, or in folders in it, that have one.

    Raises InputError: it has none.
    """
    wanted = [(file, read) for file in FILES if (read := reader(file)) is not None]
    there = [
        (max(paths, key=lambda path: path.name), file.region, read)
        for file, read in wanted
        if (paths := [*folder.rglob(file.pattern)])
    ]
    if not there:
        names = ", ".join(sorted({file.pattern for file, _ in wanted}))
        raise InputError(f"{folder}: none of the public files is there; expected {names}")
    return there


def calibrate_public(
    folder: Path, base: PlatformProfile, seed: int = 0, period: Period | None = None
) -> Calibration:
    """The base profile with every constant that the folder's files measure in a period.

    Raises InputError when the folder has none of the files, one without the columns, or nothing in the period.
    """
    period = period or Period()
    profile, fits, unknown = marked(base), [], []
    for path, region, read in files_in(folder, lambda file: file.fit):
        table, origin = read_table(path, period, region)
        with _columns(path):
            quantities = list(read(table, origin, profile)) if len(table) else []
        for found in quantities:
            if isinstance(found, VisibleCores):
                compute = profile.compute.model_copy(update={"visible_cores": found})
                profile = profile.model_copy(update={"compute": compute})
            elif not found.runs:
                continue
            elif found.path[:2] == ("start", "packages") and found.path[2] not in base.start.packages:
                unknown.append(found.path[2])
            else:
                check_values(path, found)
                fits.append(fit(found, constant_at(base, found.path), seed))
                profile = with_constant(profile, found.path, fits[-1].constant)
    if profile == marked(base):
        raise InputError(
            f"{folder}: nothing was measured from {period.since or 'ever'} to {period.until or 'now'}"
        )
    return Calibration(profile, fits, unknown)


def public_rows(
    folder: Path, profile: PlatformProfile | None = None, period: Period | None = None
) -> list[Measured]:
    """Every quantity that a file in the folder measures (in a period), beside a probe of the profile.

    Raises InputError when the folder has none of the files, one without its columns, or nothing in the period.
    """
    profile, period = profile or load_profile(), period or Period()
    rows: list[Measured] = []
    for path, region, read in files_in(folder, lambda file: file.check):
        table, _ = read_table(path, period, region)
        with _columns(path):
            rows += read(table, profile) if len(table) else []
    found = [row for row in rows if np.isfinite(row.measured)]
    if not found:
        raise InputError(f"{folder}: nothing was measured in the period that is asked for")
    return found


@contextmanager
def _columns(path: Path) -> Iterator[None]:
    """Raises InputError where a table lacks a column or a row, or has another type there."""
    try:
        yield
    except InputError:
        raise
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: a column or row is missing: {' '.join(str(error).split())}") from None
