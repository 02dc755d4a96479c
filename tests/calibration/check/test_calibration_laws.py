"""Probing a known platform gives its profile back: if these fail, a profile is of no real platform either."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration.calibrated import NOT_MEASURED, Calibration
from calibration.campaigns import calibrate_campaigns
from calibration.check import hidden
from calibration.check.hidden import ks_distance
from calibration.check.simulated_backend import SimulatedBackend
from calibration.fitting.laws import table_of
from experiments.profiles.reading import write_profile
from experiments.profiles.report import summary
from lambda_probe.campaign.file import load_campaign
from lambda_probe.campaign.run import run_campaign
from lambda_probe.campaign.works import Multiply
from simulator.profiles.constant import Constant, Dated, Quantiles
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import constant_at, leaves, with_constant
from tests.calibration.check.campaign_of import MEMORY_MB, PLAIN, Prober, probe, write

IMAGE = "python3.12-x86_64-image"
OTHER = {
    "start/warm_s": {0.5: 0.031, 0.9: 0.05, 0.99: 0.15},
    f"start/packages/{PLAIN}/init_s": {0.05: 0.2, 0.5: 0.25, 0.9: 0.31, 0.99: 0.5},
    f"start/packages/{PLAIN}/provisioning_s": {0.5: 0.3, 0.99: 0.6},
    f"start/packages/{IMAGE}/init_s": {0.05: 0.5, 0.5: 0.8, 0.9: 1.5, 0.99: 2.5},
    f"start/packages/{IMAGE}/provisioning_s": 0.4,
    "start/fetch_bytes_per_s": 250e6,
    "start/keep_alive_s": 340.0,
    "concurrency/scaling_burst": 150.0,
    "concurrency/scaling_per_s": 20.0,
    "compute/mb_per_vcpu": 1400.0,
    "compute/flops_per_vcpu": 25e9,
    "compute/scaling_exponent": 0.8,
    "compute/weight_bandwidth_per_vcpu": 5e9,
    "compute/weight_bandwidth_per_function": 14e9,
    "compute/jitter": {0.5: 1.0, 0.99: 1.2},
    "compute/runtime_bytes": 90.0 * 2**20,
    "network/function_bytes_per_s_per_mb": 50e3,
    "network/sustained_bytes_per_s": 40e6,
    "network/burst_bytes_per_s": 240e6,
    "network/burst_bytes": 200e6,
    "storage/connection_bytes_per_s": 60e6,
    "storage/get_latency_s": {0.05: 0.03, 0.5: 0.045, 0.9: 0.06, 0.99: 0.2},
    "storage/put_latency_s": {0.05: 0.05, 0.5: 0.07, 0.9: 0.2, 0.99: 0.3},
    "payload/overhead_s": {0.5: 0.02, 0.9: 0.04, 0.99: 0.05},
    "payload/bytes_per_s": 20e6,
    "payload/limit_bytes": 6_000_000.0,
    "payload/encoding_factor": 1.4,
}
"""A platform of which nothing is as in the packaged profile."""
NOT_TOLD = {"concurrency/scaling_burst", "concurrency/scaling_per_s", "network/burst_bytes_per_s"}
"""What of the packaged profile no campaign here reaches: its limits lie beyond."""
NOT_IN_STANDARD = {*NOT_TOLD, f"start/packages/{IMAGE}/init_s", f"start/packages/{IMAGE}/provisioning_s"}


OF_CPU = {
    "storage/get_vcpu_s": (0.03, "s"),
    "storage/put_vcpu_s": (0.04, "s"),
    "network/function_upload_bytes_per_s_per_mb": (30e3, "bytes/s/MB"),
    "payload/function_bytes_per_s_per_mb": (12e3, "bytes/s/MB"),
}
"""What the packaged profile has not: transfers are work of the function's own CPU."""


