"""What campaigns measure of compute, as quantities: vCPUs, FLOP/s, weights read, jitter, cores, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from calibration.fitting.bootstrap import Absent, Quantity
from calibration.fitting.laws import Around, Level
from calibration.fitting.regression import least_bounds, start_and_slope
from calibration.measured.rows import Measurements, runs_of, timed
from simulator.plan import MB
from simulator.profiles.closed_form import mean_speed, scaled_vcpus
from simulator.profiles.constant import Fit, VisibleCores
from simulator.profiles.schema import PlatformProfile

if TYPE_CHECKING:
    import pandas as pd

FLOAT_BYTES, MATRICES = 4, 2  # of an expert's weights
SEVERAL = 1.5  # vCPUs from which on they say how much faster several are
LEAST_EXPONENT = 0.01  # where several are no faster at all
SURE, LEAST_SPREAD = 0.999, 0.01  # that instances differ, and by how much at least (logarithms)


def _products(measured: Measurements, profile: PlatformProfile) -> pd.DataFrame:
    """Timed products of matrices with their FLOP/s, of arm64 as x86_64 would have them."""
    rows = timed(measured.of("multiply"))
    if not len(rows):
        return rows
    speeds = rows.architecture.map(lambda architecture: mean_speed(profile, architecture))
    return rows.assign(flops_per_s=rows.work_flop / rows.took_s / speeds)


def vcpu(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity]:
    """FLOP/s grow with memory up to what the threads can use: each run tells both bounds, or one of them."""
    rows = _products(measured, profile)
    if not len(rows):
        return
    runs = [_vcpu_of(run) for _, run in rows.groupby("run_key", sort=True)]
    for name, unit, values, what in (
        (
            "mb_per_vcpu",
            "MB",
            [mb for mb, _ in runs],
            "memory at which products of matrices on one thread are fastest",
        ),
        ("flops_per_vcpu", "FLOP/s", [rate for _, rate in runs], "fp32 products of matrices, each thread its own"),
    ):
        known = [np.array([value]) for value in values if np.isfinite(value)]
        if name == "mb_per_vcpu" and measured.mb_per_core:  # a share is exact, what it does for a small one is not
            known, what = [np.array([mb]) for mb in measured.mb_per_core], "the embedded endpoint's own setting"
        yield measured.quantity(("compute", name), unit, Level(), known, what, "run", f"{name}, {unit}")


def _points(run: pd.DataFrame) -> np.ndarray:
    """Memory, threads that have a core, and FLOP/s, shape (points, 3)."""
    rates = run.assign(threads=np.minimum(run.work_threads, run.cores.clip(lower=1)))
    return rates.groupby(["memory_mb", "threads"]).flops_per_s.median().reset_index().to_numpy(float)


def _vcpu_of(run: pd.DataFrame) -> tuple[float, float]:
    """MB of a vCPU and FLOP/s of one, of a run; NaN where its memory sizes do not tell them.

    By what one thread does where that was measured: n vCPUs are less than n times as fast.
    """
    points = _points(run)
    alone = points[points[:, 1] == 1]
    points = alone if len(alone) else points
    by_memory, by_threads = least_bounds(points[:, :2], points[:, 2])
    return by_threads / by_memory, by_threads


def mb_per_vcpu(measured: Measurements, profile: PlatformProfile) -> Callable[[pd.DataFrame], float]:
    """MB of a vCPU, as a run itself tells it: what rests on it is as unsure as it is; else the profile's."""
    rows = _products(measured, profile)
    told = len(rows) and not measured.mb_per_core
    known = {key: _vcpu_of(run)[0] for key, run in rows.groupby("run_key")} if told else {}

    def of(run: pd.DataFrame) -> float:
        found = known.get(run.run_key.iloc[0], np.nan)
        return found if np.isfinite(found) else profile.compute.mb_per_vcpu.median

    return of


def _exponents(run: pd.DataFrame, vcpu_mb: float) -> np.ndarray:
    """How much faster several vCPUs are than one, of each memory size and number of threads that has several."""
    points, (_, alone) = _points(run), _vcpu_of(run)
    vcpus = np.minimum(points[:, 0] / vcpu_mb, points[:, 1])
    several = vcpus >= SEVERAL
    found = np.log(points[several, 2] / alone) / np.log(vcpus[several])
    return np.maximum(found[np.isfinite(found)], LEAST_EXPONENT)


