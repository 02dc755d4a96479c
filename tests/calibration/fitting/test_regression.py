"""Robust laws: if these fail, one odd measurement moves a bandwidth."""

import numpy as np
import pytest
from scipy import stats

from calibration.fitting.laws import Expiry, Halving
from calibration.fitting.regression import burst_rate, theil_sen, token_bucket

RNG = np.random.default_rng(3)


def test_a_line_is_scipys_and_does_not_follow_outliers() -> None:
    size = np.repeat([1e6, 4e6, 8e6, 16e6], 12)
    took = 0.02 + size / 90e6 + RNG.normal(0, 1e-3, len(size))
    took[::9] *= 5  # a straggler in nine
    line = theil_sen(size, took)
    assert line.slope == pytest.approx(stats.theilslopes(took, size).slope, rel=1e-12)
    assert 1 / line.slope == pytest.approx(90e6, rel=0.1)
    assert line.intercept == pytest.approx(0.02, abs=0.003)


def test_a_token_bucket_is_found_again() -> None:
    until_s = np.arange(1, 501) * 0.02
    moved = np.minimum(1.1e9 * until_s, 280e6 + 78e6 * until_s)
    found = token_bucket(until_s, moved * (1 + RNG.normal(0, 1e-3, 500)), 2.0)
    assert found.burst_bytes_per_s == pytest.approx(1.1e9, rel=0.02)
    assert found.burst_bytes == pytest.approx(280e6, rel=0.02)
    assert found.sustained_bytes_per_s == pytest.approx(78e6, rel=0.01)
    short = until_s <= 1.0
    assert burst_rate(until_s[short], moved[short], 280e6) == pytest.approx(1.1e9, rel=1e-9)


@pytest.mark.parametrize("period_s", [150.0, 372.0, 610.0])
def test_a_halving_period_is_within_what_the_idle_times_tell(period_s: float) -> None:
    rng = np.random.default_rng(int(period_s))
    idle_s = np.arange(60.0, 1321.0, 60.0)
    points = [(x, rng.binomial(100, 0.5 ** np.floor(x / period_s)) / 100, 100.0) for x in idle_s]
    runs = [np.array(points)]
    low, high = Halving().between(runs)
    assert low <= period_s <= high <= low + 60
    assert Halving().likelihood(runs) > Expiry().likelihood(runs) + 10


def test_counts_weigh_as_much_as_they_are_and_one_stray_instance_rules_nothing_out() -> None:
    """If this fails, a period is told by idle times at which nothing is left, or by one lost instance."""
    idle_s = np.array([100.0, 200, 300, 400, 500, 600])
    share = np.array([0.995, 1.0, 0.995, 0.0, 0.0, 0.005])
    points = np.column_stack([idle_s, share, np.full(6, 200.0)])
    assert Expiry().between([points]) == (300.0, 400.0)
    few = np.array([[350.0, 0.0, 1.0]])  # a single instance beside hundreds
    assert Expiry().between([points, few])[0] == 300.0
    assert Expiry().likelihood([points]) > Halving().likelihood([points])


def test_what_no_idle_time_reached_has_no_end() -> None:
    points = np.column_stack([[60.0, 600.0, 900.0], np.ones(3), np.full(3, 40.0)])
    assert Expiry().between([points]) == (900.0, np.inf)
    assert Expiry().centre([points]) == 900.0
    assert Expiry().between([np.array([[60.0, 0.0, 40.0], [600.0, 0.0, 40.0]])]) == (0.0, 60.0)
    assert Expiry().between([np.array([[1.0, 1.0, 4.0], [3.0, 0.0, 4.0]])]) == (1.0, 3.0)
