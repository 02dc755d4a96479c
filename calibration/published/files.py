"""Public measurements of AWS into a platform profile.

Reads the files by their columns. A constant whose file is not there keeps the base profile's value and is marked
`not measured`; one that the base describes better keeps it as well. What is fitted and how: docs/calibration.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from calibration.calibrated import Calibration, check_values, marked
from calibration.fitting.bootstrap import Quantity, fit
from calibration.published import platform as public_platform
from calibration.published import start as public_start
from calibration.tables import Origin, Period, read_table
from moe.errors import InputError
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import constant_at, with_constant

if TYPE_CHECKING:
    import pandas as pd

Reader: TypeAlias = "Callable[[pd.DataFrame, Origin, PlatformProfile], Iterator[Quantity]]"

FILES: tuple[tuple[str, str | None, Reader], ...] = (
    ("coldstart_maxday_raw_*.csv", None, public_start.init),
    ("fourtheorem_init_by_memory_*.csv", None, public_start.init_with_imports),
    ("sebs_container_eviction_*.csv", None, public_start.keep_alive),
    ("stellar_aws_scalars_*.csv", None, public_start.invocation),
    ("skyrise_s3_latency_raw_*.csv", "us-east-1", public_platform.s3_latency),
    ("sebs_aws_s3_by_memory_*.csv", None, public_platform.s3_by_memory),
    ("s3_ec2_*_dvassallo_*.csv", None, public_platform.s3_connection),
    ("skyrise_lambda_network_intervals*.csv", "us-east-1", public_platform.network),
    ("lambda_memory_scaling_cebert_*.csv", "us-east-2", public_platform.single_thread),
    ("sebs_aws_s3_by_memory_*.csv", None, public_platform.resnet50),
    ("ec2_ondemand_prices_*.csv", "us-east-1", public_platform.cluster_price),
)
"""Names of the files, the region where their source states one, what reads them. Later ones see earlier fits."""
CORES = "lambda_vcpu_tiers*.csv"


def calibrate_public(
    folder: Path, base: PlatformProfile, seed: int = 0, period: Period | None = None
) -> Calibration:
    """The base profile with every constant that the folder's files measure in a period.

    Raises InputError when the folder has none of the files, one without the columns, or nothing in the period.
    """
    period = period or Period()
    profile, fits, unknown = marked(base), [], []
    there = [(path, region, read) for name, region, read in FILES if (path := _newest(folder, name))]
    cores = _newest(folder, CORES)
    if not there and cores is None:
        names = ", ".join(sorted({name for name, _, _ in FILES} | {CORES}))
        raise InputError(f"{folder}: none of the public files is there; expected {names}")
    for path, region, read in there:
        table, origin = read_table(path, period, region)
        for quantity in _read(path, read, table, origin, profile):
            if not quantity.runs:
                continue
            if quantity.path[:2] == ("start", "packages") and quantity.path[2] not in base.start.packages:
                unknown.append(quantity.path[2])
                continue
            check_values(path, quantity)
            found = fit(quantity, constant_at(base, quantity.path), seed)
            profile = with_constant(profile, quantity.path, found.constant)
            fits.append(found)
    if cores is not None:
        table, origin = read_table(cores, period, None)
        if len(table):
            with _columns(cores):
                seen = public_platform.visible_cores(table, origin)
            compute = profile.compute.model_copy(update={"visible_cores": seen})
            profile = profile.model_copy(update={"compute": compute})
    if profile == marked(base):
        raise InputError(
            f"{folder}: nothing was measured from {period.since or 'ever'} to {period.until or 'now'}"
        )
    return Calibration(profile, fits, unknown)


def _newest(folder: Path, name: str) -> Path | None:
    return max(folder.glob(name), default=None)


def _read(
    path: Path, read: Reader, table: pd.DataFrame, origin: Origin, profile: PlatformProfile
) -> list[Quantity]:
    with _columns(path):
        return list(read(table, origin, profile)) if len(table) else []


@contextmanager
def _columns(path: Path) -> Iterator[None]:
    """Raises InputError where a table lacks a column or a row, or has another type there."""
    try:
        yield
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: a column is missing: {' '.join(str(error).split())}") from None