def scaling(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity]:
    """How much faster several vCPUs are than one: each run's products on several threads over those on one."""
    rows, of_vcpu = _products(measured, profile), mb_per_vcpu(measured, profile)
    yield measured.quantity(
        ("compute", "scaling_exponent"),
        "1",
        Level(),
        runs_of(rows, lambda run: _exponents(run, of_vcpu(run))) if len(rows) else [],
        f"products of matrices on {SEVERAL:g} vCPUs and more over those of one",
        "run",
        "exponent of vCPUs",
    )


def _faster(measured: Measurements, profile: PlatformProfile) -> Callable[[pd.DataFrame, float], float]:
    """How many times as fast as one vCPU so many are: by the exponent that a run tells; else the profile's."""
    of_vcpu, rows = mb_per_vcpu(measured, profile), _products(measured, profile)
    known = {key: _exponents(run, of_vcpu(run)) for key, run in rows.groupby("run_key")} if len(rows) else {}

    def of(run: pd.DataFrame, vcpus: float) -> float:
        found = known.get(run.run_key.iloc[0], np.empty(0))
        exponent = float(np.median(found)) if len(found) else profile.compute.scaling_exponent.median
        return float(scaled_vcpus(vcpus, exponent))

    return of


def expert(measured: Measurements, profile: PlatformProfile) -> Iterator[Quantity]:
    """An expert's a + b n, its weights read and its tokens: each memory size of a run tells both."""
    rows = timed(measured.of("expert"))
    if not len(rows):
        return
    by = ["memory_mb", "work_hidden", "work_intermediate", "architecture"]
    of_vcpu, faster = mb_per_vcpu(measured, profile), _faster(measured, profile)

    def lines(run: pd.DataFrame) -> list[tuple[float, float, float]]:
        """vCPUs, FLOP/s of one, and bytes/s of all."""
        found = []
        for (memory_mb, hidden, width, kind), each in run.groupby(by):
            points = each.groupby("work_tokens").took_s.median().reset_index().to_numpy(float)
            if len(points) > 1:
                per_token_s, per_call_s = start_and_slope(points[:, 0], points[:, 1])
                vcpus, values = memory_mb / of_vcpu(run), MATRICES * hidden * width
                speed = faster(run, vcpus) * mean_speed(profile, kind)
                found.append((vcpus, 2 * values / (per_token_s * speed), FLOAT_BYTES * values / per_call_s))
        return found

    runs = [np.array(found) for _, run in rows.groupby("run_key", sort=True) if (found := lines(run))]
    bounds = [_read_bounds(run[:, 0], run[:, 2]) for run in runs]
    told = "an expert's time beyond its tokens, its weights read once"
    for name, unit, values, what in (
        (
            "flops_per_vcpu",
            "FLOP/s",
            [run[:, 1] for run in runs],
            "an expert's time per token, by its number of tokens",
        ),
        ("weight_bandwidth_per_vcpu", "bytes/s", [own for own, _ in bounds], told),
        (
            "weight_bandwidth_per_function",
            "bytes/s",
            [all_of for _, all_of in bounds],
            f"{told}, whatever the memory",
        ),
    ):
        known = [value for value in values if np.isfinite(value).all()]
        yield measured.quantity(("compute", name), unit, Level(), known, what, "run", f"{name}, {unit}")


