"""Laws of the simulator with failures, throttles, retries, stragglers: if one fails, something is lost or made up.

The laws themselves are in `experiments.validation.laws`, where the validation page has them from as well.
"""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.validation.closed_form import METHODS, random_plan, random_problem
from experiments.validation.laws import (
    Served,
    bill_by_hand,
    bytes_sent_and_received,
    cold_starts,
    computed_tokens,
    digest,
    digest_of_another_process,
    failed_batches,
    faster,
    longest_of_timeout,
    most_at_once,
    random_served,
    troubled,
    troubled_digest,
)
from experiments.validation.queueing import UNUSED, at_once
from simulator.cloud.billing import Rates
from simulator.cloud.invocation import Latch, Signal, WaitFor
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute
from simulator.cloud.starts import Package
from simulator.cloud.storage import Requests, Storage
from simulator.cloud.transfers import Get
from simulator.draws import Draws, Retries
from simulator.plan import Communication, DeploymentPlan, DeploymentProblem
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.records import Record
from simulator.serving.layer import Gather, Serving, Start
from simulator.serving.overflow import Overflow
from simulator.serving.simulate import simulate
from simulator.staged_plan import BlocksStage
from tests.optimizer.staged_problems import random_staged_plan, staged_problem
from tests.simulator.serving.test_simulate import plan_of, small_problem, with_experts

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def troubled_services(draw: st.DrawFn) -> Served:
    """A random problem, plan, routing and trouble, with every setting of a service."""
    served = random_served(np.random.default_rng(draw(SEEDS)))
    plan = random_plan(served.problem, draw(st.sampled_from(METHODS)), np.random.default_rng(draw(SEEDS)))
    return dataclasses.replace(
        served,
        plan=draw(st.sampled_from([served.plan, plan])),
        serving=Serving(
            start=draw(st.sampled_from(["eager", "just-in-time"])),
            next_layer_start=draw(st.sampled_from(["eager", "just-in-time"])),
            gather=draw(st.sampled_from(["after-all", "as-ready"])),
            overflow=draw(st.sampled_from(["foreseen", "retry", "fail"])),
        ),
        warm=draw(st.booleans()),
    )


def test_the_laws_are_held_against_runs_in_which_everything_goes_wrong() -> None:
    rng, statuses, failed = np.random.default_rng(0), Counter[str](), 0
    for _ in range(80):
        run = random_served(rng).run()
        statuses.update(row.status for row in run.records)
        failed += len(run.failed)
    for trouble in ("throttled", "handler-error", "timeout", "instance-lost", "s3-error", "out-of-memory"):
        assert statuses[trouble] > 0, trouble
    assert 20 < failed < 140  # of 160 batches


@given(troubled_services())
@settings(max_examples=80)
def test_every_token_is_computed_exactly_once_however_often_calls_fail(served: Served) -> None:
    run = served.run()
    for batch in (0, 1):
        computed, routed = computed_tokens(served, run, batch), served.tokens(batch)
        if batch in failed_batches(run):
            assert (computed <= routed * (1 + 1e-9)).all()
        else:
            assert computed == pytest.approx(routed, rel=1e-9)


@given(troubled_services())
@settings(max_examples=60)
def test_what_is_sent_is_received(served: Served) -> None:
    run = served.run()
    for batch in {0, 1} - failed_batches(run):
        sent, received = bytes_sent_and_received(served, run, batch)
        assert received == pytest.approx(sent, rel=1e-9)


@given(troubled_services())
@settings(max_examples=60)
def test_the_bill_is_the_sum_of_what_each_row_did(served: Served) -> None:
    run = served.run()
    assert 2 * run.bill.total_cost_usd == pytest.approx(bill_by_hand(served, run.records), rel=1e-9)
    experts = [row for row in run.records if row.role == "expert"]
    assert 2 * run.bill.billed_gb_s == pytest.approx(
        sum(r.billed_s * r.memory_mb / 1024 for r in experts), rel=1e-9
    )
    assert run.bill.billed_cost_usd <= run.bill.full_cost_usd <= run.bill.total_cost_usd
    for row in run.records:
        init_start, init_end = row.phases.get("init", (0.0, 0.0))
        assert row.billed_s >= init_end - init_start + row.ended_s - row.started_s - 1e-9 or not row.instance
        assert row.billed_s < init_end - init_start + row.ended_s - row.started_s + 0.001 + 1e-9