def by_cpu(by_itself: bool = True) -> PlatformProfile:
    """That platform, with all of these; `by_itself`: it is CPU that moves bytes."""
    profile = other()
    for name, (value, unit) in OF_CPU.items():
        made = Constant(value=value, unit=unit, source="made up", date="2026", confidence="low")
        profile = with_constant(profile, name.split("/"), made)
    network = profile.network.model_copy(update={"moved_by_cpu": by_itself})
    return profile.model_copy(update={"name": "by-cpu", "network": network})


def other() -> PlatformProfile:
    """The packaged profile with all of that, other cores, and the billing rules of 2019."""
    profile = load_profile("paper")
    for name, value in OTHER.items():
        path = name.split("/")
        made = Quantiles(quantiles=value) if isinstance(value, dict) else value
        profile = with_constant(profile, path, constant_at(profile, path).model_copy(update={"value": made}))
    cores = profile.compute.visible_cores.model_copy(update={"up_to_mb": {1400: 1, 3008: 3, 10240: 5}})
    compute = profile.compute.model_copy(update={"visible_cores": cores})
    rules = {
        "billing_step_s": profile.prices.billing_step_s.model_copy(update={"since": {profile.prices.date: 0.1}}),
        "init_is_billed": profile.prices.init_is_billed.model_copy(update={"since": {profile.prices.date: 0.0}}),
    }
    prices = profile.prices.model_copy(update=rules)
    return profile.model_copy(update={"name": "other", "compute": compute, "prices": prices})


def assert_found(made: PlatformProfile, true: PlatformProfile, base: PlatformProfile, but: set[str]) -> None:
    """Every constant is as it truly is: medians and slopes within 5%, distributions within a KS distance of 0.05.

    Fewer than 1,000 values tell a distribution less well: twice that. Those in `but` were not measured.
    """
    for key in OTHER:
        path = key.split("/")
        found, wanted = constant_at(made, path), constant_at(true, path)
        if key in but:
            assert found.kept == "not measured"
            assert found.value == constant_at(base, path).value
            continue
        fit = found.fit
        assert fit is not None, key
        enough = fit.samples * 5 / 4 >= 1000  # a fifth of the runs tests
        if isinstance(wanted.value, Quantiles):
            distance = ks_distance(table_of(found.value), table_of(wanted.value))
            assert distance <= (0.05 if enough else 0.1), (
                f"{key}: KS distance {distance:.3f}, {fit.samples} values"
            )
        if "expiry" in fit.method:
            assert fit.interval is not None
            assert fit.interval[0] <= wanted.median <= fit.interval[1] <= 1.13 * fit.interval[0], key
        error = abs(found.median / wanted.median - 1)
        assert error <= 0.05, f"{key}: {found.median:g} for {wanted.median:g}"


@pytest.fixture(scope="module", params=["packaged", "other"])
def probed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """The platform's name, its profile, another one as the base, and the campaign's rows and folder."""
    true, base = (load_profile("paper"), other()) if request.param == "packaged" else (other(), load_profile())
    rows = probe(true, runs=8, seed=3)
    folder = write(rows, tmp_path_factory.mktemp(request.param))
    return request.param, true, base, rows, folder


@pytest.fixture(scope="module")
def made(probed: tuple) -> Calibration:
    return calibrate_campaigns([probed[4]], probed[2])


@pytest.mark.slow
def test_a_known_platform_is_found_again(probed: tuple, made: Calibration, tmp_path: Path) -> None:
    name, true, base, _, _ = probed
    write_profile(made.profile, tmp_path / "found.yaml")
    assert load_profile(tmp_path / "found.yaml") == made.profile
    assert_found(made.profile, true, base, NOT_TOLD if name == "packaged" else set())
    if name == "other":
        keep_alive = made.profile.start.keep_alive_s
        assert keep_alive.median == pytest.approx(340.0, rel=0.05)


TRANSFERS = ("multiply", "get", "put", "send")
"""Probes that tell the work of transfers."""


def measured(true: PlatformProfile, seed: int, folder: Path, probes: Sequence[str] | None = None) -> Path:
    """The standard campaign on a platform, or some of its probes."""
    campaign = load_campaign("standard")
    wanted = tuple(each for each in campaign.probes if probes is None or each.probe in probes)
    campaign = campaign.model_copy(update={"probes": wanted})
    run_campaign(campaign, SimulatedBackend(true, seed), folder, "python3.12")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["packaged", "other"])