def _read_bounds(vcpus: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bytes/s of a vCPU and of a function, each of shape (1,); NaN where the memory sizes do not tell them."""
    own, all_of = least_bounds(np.stack([vcpus, np.ones_like(vcpus)], axis=1), rates)
    if np.isnan(own) and np.isnan(all_of):  # a single size: what it reads is its vCPUs'
        own = np.median(rates / vcpus)
    return np.array([own]), np.array([all_of])


def jitter(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """The same work again on the same instance: logarithms about their mean, which few repeats make too small."""
    import pandas as pd

    rows = timed(pd.concat([measured.of("multiply"), measured.of("expert")]))

    def ratios(run: pd.DataFrame) -> np.ndarray:
        logs = run.assign(y=np.log(run.took_s)).groupby(["function", "instance", "work"]).y
        count = logs.transform("size")
        about = ((np.log(run.took_s) - logs.transform("mean")) * np.sqrt(count / (count - 1)))[count > 1]
        return np.exp(about - about.median()).to_numpy(float)

    yield measured.quantity(
        ("compute", "jitter"),
        "1",
        Around(),
        runs_of(rows, ratios),
        "the same computation on the same instance, over what it takes there",
        "probability",
        "time over median",
    )


def instances(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity | Absent]:
    """Each run computes on other instances: what one takes over the others' mean, less what jitter makes of it.

    Absent where jitter alone explains how instances differ (chi-squared), or they do by less than 1%.
    """
    from scipy.stats import chi2

    apart, noise = _between_instances(measured)
    if len(apart) == 0:
        return
    path, differ = ("compute", "instance_factor"), float((apart.y**2).mean() - noise.mean())
    if (apart.y**2 / noise).sum() < chi2.ppf(SURE, apart.free.sum()) or differ < LEAST_SPREAD**2:
        yield Absent(path)
        return
    own_share = differ / float((apart.y**2).mean())
    spreads = [
        np.sqrt(own_share * (run.y**2).mean()) * (1 + 1 / (4 * len(run))) for _, run in apart.groupby("run_key")
    ]
    yield measured.quantity(
        path,
        "1",
        Level(tail=True),
        [np.array([np.exp(ndtri(0.99) * spread)]) for spread in spreads],
        f"the same computations on {len(apart)} instances, less their jitter, as a lognormal",
        "run",
        "99% quantile of time over that of other instances",
        most="medium",
    )


def _between_instances(measured: Measurements) -> tuple[pd.DataFrame, pd.Series]:
    """By how much an instance's times differ from others' of the same work (`y`, logarithms), and how much of the
    variance is jitter's; `free`: degrees of freedom that each instance has.
    """
    import pandas as pd

    tables = []
    for probe, per, names in (
        ("multiply", "work_flop", ["work_threads"]),
        ("expert", None, ["work_tokens", "work_hidden", "work_intermediate"]),
    ):
        rows = timed(measured.of(probe))
        if len(rows):
            y = np.log(rows.took_s / (rows[per] if per else 1.0))
            same = rows.groupby(["memory_mb", "architecture", *names], sort=True).ngroup()
            tables.append(rows.assign(y=y, same=probe + same.astype(str), kind=probe + rows.memory_mb.astype(str)))
    if not tables:
        return pd.DataFrame(), pd.Series(dtype=float)
    by = ["kind", "run_key", "function", "instance"]
    each = pd.concat(tables).groupby([*by, "same"], sort=True).y.agg(["mean", "var", "size"]).reset_index()
    jitter = float((each["var"] * (each["size"] - 1)).sum() / max(1, (each["size"] - 1).sum()))
    each["y"] = each["mean"] - each.groupby("same")["mean"].transform("mean")
    found = each.groupby(by, sort=True).agg(y=("y", "mean"), size=("size", "sum")).reset_index()
    count = found.groupby("kind").y.transform("size")
    found, count = found[count > 1], count[count > 1]
    found = found.assign(y=found.y * np.sqrt(count / (count - 1)), free=(count - 1) / count)
    return found, jitter / found["size"]


def runtime_bytes(measured: Measurements, _: PlatformProfile) -> Iterator[Quantity]:
    """The largest resident size of a function that does nothing."""
    yield measured.quantity(
        ("compute", "runtime_bytes"),
        "bytes",
        Level(),
        runs_of(measured.of("warm"), lambda run: (run.max_memory_mb.dropna() * MB)[lambda x: x > 0]),
        "Max Memory Used of warm calls that do nothing, in whole MB",
        "run",
        "memory used, bytes",
        most="medium",
        resolution=MB,
    )


def visible_cores(measured: Measurements, base: VisibleCores) -> VisibleCores | None:
    """Cores by memory size, where they are not what the base says; None where nothing was seen.

    Between two measured sizes the cores of the larger one are taken.
    """
    seen = measured.rows[measured.rows.cores > 0].groupby("memory_mb").cores.median()
    if not len(seen):
        return None
    table = {int(mb): int(cores) for mb, cores in seen.items()}
    agrees = all(base.at(mb) == cores for mb, cores in table.items())
    last: dict[int, int] = {}
    for mb, cores in sorted(table.items()):
        last = {size: count for size, count in last.items() if count < cores} | {mb: cores}
    fit = Fit(
        method="read off",
        samples=int((measured.rows.cores > 0).sum()),
        runs=int(measured.rows.run_key.nunique()),
        region=measured.origin.region,
        file=measured.origin.file,
        sha256=measured.origin.sha256,
    )
    said = ", ".join(f"{cores} at {mb} MB" for mb, cores in table.items())
    return VisibleCores(
        up_to_mb=base.up_to_mb if agrees else last,
        source=f"{measured.what}: cores that functions see, {said}" + (f"; as {base.source}" if agrees else ""),
        date=measured.origin.date,
        confidence="medium",
        fit=fit,
    )
