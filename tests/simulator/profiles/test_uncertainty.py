"""How sure a profile is: if these fail, a decision looks surer, or less sure, than what it rests on."""

import math

import numpy as np
import pytest

from simulator.profiles.constant import Constant, Fit
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.uncertainty import UNCERTAIN, Factors, drawn_factors
from simulator.profiles.walk import Keys, constant_at, with_constant

VCPU: Keys = ("compute", "flops_per_vcpu")


@pytest.fixture
def profile() -> PlatformProfile:
    return load_profile()


def calibrated(profile: PlatformProfile, interval: tuple[float, float], **more: object) -> PlatformProfile:
    """The profile whose vCPU was measured, with a fit's interval as a share of its value."""
    vcpu = profile.compute.flops_per_vcpu
    low, high = (end * vcpu.median for end in interval)
    fit = Fit(method="mean", samples=9, runs=3, interval=(low, high), file="mine.csv", sha256="0" * 64)
    return with_constant(profile, VCPU, vcpu.model_copy(update={"fit": fit} | more))


def of_vcpu(profile: PlatformProfile, path: Keys = VCPU, **more: object) -> tuple[float, float, bool]:
    """95% range of the vCPU's (or another constant's) factors, and whether it counts as measured."""
    factors: Factors = drawn_factors(profile, 256, 0, **more)  # type: ignore[arg-type]
    k = factors.paths.index(path)
    low, high = np.quantile(factors.factors[:, k], [0.025, 0.975])
    return float(low), float(high), bool(factors.measured[k])


def test_an_unmeasured_constant_is_as_sure_as_its_confidence(profile: PlatformProfile) -> None:
    path, wider = ("start", "warm_s"), {"high": 1.0, "medium": 3.0, "low": 5.0}
    assert (profile.start.warm_s.confidence, profile.start.warm_s.interval) == ("medium", None)
    assert of_vcpu(profile, path) == (pytest.approx(1 / 1.3, rel=0.03), pytest.approx(1.3, rel=0.03), False)
    assert of_vcpu(profile, path, spread=wider)[1] == pytest.approx(3.0, rel=0.05), "the map's own spread"
    assert not drawn_factors(profile, 4, 0).measured.any(), "the packaged profile has no fits"


def test_a_constant_is_as_sure_as_the_interval_of_its_source(profile: PlatformProfile) -> None:
    """An expert's arithmetic is 26 to 65 GFLOP/s a vCPU: more than its medium confidence says by itself."""
    width = math.sqrt(65 / 26)
    assert of_vcpu(profile) == (pytest.approx(1 / width, rel=0.03), pytest.approx(width, rel=0.03), False)
    twice = with_constant(profile, VCPU, 90e9)
    assert twice.compute.flops_per_vcpu.interval == pytest.approx((52e9, 130e9)), "as unsure as it was"
    assert of_vcpu(twice) == of_vcpu(profile)


def test_a_measured_constant_is_as_sure_as_its_interval(profile: PlatformProfile) -> None:
    measured = calibrated(profile, (1 / 1.05, 1.05))
    assert of_vcpu(measured) == (pytest.approx(1 / 1.05, rel=0.01), pytest.approx(1.05, rel=0.01), True)


def test_the_interval_of_a_refused_fit_is_not_that_of_the_value_that_was_kept(profile: PlatformProfile) -> None:
    assert of_vcpu(calibrated(profile, (0.001, 1000), kept="better than the fit")) == of_vcpu(profile)


def test_an_interval_from_0_is_as_wide_as_low_confidence(profile: PlatformProfile) -> None:
    """Its ratio is infinite: every draw would be 0 or without bound, and no decision would be left."""
    low, high, _ = of_vcpu(calibrated(profile, (0.0, 1.1)))
    assert (low, high) == (pytest.approx(1 / 2, rel=0.05), pytest.approx(2, rel=0.05))


def test_a_draw_is_the_profile_times_its_factors(profile: PlatformProfile) -> None:
    factors = drawn_factors(profile, 8, 0, fixed=[("start", "warm_s")])
    assert ("start", "warm_s") not in factors.paths
    one = factors.applied(profile, 3)
    ratio = one.compute.flops_per_vcpu.median / profile.compute.flops_per_vcpu.median
    assert ratio == pytest.approx(factors.factors[3, factors.paths.index(VCPU)])
    for draw in range(8):
        assert factors.applied(profile, draw).cluster.efficiency.median <= 1, "no core is busier than always"
    untouched = set(profile.constants()) - set(factors.paths)
    assert all(constant_at(one, path) == constant_at(profile, path) for path in untouched)


def test_every_uncertain_constant_is_one_of_the_profile(profile: PlatformProfile) -> None:
    assert set(UNCERTAIN) <= set(profile.constants())


def test_a_walk_meets_every_constant(profile: PlatformProfile) -> None:
    """In groups of groups, in packages and where one may be absent: else a change leaves it out silently."""
    found = profile.constants()
    assert ("storage", "express", "get") in found
    assert ("start", "packages", profile.start.package, "init_s") in found
    assert ("storage", "get_vcpu_s") not in found
    work = Constant(value=0.001, unit="s", source="a test's", date="2026", confidence="low")
    with_work = with_constant(profile, ("storage", "get_vcpu_s"), work)
    assert with_work.constants()[("storage", "get_vcpu_s")] == work
    assert with_constant(with_work, ("storage", "get_vcpu_s"), None) == profile
    sources = profile.model_dump_json().count('"source"')
    assert len(found) == sources - 5, "all that has a source, but visible cores and four rules of billing"


def test_a_change_reaches_every_constant_and_nothing_else(profile: PlatformProfile) -> None:
    doubled = profile.mapped(lambda constant: constant.scaled(2))
    for path, constant in profile.constants().items():
        assert constant_at(doubled, path).median == pytest.approx(2 * constant.median), path
    halved = doubled.mapped(lambda constant: constant.scaled(0.5))
    assert halved == profile, "settings, sources and rules stay"
    assert profile.mapped(lambda constant: constant) == profile


def test_a_number_in_place_of_a_constant_keeps_its_unit_and_source(profile: PlatformProfile) -> None:
    changed = with_constant(profile, ("storage", "get_latency_s"), 0.5).storage.get_latency_s
    assert (changed.value, math.isclose(changed.median, 0.5)) == (0.5, True)
    before = profile.storage.get_latency_s
    assert (changed.unit, changed.source) == (before.unit, before.source)