def test_the_standard_campaign_finds_a_platform_again(name: str, tmp_path: Path) -> None:
    true, base = (load_profile("paper"), other()) if name == "packaged" else (other(), load_profile())
    made = calibrate_campaigns([measured(true, 11, tmp_path / "standard")], base).profile
    scaling = {"concurrency/scaling_burst", "concurrency/scaling_per_s"} if name == "other" else set()
    assert_found(made, true, base, NOT_IN_STANDARD - scaling)


@pytest.mark.slow
def test_a_hidden_platform_is_found_again_as_surely_as_it_is_said(tmp_path: Path) -> None:
    """One that halves idle instances, has a small bucket, and whose transfers are work of the function's own CPU.

    If this fails, a profile of one's own account has constants that are off, or intervals without the truth:
    `smoe bench calibration` looks at many.
    """
    base, true = load_profile("paper"), hidden.hidden_platform(load_profile("paper"), 5)
    assert true.network.burst_bytes.median < 200e6
    folder = hidden.measured(load_campaign("standard"), true, 5, tmp_path / "standard")
    rows = list(hidden.recovered(calibrate_campaigns([folder], base).fits, true, 5, 5))
    names = {row.name for row in rows}
    assert {"start.keep_alive_halving_s", "network.burst_bytes", "storage.put_vcpu_s"} <= names
    for row in rows:
        assert row.kept is None, row
        assert row.error <= 0.05, row
        shifted = row.name.startswith("storage.")  # what is latency and what work is told by memory sizes only
        assert row.ks is None or row.ks <= (0.1 if shifted else 0.05), row
    held = [row.holds for row in rows if row.holds is not None]
    assert sum(held) >= 0.85 * len(held)


@pytest.mark.slow
@pytest.mark.parametrize("by_itself", [True, False])
def test_the_standard_campaign_finds_the_work_of_transfers(by_itself: bool, tmp_path: Path) -> None:
    true = by_cpu(by_itself)
    made = calibrate_campaigns(
        [measured(true, 11, tmp_path / "standard", TRANSFERS)], load_profile("paper")
    ).profile
    assert made.network.moved_by_cpu is by_itself
    for name, (value, _) in OF_CPU.items():
        assert constant_at(made, name.split("/")).median == pytest.approx(value, rel=0.05), name
    for name in ("storage/get_latency_s", "storage/put_latency_s", "payload/overhead_s", "payload/bytes_per_s"):
        path = name.split("/")
        assert constant_at(made, path).median == pytest.approx(constant_at(true, path).median, rel=0.05), name


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_platform_without_such_work_gets_none_of_it(seed: int, tmp_path: Path) -> None:
    folder = measured(load_profile("paper"), seed, tmp_path / "standard", TRANSFERS)
    made = calibrate_campaigns([folder], by_cpu()).profile
    assert not made.network.moved_by_cpu
    assert {name: constant_at(made, name.split("/")) for name in OF_CPU} == dict.fromkeys(OF_CPU)


def test_a_campaign_on_arm64_gives_the_rate_of_x86_that_its_speed_is_over(tmp_path: Path) -> None:
    """Else its functions are slowed down twice: by what was measured of them, and by their architecture."""
    true = load_profile("paper")
    for generation in ("graviton2", "graviton3"):
        true = with_constant(true, ("compute", "arm64", generation, "speed"), 0.7)
    prober = Prober(SimulatedBackend(with_constant(true, ("compute", "flops_per_vcpu"), 30e9), 0))
    for memory_mb in (512, 1024, 1769, 3008):
        function = prober.function(f"multiply-{memory_mb}", memory_mb, "python3.12-arm64-zip")
        function = replace(function, package=replace(function.package, architecture="arm64"))
        prober.call("multiply", function, Multiply(5e9, 1, 6), 2)
    made = calibrate_campaigns([write(pd.DataFrame(prober.rows), tmp_path)], true).profile
    assert made.compute.flops_per_vcpu.median == pytest.approx(30e9, rel=0.02)


