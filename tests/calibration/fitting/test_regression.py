"""Robust laws: if these fail, one odd measurement moves a bandwidth."""

import numpy as np
import pytest
from scipy import stats

from calibration.fitting.regression import burst_rate, halving_period, theil_sen, token_bucket

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
    idle_s = np.repeat(np.arange(60.0, 1321.0, 60.0), 10)
    share = np.clip(0.5 ** np.floor(idle_s / period_s) + RNG.normal(0, 0.03, len(idle_s)), 0, 1)
    low, high = halving_period(idle_s, share)
    assert 0.95 * low <= period_s <= 1.05 * high
    assert high - low <= 60
