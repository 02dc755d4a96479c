"""Families of distributions: if these fail, a simulation draws other latencies than were measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from calibration.fitting.distributions import (
    FAMILIES,
    empirical,
    lognormal,
    mixture,
    quantile_error,
    shifted_lognormal,
)

RNG = np.random.default_rng(1)


def test_a_lognormal_is_found_again_as_scipy_finds_it() -> None:
    samples = np.exp(RNG.normal(np.log(0.1), 0.4, 4000))
    table = lognormal(samples)
    shape, _, scale = stats.lognorm.fit(samples, floc=0)
    assert list(table.values()) == pytest.approx(
        stats.lognorm.ppf(list(table), shape, 0, scale).tolist(), rel=1e-3
    )
    assert table[0.5] == pytest.approx(0.1, rel=0.03)


def test_a_shifted_lognormal_is_found_again() -> None:
    table = shifted_lognormal(0.05 + np.exp(RNG.normal(np.log(0.02), 0.9, 20_000)))
    truth = 0.05 + stats.lognorm.ppf(list(table), 0.9, 0, 0.02)
    assert list(table.values())[:-1] == pytest.approx(truth.tolist()[:-1], rel=0.05)
    assert table[0.999] == pytest.approx(truth[-1], rel=0.15)


def test_two_modes_are_found_again_where_one_lognormal_misses_them() -> None:
    slow = RNG.random(10_000) < 0.3
    samples = np.exp(np.where(slow, RNG.normal(np.log(9), 0.1, 10_000), RNG.normal(np.log(1), 0.1, 10_000)))
    table = mixture(samples)
    assert table[0.05] == pytest.approx(np.exp(0.1 * stats.norm.ppf(0.05 / 0.7)), rel=0.02)
    assert table[0.9] == pytest.approx(9 * np.exp(0.1 * stats.norm.ppf(0.2 / 0.3)), rel=0.02)
    assert quantile_error(table, samples) < 0.5 * quantile_error(lognormal(samples), samples)


def test_the_error_is_the_relative_distance_of_quantiles() -> None:
    samples = np.exp(RNG.normal(0, 0.3, 5000))
    twice = {p: 2 * x for p, x in empirical(samples).items()}
    assert quantile_error(twice, samples) == pytest.approx(np.log(2), abs=0.02)
    assert quantile_error(empirical(samples), samples) < 0.01


def test_a_tail_is_given_only_where_samples_tell_it() -> None:
    assert max(empirical(RNG.random(199) + 1)) == 0.95
    assert max(empirical(RNG.random(200) + 1)) == 0.99
    assert list(empirical(np.array([2.0]))) == [0.5]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40), st.permutations(range(40)))
def test_every_family_gives_increasing_positive_quantiles_in_whatever_order(
    values: list[float], order: list[int]
) -> None:
    shuffled = [values[k] for k in order if k < len(values)]
    for name, family in FAMILIES.items():
        table = list(family(np.array(values)).values())
        assert table == sorted(table), name
        assert table[0] > 0, name
        assert table == pytest.approx(list(family(np.array(shuffled)).values()), rel=1e-6), name
