"""Public measurements of AWS beside probes of the packaged profile: every quantity that a file measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from calibration.check import published_bytes as public_bytes
from calibration.check import published_compute as public_compute
from calibration.check import published_start as public_start
from calibration.check.checks import Measured
from calibration.tables import Period
from moe.errors import InputError
from simulator.profiles.schema import PlatformProfile, load_profile

if TYPE_CHECKING:
    import pandas as pd

FILES: tuple[tuple[str, Callable[[pd.DataFrame, PlatformProfile], Iterator[Measured]]], ...] = (
    ("coldstart_maxday_raw_2026.csv", public_start.init_raw),
    ("coldstart_maxday_daily_2026.csv", public_start.init_daily),
    ("coldstart_maxday_history_python_x86_zip.csv", public_start.init_history),
    ("fourtheorem_init_by_memory_2023.csv", public_start.init_with_imports),
    ("sebs_container_eviction_2020.csv", public_start.keep_alive),
    ("stellar_aws_scalars_2021.csv", public_start.invocation),
    ("skyrise_s3_latency_raw_sample_2024.csv", public_bytes.s3_latency),
    ("skyrise_s3_latency_from_lambda_2024.csv", public_bytes.s3_summary),
    ("sebs_aws_s3_by_memory_2020.csv", public_bytes.s3_by_memory),
    ("s3_ec2_c5.4xlarge_dvassallo_2019.csv", public_bytes.s3_from_ec2),
    ("skyrise_storage_aggregate_2024.csv", public_bytes.s3_requests),
    ("skyrise_lambda_network_intervals.csv", public_bytes.network),
    ("skyrise_lambda_network_per_function.csv", public_bytes.network_summary),
    ("lambda_memory_scaling_cebert_2025.csv", public_compute.single_thread),
    ("pacslab_slapp_function_duration_by_memory_2020.csv", public_compute.functions_by_memory),
    ("lambda_linpack_gflops_by_memory_2017.csv", public_compute.linpack),
    ("lambda_vcpu_tiers.csv", public_compute.vcpu_tiers),
    ("sebs_aws_s3_by_memory_2020.csv", public_compute.resnet50),
)
"""Names of the files and what they measure, in the order of the page. Left out: prices, which are no measurement;
the sum of many clients' throughput, which the simulator does not bound; and what two files have."""


def public_rows(
    folder: Path, profile: PlatformProfile | None = None, period: Period | None = None
) -> list[Measured]:
    """Every quantity that a file in the folder measures (in a period), beside a probe of the profile.

    Raises InputError when the folder has none of the files, one without its columns, or nothing in the period.
    """
    import pandas as pd

    profile = profile or load_profile()
    there = [(folder / name, rows) for name, rows in FILES if (folder / name).is_file()]
    if not there:
        names = ", ".join(dict(FILES))
        raise InputError(f"{folder}: none of the public files is there; expected {names}")
    found: list[Measured] = []
    for path, rows in there:
        try:
            table = (period or Period()).rows(pd.read_csv(path), path.name)
            found += rows(table, profile) if len(table) else []
        except InputError:
            raise
        except (AttributeError, KeyError, IndexError, ValueError) as error:
            raise InputError(f"{path}: a column or row is missing: {error}") from None
    found = [row for row in found if np.isfinite(row.measured)]
    if not found:
        raise InputError(f"{folder}: nothing was measured in the period that is asked for")
    return found
