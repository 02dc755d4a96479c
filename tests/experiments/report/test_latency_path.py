"""Where the latency goes: if these fail, the page's phases do not add up to the latency that it shows."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.report.latency_path import latency_by_phase, latency_s
from simulator.profiles.schema import load_profile
from simulator.records import bill, from_pandas, to_pandas
from simulator.serving.layer import Serving, Start
from simulator.serving.simulate import simulate
from tests.conftest import reference


@pytest.mark.parametrize("name", ["tiny", "bert-4", "bert-8", "zero-and-uneven", "measured-platform"])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("start", ["eager", "just-in-time"])
def test_the_phases_of_a_batch_add_up_to_the_latency_of_the_simulation(
    name: str, warm: bool, start: Start
) -> None:
    problem, plan, _ = reference(name)
    run = simulate(
        problem, plan, load_profile("aws-us-east-1-2026"), serving=Serving(start=start), runs=2, warm=warm
    )
    for batch, expected_s in enumerate(run.latency_s):
        records = [row for row in run.records if row.batch == batch]
        seconds = latency_by_phase(records)
        assert seconds is not None
        assert min(seconds.values()) >= 0
        assert sum(seconds.values()) == pytest.approx(expected_s)
        assert latency_s(records) == pytest.approx(expected_s)


def test_a_cold_start_is_on_the_way_and_a_slower_expert_is_in_its_compute() -> None:
    problem, plan, _ = reference("bert-4")
    cold = latency_by_phase(simulate(problem, plan, load_profile("aws-us-east-1-2026"), warm=False).records)
    assert cold is not None
    assert cold["init"] > 0
    first = problem.layers[0]
    slow = problem.model_copy(
        update={
            "layers": (
                first.model_copy(update={"seconds_per_token": tuple(3 * s for s in first.seconds_per_token)}),
                *problem.layers[1:],
            )
        }
    )
    before, after = (simulate(each, plan).records for each in (problem, slow))
    a, b = latency_by_phase(before), latency_by_phase(after)
    assert a is not None
    assert b is not None
    grown = {phase: b[phase] - a[phase] for phase in a}
    assert grown["compute"] == pytest.approx(latency_s(after) - latency_s(before))


def test_a_batch_that_failed_has_no_phases() -> None:
    problem, plan, _ = reference("tiny")
    records = simulate(problem, plan).records
    broken = [replace(row, status="timeout") if row.role == "non-moe" else row for row in records]
    assert latency_by_phase(broken) is None
    assert np.isnan(latency_s(broken))


def test_a_record_table_gives_back_the_rows_it_was_made_of() -> None:
    problem, plan, _ = reference("bert-4")
    run = simulate(problem, plan, load_profile("aws-us-east-1-2026"), warm=False)
    again = from_pandas(to_pandas(run.records))
    assert again == run.records
    assert bill(again) == bill(run.records)
