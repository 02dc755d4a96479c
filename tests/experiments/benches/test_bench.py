"""Benchmarks run and count what they did; how fast is for the person who looks."""

import pytest

from experiments.benches.simulator import (
    BatchTime,
    Workload,
    batch_times,
    in_turn,
    month,
    scaling,
    simulator_speed,
    slope_us,
)


def test_ratios_are_of_the_first_job() -> None:
    rows = in_turn({"one": lambda: 1000, "other": lambda: 1000}, "things", rounds=1)
    assert [row.name for row in rows] == ["one", "other"]
    assert rows[0].of_first == 1
    assert rows[1].of_first == pytest.approx(rows[1].per_s / rows[0].per_s)


def test_every_request_of_the_workload_is_served() -> None:
    rows = {row.name: row for row in simulator_speed(Workload(requests=300))}
    assert rows["this simulator"].per_s > 0
    assert rows["this simulator, fast"].per_s > 0


def test_a_month_is_thirty_million_requests() -> None:
    found = month(2000, rounds=1)
    assert found.month_s == pytest.approx(30 * found.us)


def test_invocations_grow_with_layers_and_experts() -> None:
    small, large = scaling(((2, 2), (4, 4)))
    assert small.invocations == 2 * 2 * 2 + 3
    assert large.invocations == 4 * 4 * 2 + 5


def test_the_slope_is_the_seconds_of_one_more_invocation() -> None:
    times = [BatchTime("", 0.5 + 20e-6 * count, count) for count in (100, 400, 7000)]
    assert slope_us(times) == pytest.approx(20)


def test_every_minibatch_is_counted() -> None:
    storage, _, _, pipelined = batch_times(rounds=1)
    assert storage.minibatches == 0
    assert pipelined.minibatches == pytest.approx(12 * 10_240 / 8, rel=0.02)
