"""Measurement tables of one's own campaigns into a platform profile: `smoe calibrate DIR`.

A constant that no campaign measured keeps the base profile's value and is marked so (docs/calibration.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from calibration.calibrated import Calibration, check_values, marked
from calibration.fitting.bootstrap import Absent, Fitted, Quantity, fit
from calibration.measured import compute as measured_compute
from calibration.measured import cpu as measured_cpu
from calibration.measured import network as measured_network
from calibration.measured import payload as measured_payload
from calibration.measured import start as measured_start
from calibration.measured.billing import billing_rules
from calibration.measured.rows import Measurements, read_campaigns
from moe.errors import InputError
from simulator.profiles.constant import Constant
from simulator.profiles.groups import PackageConstants
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import constant_at, with_constant

Reader: TypeAlias = Callable[[Measurements, PlatformProfile], Iterator[Quantity | Absent]]

READERS: tuple[Reader, ...] = (
    measured_start.warm,
    measured_start.packages,
    measured_start.fetch,
    measured_start.keep_alive,
    measured_start.account,
    measured_start.scaling,
    measured_compute.vcpu,
    measured_compute.scaling,
    measured_compute.expert,
    measured_compute.jitter,
    measured_compute.instances,
    measured_compute.runtime_bytes,
    measured_network.network,
    measured_cpu.request_work,
    measured_network.latency,
    measured_payload.encoding,
    measured_payload.payload,
    measured_payload.payload_limit,
)
"""In this order: later ones see what earlier ones fitted, and stand where both fit the same constant."""
MAIN = ("expert", "multiply", "warm")
"""Probes whose package is the main one, the first that was measured."""


def calibrate_campaigns(folders: Sequence[str | Path], base: PlatformProfile, seed: int = 0) -> Calibration:
    """The base profile with every constant that the campaigns in these folders measured.

    Args:
        folders: of campaigns, each with its measurements.parquet.
        base: the profile whose other constants stand. seed: of the intervals' bootstrap.

    Raises InputError for a folder without measurements, or with none that tell a constant.

    >>> import serverless_moe as smoe
    >>> found = smoe.calibrate(["campaign"], smoe.load_profile())  # a folder of `smoe probe --out campaign`
    >>> found.profile.name, len(found.fits) > 0
    ('aws-us-east-1-2026', True)
    """
    measured = read_campaigns([Path(folder) for folder in folders])
    where = ", ".join(map(str, folders))
    profile = marked(base)
    fits: dict[tuple[str, ...], Fitted] = {}
    new: dict[str, dict[str, Constant]] = {}
    for read in READERS:
        for quantity in read(measured, profile):
            if isinstance(quantity, Absent):
                profile = with_constant(profile, quantity.path, None)
                continue
            if not quantity.runs:
                continue
            check_values(where, quantity)
            package = quantity.path[2] if quantity.path[:2] == ("start", "packages") else ""
            known = not package or package in base.start.packages
            found = fit(quantity, _before(base, quantity) if known else None, seed)
            fits[quantity.path] = found
            if known:
                profile = with_constant(profile, quantity.path, found.constant)
            else:
                new.setdefault(package, {})[quantity.path[3]] = found.constant
    if not fits:
        raise InputError(f"{where}: no constant of a profile was measured there")
    profile, missing = _with_packages(profile, new, measured)
    for path in [path for path in fits if path[:2] == ("start", "packages") and path[2] in missing]:
        del fits[path]
    cores = measured_compute.visible_cores(measured, base.compute.visible_cores)
    if cores is not None:
        compute = profile.compute.model_copy(update={"visible_cores": cores})
        profile = profile.model_copy(update={"compute": compute})
    by_cpu = measured_cpu.moved_by_cpu(measured, profile)
    if by_cpu is not None:
        network = profile.network.model_copy(update={"moved_by_cpu": by_cpu})
        profile = profile.model_copy(update={"network": network})
        for path in measured_cpu.OF_AWS if by_cpu else ():
            profile = profile if path in fits else with_constant(profile, path, None)
    prices, rules = billing_rules(measured, profile.prices)
    profile = profile.model_copy(update={"prices": prices})
    made: list[Fitted] = list(fits.values())
    return Calibration(profile, made, missing, rules, measured.left_out)


def _before(base: PlatformProfile, quantity: Quantity) -> Constant | None:
    return constant_at(base, quantity.path)


def _with_packages(
    profile: PlatformProfile, new: dict[str, dict[str, Constant]], measured: Measurements
) -> tuple[PlatformProfile, list[str]]:
    """The profile with packages that are new and were measured in full, and the names of others.

    That of the functions that computed becomes the one of functions that name none.
    """
    packages, missing = dict(profile.start.packages), []
    for name, constants in new.items():
        if len(constants) < 2:
            missing.append(name)
            continue
        row = measured.rows[measured.rows.package == name].iloc[0]
        packages[name] = PackageConstants(
            package_type=row.package_type, runtime=row.runtime, architecture=row.architecture, **constants
        )
    computing = next((rows for probe in MAIN if len(rows := measured.of(probe))), measured.rows)
    main = str(computing.package.mode().iloc[0]) if len(computing) else ""
    start = profile.start.model_copy(
        update={"packages": packages, "package": main if main in packages else profile.start.package}
    )
    return profile.model_copy(update={"start": start}), missing
