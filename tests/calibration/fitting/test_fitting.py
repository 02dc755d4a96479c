"""What becomes of runs: if these fail, a profile is surer, or better, than its measurements."""

import numpy as np
import pytest

from calibration.fitting.bootstrap import Quantity, fit, interval, split
from calibration.fitting.laws import Around, Bandwidth, Distribution, Law, Level, Runs
from calibration.tables import Origin
from simulator.profiles.constant import Constant, Quantiles, Samples

ORIGIN = Origin("some.csv", "0" * 64, "2026-04", "us-east-1")


def quantity(law: Law, runs: Runs, unit: str = "s") -> Quantity:
    return Quantity(("start", "warm_s"), unit, law, runs, ORIGIN, "someone's measurements", "x", "y, s")


def base(value: float | Quantiles | Samples) -> Constant:
    return Constant(value=value, unit="s", source="assumed", date="2020", confidence="low")


def days(count: int, rng: np.random.Generator, drift: float = 0.1, samples: int = 60) -> list[np.ndarray]:
    """Lognormal samples whose median drifts from day to day."""
    return [np.exp(rng.normal(np.log(0.1) + rng.normal(0, drift), 0.2, samples)) for _ in range(count)]


def test_runs_are_split_whole_and_each_has_one_use() -> None:
    runs = [np.full(3, float(k)) for k in range(9)]
    first, select, test = split(runs)
    assert sorted(run[0] for part in (first, select, test) for run in part) == list(range(9))
    assert (len(first), len(select), len(test)) == (5, 2, 2)
    assert [len(part) for part in split(runs[:3])] == [1, 1, 1]
    assert [len(part) for part in split(runs[:2])] == [2, 0, 0]


def test_95_of_100_intervals_hold_the_truth_because_a_run_is_the_unit() -> None:
    """If this fails, a profile is not as sure as it says: draws and robust plans trust too narrow a range."""
    covered = {"runs": 0, "requests": 0}
    for seed in range(200):
        runs = days(5, np.random.default_rng(seed))
        told = fit(quantity(Distribution(), runs), None).fit.interval
        every = interval(np.concatenate(runs).tolist())
        assert told is not None
        assert every is not None
        covered["runs"] += told[0] <= 0.1 <= told[1]
        covered["requests"] += every[0] <= 0.1 <= every[1]
    assert 0.9 <= covered["runs"] / 200 <= 0.99
    assert covered["requests"] / 200 <= 0.7  # requests of one day are not independent


def test_the_interval_counts_the_test_run_and_the_draws_are_as_wide() -> None:
    values = [1.0, 1.1, 1.5, 0.95, 1.05]
    found = fit(quantity(Level(), [np.array([x]) for x in values], "1"), None).fit
    mean, half = np.log(values).mean(), 2.7764 * np.log(values).std(ddof=1) / np.sqrt(5)
    assert found.interval == pytest.approx((np.exp(mean - half), np.exp(mean + half)), rel=1e-4)
    drawn = np.log(
        [
            x
            for seed in range(100)
            for x in fit(quantity(Level(), [np.array([x]) for x in values]), None, seed).fit.draws or ()
        ]
    )
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([mean - half, mean + half], abs=0.1 * half)


def test_an_interval_is_no_narrower_than_what_can_be_told_apart_nor_by_rounding() -> None:
    exact = interval([4 / 3] * 5)
    assert exact is not None
    assert exact[0] <= 4 / 3 <= exact[1]
    assert interval([100.0] * 5, resolution=2.0) == pytest.approx((98.0, 102.0), rel=2e-4)


def test_one_run_gives_no_interval_and_nothing_held_out() -> None:
    found = fit(quantity(Level(), [np.array([3.0, 4.0, 5.0])]), base(1.0))
    assert found.constant.value == 4.0
    assert (found.fit.interval, found.fit.held_out_error, found.select_error) == (None, None, None)


