"""The optimizer's benchmark times the same problem solved in two ways: they must agree."""

import numpy as np
import pytest

from experiments.benches.optimizer import (
    at_equal_time,
    optimizer_speed,
    plain_sweep,
    shaped_problem,
    slope,
    zipf_popularity,
)
from optimizer.exact import least_latency_s, model_fronts
from optimizer.solvers import solve
from tests.conftest import NAMES, reference


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_sweep_finds_the_optimum(name: str) -> None:
    problem, _, _ = reference(name)
    assert plain_sweep(problem) == pytest.approx(solve(problem, "exact").lower_bound, rel=1e-9)


@pytest.mark.slow
def test_at_full_width_what_is_left_out_is_not_missed() -> None:
    """256 experts, 52 memory sizes: most deployments and labels are left out, and the optimum is the same."""
    problem = shaped_problem(2, 256)
    fronts = model_fronts(problem)
    least = least_latency_s(problem)
    for limit in (problem.latency_limit_s, least * 1.001, None):
        limited = problem.with_limit(limit)
        optimum = solve(limited, "exact", fronts=fronts)
        assert solve(limited, "exact").billed_gb_s == pytest.approx(optimum.billed_gb_s, rel=1e-9)
        rough = solve(limited, "exact", gap=1e-3)
        assert (rough.lower_bound or 0) <= (optimum.lower_bound or 0) * (1 + 1e-12)
        assert (rough.gap or 0) <= 1e-3


def test_the_limit_of_a_shape_binds() -> None:
    problem = shaped_problem(3, 4)
    assert least_latency_s(problem) < (problem.latency_limit_s or 0)
    free = solve(problem.with_limit(None), "exact")
    assert (free.latency_s or 0) > (problem.latency_limit_s or 0)


def test_popularity_sums_to_the_batch_and_no_expert_has_more_than_all_of_it() -> None:
    found = zipf_popularity(5, 64, 1000, 8)
    assert np.all(found.sum(axis=1) == 8000)
    assert found.max() == 1000
    assert len(np.unique(found.argmin(axis=1))) > 1


def test_rows_carry_gaps_and_ratios() -> None:
    rows = optimizer_speed(((1, 2), (2, 3)), rounds=1)
    by_job = {row.job: row for row in rows[:6]}
    assert list(by_job) == ["plain sweep", "exact", "exact, gap 0.0001", "ODS", "front within 1%", "whole front"]
    assert by_job["exact"].gap == 0
    assert by_job["plain sweep"].of_first == 1
    assert by_job["whole front"].gap is None
    assert np.isfinite(slope(rows, "exact"))


def test_miqcp_is_compared_at_equal_time_and_never_loses_its_start() -> None:
    problem = reference("tiny")[0]
    exact, ods, cold, warm = at_equal_time(problem, time_limit_s=1)
    assert exact.over_optimum == 0
    assert ods.cost is not None
    assert warm.cost is not None
    assert warm.cost <= ods.cost
    assert cold.cost is None or cold.cost >= exact.cost
