"""Intervals, against scipy and by how often they hold the truth: if these fail, tables are too sure."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm, t, ttest_1samp, ttest_ind

from moe.statistics import (
    Z95,
    estimate,
    finite,
    percentile_interval,
    ratio_of_sums,
    resamples,
    t_half_width,
    welch,
    wilson,
)

TIMES = 4000
TOLERANCE = 4 * math.sqrt(0.95 * 0.05 / TIMES)  # four standard errors of a share of 95%


def test_the_mean_has_students_interval() -> None:
    """A mean of few values is as sure as Student's t says, no surer; of one value there is no interval."""
    for count in (2, 3, 10, 100):
        values = np.random.default_rng(count).normal(3, 2, count)
        found, (low, high) = estimate(values), ttest_1samp(values, 0).confidence_interval(0.95)
        assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    one, none = estimate([5.0]), estimate([])
    assert (one.mean, one.half_width, one.low, one.high) == (5.0, None, 5.0, 5.0)
    assert math.isnan(none.mean)
    assert none.half_width is None


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    """95 of 100 intervals hold the mean that the values were drawn around."""
    drawn = np.random.default_rng(7).normal(3.0, 1.0, (5, TIMES))
    covered = np.abs(drawn.mean(axis=0) - 3.0) <= t_half_width(drawn)
    assert covered.mean() == pytest.approx(0.95, abs=TOLERANCE)


def test_confidence_and_axis_are_kept() -> None:
    """The half widths of a table's columns are those of each column; 99% is wider than 95%."""
    values = np.random.default_rng(0).normal(size=(4, 3))
    each = [t.ppf(0.995, 3) * column.std(ddof=1) / 2 for column in values.T]
    assert t_half_width(values, confidence=0.99) == pytest.approx(np.array(each))


def test_resampled_values_are_no_surer_than_the_data_behind_them() -> None:
    """However many bootstrap samples are drawn, the mean is known as from the independent values there are."""
    many = [1.0, 2.0, 3.0] * 100
    drawn, known, few = estimate(many), estimate(many, independent=4.0), estimate([1.0, 2.0, 3.0], independent=9.0)
    assert drawn.half_width is not None
    assert known.half_width == pytest.approx(drawn.half_width * math.sqrt(300 / 4))
    assert few == estimate([1.0, 2.0, 3.0]), "more data than values make no interval narrower"


def test_a_difference_of_independent_values_has_welchs_interval() -> None:
    """Two runs of unequal scatter and size are told apart as Welch's test does, and as often as it says."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 4), rng.normal(5, 9, 7)
    found, (low, high) = welch(a, b), ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((b.mean() - a.mean(), low, high))
    pairs = [welch(rng.normal(0, 1, 6), rng.normal(2, 3, 9)) for _ in range(TIMES)]
    assert np.mean([x.low <= 2 <= x.high for x in pairs]) == pytest.approx(0.95, abs=2 * TOLERANCE)
    assert welch(np.array([1.0, 1.0]), np.array([3.0, 3.0])).half_width == 0


@pytest.mark.parametrize(("wins", "of"), [(0, 16), (9, 16), (64, 64), (40, 256)])
def test_a_share_has_wilsons_interval(wins: int, of: int) -> None:
    """A choice that won 0 or all of few draws is not certain."""
    theirs = binomtest(wins, of).proportion_ci(method="wilson")
    assert wilson(wins, of) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    assert pytest.approx(norm.ppf(0.975), abs=1e-6) == Z95


def test_wilsons_interval_covers_a_rare_event() -> None:
    """It holds a probability of 5% in 40 draws about as often as it says, where the normal interval does not."""
    wins = np.random.default_rng(1).binomial(40, 0.05, TIMES)
    ends = np.array([wilson(int(each), 40) for each in wins])
    assert ((ends[:, 0] <= 0.05) & (ends[:, 1] >= 0.05)).mean() > 0.93


def test_the_bootstraps_interval_is_that_of_the_mean_of_many() -> None:
    """Of many values, resampling them gives the interval that Student's t gives; the same seed, the same draws."""
    values = np.random.default_rng(5).normal(10, 2, 400)
    found = estimate(values)
    low, high = percentile_interval(values[resamples(400, 4000, seed=1)].mean(axis=1))
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.03)
    assert np.array_equal(resamples(9, 5, seed=2), resamples(9, 5, seed=2))


def test_a_ratio_of_sums_says_nothing_where_there_is_nothing_to_share() -> None:
    """The gap that was closed has an interval, and none where there may be no gap."""
    gap, low, high = ratio_of_sums([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert gap == low == high == pytest.approx(0.5)
    gap, low, high = ratio_of_sums([0.0, 1.0, 2.0, 1.0], [2.0, 2.0, 2.0, 2.0])
    assert low < gap < high
    assert np.isnan(ratio_of_sums([1.0, 1.0], [1.0, -1.0])).all()


def test_what_is_no_number_is_left_out() -> None:
    """A replication without a value (no request was served) does not make the mean of the others unknown."""
    assert finite([1.0, None, math.nan, math.inf, 2.0]).tolist() == [1.0, 2.0]