@given(troubled_services())
@settings(max_examples=60)
def test_no_instance_serves_two_calls_at_once_and_no_call_outlasts_its_timeout(served: Served) -> None:
    run = served.run()
    assert most_at_once(run.records) == 1
    assert longest_of_timeout(served, run.records) <= 1 + 1e-9
    for row in run.records:
        assert row.requested_s <= row.started_s <= row.ended_s


@given(troubled_services(), st.integers(0, 3))
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_bytes(served: Served, seed: int) -> None:
    assert digest(served.run(seed).records) == digest(served.run(seed).records)


def test_the_same_seed_gives_the_same_bytes_in_every_process() -> None:
    assert digest_of_another_process(1) == digest_of_another_process(2) == troubled_digest()


# -- monotonicity -----------------------------------------------------------------------------------------


@given(
    SEEDS,
    st.sampled_from([*METHODS, None]),
    st.floats(1.0, 10.0),
    st.sampled_from(["eager", "just-in-time"]),
    st.sampled_from(["after-all", "as-ready"]),
)
@settings(max_examples=80)
def test_more_bandwidth_never_raises_the_latency_on_the_ideal_platform(
    seed: int, method: Communication | None, times: float, start: Start, gather: Gather
) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    plan = random_plan(problem, method, rng)
    before, after = (
        simulate(each, plan, serving=Serving(start=start, gather=gather)).mean_latency_s
        for each in (problem, faster(problem, times))
    )
    assert after <= before * (1 + 1e-9)


@given(
    st.lists(st.tuples(st.floats(0.001, 3.0), st.floats(0.01, 2.0)), min_size=1, max_size=40),
    st.floats(0.0, 5.0),
    st.floats(0.0, 5.0),
)
@settings(max_examples=80)
def test_a_longer_keep_alive_never_raises_the_number_of_cold_starts(
    calls: list[tuple[float, float]], keep_alive_s: float, longer_s: float
) -> None:
    arrivals, work = np.cumsum([gap for gap, _ in calls]), np.array([work_s for _, work_s in calls])
    assert cold_starts(arrivals, work, keep_alive_s + longer_s) <= cold_starts(arrivals, work, keep_alive_s)


# -- what the laws have found -----------------------------------------------------------------------------


def changed(**values: float) -> PlatformProfile:
    """The packaged profile with other constants, `group__name` each."""
    profile = load_profile()
    for key, value in values.items():
        profile = with_constant(profile, key.split("__"), value)
    return profile


def overflowing() -> tuple[DeploymentProblem, list[np.ndarray]]:
    """Experts one of which meets more tokens than its memory holds."""
    return with_experts(intermediate_bytes_per_token=1e6), [np.tile(np.array([100, 2000, 0, 700]), (6, 1))]


def test_a_gate_that_outlasts_its_timeout_is_broken_off_there() -> None:
    service = LambdaService(simpy.Environment(), at_once())
    service.deploy("f", 1024, timeout_s=2.0)
    service.invoke(Record(0, 0, "request", "f", 1024), (Signal(Latch(service.env)), Compute(5.0)))
    service.env.run()
    assert [(row.status, row.ended_s, row.billed_s) for row in service.records] == [("timeout", 2.0, 2.0)]


def test_a_call_that_waits_for_one_that_has_failed_is_not_billed_less_than_nothing() -> None:
    """Its instance is still starting when it is told."""
    service = LambdaService(
        simpy.Environment(),
        at_once(start={"package": Package(Draws(0.0, UNUSED), Draws(3.0, UNUSED), True, Rates(((0.0, 0.0),)))}),
    )
    latch = Latch(service.env)
    service.invoke(Record(0, 0, "request", "f", 1024), (WaitFor(latch),))
    service.after(1.0, lambda: latch.give_up(Record(0, 0, "request", "g", 1024)))
    service.env.run()
    row = service.records[0]
    assert (row.status, row.started_s, row.ended_s, row.billed_s) == ("upstream-failed", 3.0, 3.0, 3.0)


