"""Intervals of a difference, against scipy: if these fail, `compare` is sure of what it should not be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind, ttest_rel

from experiments.report.difference import Difference, paired, unpaired, unrepeated

VALUES = st.lists(st.integers(-1000, 1000), min_size=2, max_size=8).filter(lambda values: len(set(values)) > 1)


@given(VALUES, VALUES)
def test_independent_samples_have_welchs_interval(x: list[float], y: list[float]) -> None:
    found = unpaired("", "latency", "s", x, y, "batches")
    low, high = ttest_ind(y, x, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.change == pytest.approx(np.mean(y) - np.mean(x))


@given(VALUES, st.integers(0, 99))
def test_pairs_have_students_interval_of_their_differences(x: list[float], seed: int) -> None:
    y = (np.array(x) + np.random.default_rng(seed).normal(5, 3, len(x))).tolist()
    found = paired("", "latency", "s", x, y, "batches")
    low, high = ttest_rel(y, x).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_pairs_see_what_independent_samples_do_not() -> None:
    x = [10.0, 20.0, 30.0, 40.0]
    y = [11.0, 21.1, 31.0, 40.9]
    assert paired("", "", "", x, y, "batches").verdict == "B higher"
    assert unpaired("", "", "", x, y, "batches").verdict == "not clear"


def test_without_repetition_there_is_no_confidence() -> None:
    for found in (
        paired("", "", "", [1.0], [2.0], "batches"),
        unpaired("", "", "", [1.0], [2.0, 3.0], "batches"),
        paired("", "", "", [1.0, None], [2.0, 5.0], "replications"),
        unrepeated("", "", "", 1.0, 2.0, "one cold batch in each"),
    ):
        assert (found.low, found.high) == (None, None)
        assert found.verdict == "unknown"


def test_what_only_one_run_has_is_said() -> None:
    assert Difference("", "", "", None, 2.0).verdict == "one only"
    assert Difference("", "", "", 2.0, 2.0).verdict == "same"
    assert paired("", "", "", [1.0, 2.0], [1.0, 2.0], "batches").verdict == "same"
    assert Difference("", "", "", 0.0, 2.0).relative is None
