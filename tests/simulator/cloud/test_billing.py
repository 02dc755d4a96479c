"""Prices by hand: if one is wrong, every bill of a user who pays it is."""

import numpy as np
import pytest
import simpy

from optimizer.problem import problem_platform
from simulator.cloud.billing import Rates
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Sleep
from simulator.cloud.platform import platform_of_profile
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.records import Record
from tests.conftest import reference

PROFILE = load_profile()


def called(profile: PlatformProfile, package: str | None = None, provisioned: int = 0, **how: object) -> Record:
    """The row of one call of a function of 1024 MB that sleeps for a second, warm."""
    platform = platform_of_profile(profile, reference("tiny")[0].platform, np.random.default_rng(1))
    service = LambdaService(simpy.Environment(), platform)
    service.deploy("f", 1024, package=package, warm=1 - provisioned, provisioned=provisioned)
    service.invoke(Record(0, 0, "function", "f", 1024), (Sleep(1.0),), **how)  # type: ignore[arg-type]
    service.env.run()
    return service.records[0]


@pytest.mark.parametrize(
    ("architecture", "used", "gb_s", "usd"),
    [
        ("x86_64", 0.0, 6e9, 6e9 * 1.66667e-5),
        ("x86_64", 5e9, 2e9, 1e9 * 1.66667e-5 + 1e9 * 1.5e-5),
        ("x86_64", 14e9, 3e9, 1e9 * 1.5e-5 + 2e9 * 1.33334e-5),
        ("x86_64", 0.0, 20e9, 6e9 * 1.66667e-5 + 9e9 * 1.5e-5 + 5e9 * 1.33334e-5),
        ("arm64", 7e9, 1e9, 0.5e9 * 1.33334e-5 + 0.5e9 * 1.20001e-5),
        ("arm64", 18e9, 1e9, 0.75e9 * 1.20001e-5 + 0.25e9 * 1.06667e-5),
    ],
)
def test_the_month_has_tiers(architecture: str, used: float, gb_s: float, usd: float) -> None:
    rates = Rates.of(PROFILE.prices, architecture)  # type: ignore[arg-type]
    assert rates.usd(used, gb_s) == pytest.approx(usd, rel=1e-9)
    # What the account used before is a setting.
    later = with_constant(PROFILE, ("prices", "used_gb_s"), used)
    assert Rates.of(later.prices, architecture).usd(0.0, gb_s) == pytest.approx(usd, rel=1e-9)  # type: ignore[arg-type]


def test_a_call_that_ends_a_tier_is_billed_in_both() -> None:
    edge = with_constant(PROFILE, ("prices", "used_gb_s"), 6e9 - 0.25)
    assert called(edge).compute_cost_usd == pytest.approx(0.25 * 1.66667e-5 + 0.75 * 1.5e-5, rel=1e-6)
    assert edge.gb_s_usd == 1.66667e-5
    assert with_constant(PROFILE, ("prices", "used_gb_s"), 16e9).gb_s_usd == 1.33334e-5


@pytest.mark.parametrize("share", [0.12, 0.17])
def test_a_savings_plan_takes_its_share_off_duration_and_off_nothing_else(share: float) -> None:
    planned = with_constant(PROFILE, ("prices", "savings_plan"), share)
    row = called(planned)
    assert row.compute_cost_usd == pytest.approx(1.66667e-5 * (1 - share))
    assert row.request_cost_usd == called(PROFILE).request_cost_usd == 2e-7
    assert planned.gb_s_usd == pytest.approx(1.66667e-5 * (1 - share))
    assert Rates.of(planned.prices, "arm64").provisioned == pytest.approx(3.3334e-6 * (1 - share))


@pytest.mark.parametrize(
    ("package", "usd", "kept_usd"),
    [("python3.12-x86_64-zip", 9.7222e-6, 4.1667e-6), ("python3.12-arm64-zip", 7.7778e-6, 3.3334e-6)],
)
def test_provisioned_instances_cost_what_their_architecture_does(
    package: str, usd: float, kept_usd: float
) -> None:
    assert called(PROFILE, package, provisioned=1).compute_cost_usd == pytest.approx(usd)
    platform = platform_of_profile(PROFILE, reference("tiny")[0].platform, np.random.default_rng(1))
    service = LambdaService(simpy.Environment(), platform)
    service.deploy("f", 2048, package=package, provisioned=3)
    service.charge_provisioned(until_s=301.0)
    (row,) = service.records
    init_s = np.ceil(service.functions["f"].provisioned_init_s * 1000) / 1000
    assert init_s > 3 * 0.06
    assert row.compute_cost_usd == pytest.approx(3 * 2 * 600 * kept_usd + init_s * 2 * usd)


@pytest.mark.parametrize(
    ("kilobytes", "requests"), [(0, 1), (256, 1), (256.001, 2), (320, 2), (321, 3), (1024, 13)]
)
def test_a_large_asynchronous_event_is_several_requests(kilobytes: float, requests: int) -> None:
    """The first 256 KB are one request, each further 64 KB begun one more."""
    size = kilobytes * 1024  # of a problem whose payloads are not encoded
    assert called(PROFILE, queued=True, payload_bytes=size).request_cost_usd == pytest.approx(requests * 2e-7)
    assert called(PROFILE, payload_bytes=size).request_cost_usd == pytest.approx(2e-7)


def test_the_closed_form_s_price_is_that_of_the_package_and_the_tier() -> None:
    arm = PROFILE.start.model_copy(update={"package": "python3.12-arm64-zip"})
    profile = PROFILE.model_copy(update={"start": arm})
    assert problem_platform(profile, (1024,), 1).price_per_gb_s == 1.33334e-5
    later = with_constant(profile, ("prices", "used_gb_s"), 8e9)
    assert problem_platform(later, (1024,), 1).price_per_gb_s == 1.20001e-5