@pytest.mark.slow
def test_billing_rules_and_cores_are_read_off(probed: tuple, made: Calibration) -> None:
    _, true, base, _, _ = probed
    for name in ("billing_step_s", "init_is_billed", "image_init_is_billed"):
        found, wanted = (getattr(each.prices, name) for each in (made.profile, true))
        assert isinstance(found, Dated)
        assert found.on(made.profile.prices.date) == wanted.on(true.prices.date)
        changed = getattr(base.prices, name).on(base.prices.date) != wanted.on(true.prices.date)
        assert ("otherwise by" if changed else "confirmed by") in found.source
    for memory_mb in MEMORY_MB:
        assert made.profile.compute.visible_cores.at(memory_mb) == true.compute.visible_cores.at(memory_mb)


@pytest.mark.slow
def test_the_order_of_rows_changes_nothing(probed: tuple, made: Calibration, tmp_path: Path) -> None:
    _, _, base, rows, folder = probed
    shuffled = rows.sample(frac=1.0, random_state=5)
    assert list(shuffled.sent_s) != list(rows.sent_s)
    again = calibrate_campaigns([write(shuffled, tmp_path / folder.name)], base)
    assert again.profile == made.profile


def with_value(
    profile: PlatformProfile, path: tuple[str, str], value: Quantiles | float, unit: str
) -> PlatformProfile:
    made = Constant(value=value, unit=unit, source="made up", date="2026", confidence="low")
    return with_constant(profile, path, made)


@pytest.mark.parametrize("p99", [1.06, 1.25])
def test_instances_that_differ_are_told_from_jitter(p99: float, tmp_path: Path) -> None:
    """Jitter's own 99% quantile is 1.2 there; alike, instances get no factor, also where the base has one."""
    path, alike = ("compute", "instance_factor"), other()
    true = with_value(alike, path, Quantiles(quantiles={0.5: 1.0, 0.99: p99}), "1")
    made = calibrate_campaigns(
        [write(probe(true, 5, 0, ("multiply", "expert")), tmp_path / "a")], load_profile("paper")
    )
    found = made.profile.compute.instance_factor
    assert found is not None
    assert np.log(table_of(found.value)[0.99]) == pytest.approx(np.log(p99), rel=0.3)  # 60 instances, 5 runs
    made = calibrate_campaigns([write(probe(alike, 5, 0, ("multiply", "expert")), tmp_path / "b")], load_profile())
    assert made.profile.compute.instance_factor is None


def test_uploads_have_a_rate_of_their_own_where_they_show_it(tmp_path: Path) -> None:
    path, alike = ("storage", "put_connection_bytes_per_s"), other()
    true = with_value(alike, path, 40e6, "bytes/s")
    made = calibrate_campaigns([write(probe(true, 5, 1, ("get", "put")), tmp_path / "a")], load_profile("paper"))
    found = made.profile.storage.put_connection_bytes_per_s
    assert found is not None
    assert found.median == pytest.approx(40e6, rel=0.03)
    made = calibrate_campaigns([write(probe(alike, 5, 1, ("get", "put")), tmp_path / "b")], load_profile())
    assert made.profile.storage.put_connection_bytes_per_s is None


def test_what_no_campaign_tells_is_kept_and_said(tmp_path: Path) -> None:
    made = calibrate_campaigns([write(probe(other(), 3, 0, ("warm", "put")), tmp_path)], load_profile())
    for path in NOT_MEASURED:
        for before, after in zip(constants(load_profile(), path), constants(made.profile, path), strict=True):
            assert (after.value, after.kept) == (before.value, "not measured")
    said = list(summary(made, "aws"))
    assert any("storage.slow_puts: measured by no campaign" in line for line in said)


def constants(profile: PlatformProfile, path: tuple[str, ...]) -> list[Constant]:
    return [leaf for _, leaf in leaves(constant_at(profile, path)) if leaf is not None]