def test_a_call_whose_timeout_comes_before_s3_refuses_it_for_the_last_time_is_billed_its_timeout() -> None:
    slow = Requests(Draws(1.5, UNUSED), retries=Retries(3, 0.0, 0.0, UNUSED), errors=Always())
    service = LambdaService(simpy.Environment(), at_once(storage=Storage(slow, slow)))
    service.deploy("f", 1024, timeout_s=2.0)
    service.invoke(Record(0, 0, "request", "f", 1024), (Get([1.0], "gather"),))
    service.env.run()
    assert [(row.status, row.billed_s) for row in service.records] == [("timeout", 2.0)]


class Always:
    """A chance that always comes true."""

    def next(self) -> bool:
        """Yes."""
        return True


def test_a_gate_whose_upload_s3_refuses_fails_its_batch_and_its_experts_do_not_go_on() -> None:
    problem = small_problem()
    run = simulate(problem, plan_of(problem, "pipelined"), changed(storage__error=0.7, retries__attempts=2.0))
    assert run.failed == ("batch 0: non-moe-0 s3-error, attempt 1",)
    statuses = {row.status for row in run.records if row.role == "expert"}
    assert statuses <= {"upstream-failed", "s3-error"}


@pytest.mark.parametrize("overflow", ["retry", "fail"])
def test_a_just_in_time_layer_is_started_for_experts_that_will_run_out_of_memory(overflow: Overflow) -> None:
    problem, routing = overflowing()
    plan: DeploymentPlan = plan_of(problem, "storage", memory_mb=768, replicas=1)
    serving = Serving(next_layer_start="just-in-time", overflow=overflow)
    run = simulate(problem, plan, load_profile(), serving=serving, routing=routing)
    assert "out-of-memory" in {row.status for row in run.records}
    assert bool(run.failed) == (overflow == "fail")


def test_results_of_minibatches_that_ran_elsewhere_are_gathered_as_well() -> None:
    problem, routing = overflowing()
    plan = plan_of(problem, "pipelined", memory_mb=768, replicas=1)
    serving = Serving(gather="as-ready", overflow="retry")
    run = simulate(problem, plan, load_profile(), serving=serving, routing=routing)
    assert not run.failed
    assert np.isfinite(run.mean_latency_s)
    assert sum(row.tokens for row in run.records if row.role == "expert" and row.status == "ok") == 6 * 2800


def test_stages_keep_the_laws_in_trouble() -> None:
    """Of batches that succeed each stage has computed each token once, however often calls failed; every dollar
    is in a row; an instance serves one call at a time; the same seed gives the same rows."""
    succeeded = failed = 0
    for seed in range(12):
        problem = staged_problem(seed, 3, input_bytes_per_token=4.0)
        plan = random_staged_plan(seed, problem, experts=0.3)
        profile = troubled(np.random.default_rng(seed))
        run = simulate(problem, plan, profile, runs=2, warm=bool(seed % 2), seed=seed)
        served = dataclasses.replace(random_served(np.random.default_rng(0)), profile=profile)  # whose prices
        assert run.bill.total_cost_usd * 2 == pytest.approx(bill_by_hand(served, run.records), rel=1e-9)
        assert most_at_once(run.records) == 1
        again = simulate(problem, plan, profile, runs=2, warm=bool(seed % 2), seed=seed)
        assert digest(again.records) == digest(run.records)
        for batch in {0, 1} - failed_batches(run):
            succeeded += 1
            for stage in (x for x in plan.stages if isinstance(x, BlocksStage)):
                rows = [
                    x for x in run.records if (x.batch, x.role, x.layer) == (batch, "blocks", stage.first_layer)
                ]
                computed = sum(row.tokens for row in rows if row.status == "ok")
                assert computed == pytest.approx(problem.served_tokens)
        failed += sum(row.status != "ok" for row in run.records)
    assert succeeded > 5
    assert failed > 5