def test_the_base_is_kept_where_it_describes_most_runs_better() -> None:
    good, kept = base(Samples(samples=tuple(np.concatenate(days(200, np.random.default_rng(9))).tolist()))), 0
    for seed in range(10):
        found = fit(quantity(Distribution(), days(7, np.random.default_rng(seed))), good)
        assert found.constant in (found.fitted, good.model_copy(update={"kept": "better than the fit"}))
        kept += found.constant.kept is not None
    assert kept >= 5  # each leaves out a run, and the fit knows six
    bad = fit(quantity(Distribution(), days(7, np.random.default_rng(0))), base(5.0))
    assert bad.constant == bad.fitted
    assert bad.constant.kept is None


@pytest.mark.parametrize("odd", range(5))
def test_one_run_of_five_that_contradicts_the_others_does_not_bring_the_base_back(odd: int) -> None:
    """If this fails, a connection of 60 MB/s stands as the base's 93 because of a single bad run."""
    runs = [np.array([120e6 if k == odd else 60e6 + 1e5 * k]) for k in range(5)]
    found = fit(quantity(Level(), runs, "bytes/s"), base(93e6))
    assert found.constant.kept is None
    assert found.constant.value == pytest.approx(60e6, rel=0.01)


def test_test_runs_choose_nothing() -> None:
    runs = days(7, np.random.default_rng(1))
    found = fit(quantity(Distribution(), runs), base(0.2))
    spoiled = [run * 100 if k % 4 == 2 else run for k, run in enumerate(runs)]
    other = fit(quantity(Distribution(), spoiled), base(0.2))
    assert other.constant.value == found.constant.value
    assert found.fit.held_out_error is not None
    assert other.fit.held_out_error == pytest.approx(np.log(100), rel=0.2)


def test_the_family_that_describes_other_runs_best_is_chosen() -> None:
    rng = np.random.default_rng(5)

    def run() -> np.ndarray:
        return np.exp(np.where(rng.random(60) < 0.4, rng.normal(2.5, 0.05, 60), rng.normal(0, 0.05, 60)))

    assert fit(quantity(Distribution(), [run() for _ in range(40)]), None).fit.method in (
        "mixture of two lognormals",
        "empirical",
    )
    skewed = [np.exp(rng.normal(0, 0.6, 40)) for _ in range(12)]
    assert fit(quantity(Distribution(), skewed), None).fit.method != "mixture of two lognormals"


def test_a_bandwidth_is_found_beside_a_latency() -> None:
    rng = np.random.default_rng(2)
    sizes = np.array([1e6, 4e6, 16e6])
    runs = [np.column_stack([sizes, 0.02 + sizes / 90e6 + rng.normal(0, 5e-4, 3)]) for _ in range(12)]
    found = fit(quantity(Bandwidth(), runs, "bytes/s"), None)
    assert found.constant.value == pytest.approx(90e6, rel=0.01)
    assert found.fit.interval is not None
    assert found.fit.interval[0] <= 90e6 <= found.fit.interval[1]
    assert found.fit.held_out_error is not None
    assert found.fit.held_out_error < 0.05


def test_a_tail_is_written_as_a_distribution_around_one() -> None:
    found = fit(quantity(Level(tail=True), [np.array([1.06])] * 5, "1"), None)
    assert found.constant.value == Quantiles(quantiles={0.5: 1.0, 0.99: 1.06})


def test_what_is_known_of_jitter_is_its_tail() -> None:
    """If this fails, the interval is that of a median that is 1 by definition."""
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(40):
        runs = [np.exp(rng.normal(0, np.log(1.2) / 2.3263, 300)) for _ in range(5)]
        found = fit(quantity(Around(), runs, "1"), None)
        assert found.fit.interval is not None
        held += found.fit.interval[0] <= 1.2 <= found.fit.interval[1]
        assert Around().number(found.constant.value) == pytest.approx(1.2, rel=0.03)
    assert held >= 35
