"""What becomes of runs: if these fail, a profile is surer, or better, than its measurements."""

import numpy as np
import pytest

from calibration.fitting.bootstrap import Quantity, fit, interval, split
from calibration.fitting.laws import Bandwidth, Distribution, Law, Level, Runs
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


def test_the_interval_covers_the_truth_because_it_resamples_runs() -> None:
    covered = {"runs": 0, "requests": 0}
    for seed in range(40):
        runs = days(16, np.random.default_rng(seed), samples=20)
        alone = [np.array([x]) for x in np.concatenate(runs)]
        for name, units in (("runs", runs), ("requests", alone)):
            between = interval(lambda chosen: float(np.median(np.concatenate(chosen))), units, seed)
            assert between is not None
            covered[name] += between[0] <= 0.1 <= between[1]
    assert covered["runs"] >= 33  # 95% of 40 is 38
    assert covered["requests"] <= 30  # requests of one day are not independent


def test_one_run_gives_no_interval_and_nothing_held_out() -> None:
    found = fit(quantity(Level(), [np.array([3.0, 4.0, 5.0])]), base(1.0))
    assert found.constant.value == 4.0
    assert (found.fit.interval, found.fit.held_out_error, found.select_error) == (None, None, None)


def test_the_base_is_kept_where_it_describes_the_selection_better() -> None:
    runs = days(7, np.random.default_rng(0), drift=0.3, samples=400)
    good = base(Samples(samples=tuple(np.concatenate(split(runs)[1]).tolist())))
    kept = fit(quantity(Distribution(), runs), good).constant
    assert (kept.value, kept.kept, kept.source) == (good.value, "better than the fit", "assumed")
    bad = fit(quantity(Distribution(), runs), base(5.0))
    assert bad.constant == bad.fitted
    assert bad.constant.kept is None


def test_test_runs_choose_nothing() -> None:
    runs = days(7, np.random.default_rng(1))
    found = fit(quantity(Distribution(), runs), base(0.2))
    spoiled = [run * 100 if k % 4 == 2 else run for k, run in enumerate(runs)]
    other = fit(quantity(Distribution(), spoiled), base(0.2))
    assert other.constant.value == found.constant.value
    assert found.fit.held_out_error is not None
    assert other.fit.held_out_error == pytest.approx(np.log(100), rel=0.2)


def test_the_family_that_describes_other_runs_best_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.fitting.bootstrap.RESAMPLES", 2)  # intervals are not looked at
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
