"""Lambda against queueing theory: if these fail, concurrency, throttling or cold starts are counted wrongly."""

import math

import numpy as np
import pytest
import simpy

from experiments.validation.queueing import UNUSED, at_once, cold_by_sliding_window, erlang_b, poisson_load
from simulator.cloud.billing import Rates
from simulator.cloud.invocation import Latch, WaitFor
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.phases import Compute
from simulator.cloud.starts import Package
from simulator.draws import Draws, Halvings, Retries
from simulator.plan import Communication
from simulator.profiles.schema import load_profile
from simulator.profiles.walk import with_constant
from simulator.records import Record
from simulator.serving.simulate import simulate
from tests.simulator.serving.test_simulate import plan_of, routing, small_problem


def test_mean_concurrency_without_a_limit_is_that_of_m_m_inf() -> None:
    service = LambdaService(simpy.Environment(), at_once())
    arrivals, _ = poisson_load(service, rate=50.0, mean_work_s=0.4, count=40_000, seed=1)
    busy = sum(row.ended_s - row.started_s for row in service.records)
    assert busy / arrivals[-1] == pytest.approx(50.0 * 0.4, rel=0.03)


@pytest.mark.parametrize(("servers", "load"), [(5, 3.0), (20, 18.0)])
def test_the_share_of_throttled_calls_is_erlang_b(servers: int, load: float) -> None:
    service = LambdaService(simpy.Environment(), at_once())
    service.deploy("f", 1024, reserved=servers)
    poisson_load(service, rate=load, mean_work_s=1.0, count=60_000, seed=2)
    throttled = np.mean([row.status == "throttled" for row in service.records])
    assert throttled == pytest.approx(erlang_b(servers, load), rel=0.06)
    assert all(row.billed_s == 0 for row in service.records if row.status == "throttled")


def test_cold_starts_of_last_used_first_are_those_of_its_sliding_window() -> None:
    """A call that lifts concurrency to level m is warm only if level m was last left within the keep-alive."""
    service = LambdaService(simpy.Environment(), at_once(start={"keep_alive": Draws(3.0, UNUSED)}))
    arrivals, work = poisson_load(service, rate=2.0, mean_work_s=0.8, count=5_000, seed=3)
    cold = cold_by_sliding_window(arrivals, work, 3.0)
    assert sum(row.cold for row in service.records) == cold
    assert 0.01 < cold / len(arrivals) < 0.5


def test_half_of_the_idle_instances_survive_each_halving_period() -> None:
    draws = Halvings(380.0, np.random.default_rng(4))
    stays = np.array([draws.next() for _ in range(20_000)])
    for periods in (1, 2, 3):
        assert np.mean(stays > 380.0 * periods) == pytest.approx(0.5**periods, rel=0.05)


def rows_of(service: LambdaService, work_s: float, calls: int = 1) -> list[Record]:
    for _ in range(calls):
        service.invoke(Record(0, 0, "request", "f", 1024), (Compute(work_s),))
    service.env.run()
    return service.records


def test_a_throttled_call_is_tried_again_and_then_served() -> None:
    retries = Retries(5, 1.0, 20.0, np.random.default_rng(5), ("throttled",))
    service = LambdaService(simpy.Environment(), at_once(retries=retries))
    service.deploy("f", 1024, reserved=1)
    rows = rows_of(service, 0.01, calls=2)
    assert [row.status for row in rows if row.attempt == 1] == ["throttled", "ok"]
    assert sum(row.status == "ok" for row in rows) == 2


def test_a_timeout_is_billed_in_full_and_costs_the_instance() -> None:
    service = LambdaService(simpy.Environment(), at_once())
    function = service.deploy("f", 1024, timeout_s=2.0)
    (row,) = rows_of(service, 5.0)
    assert (row.status, row.billed_s) == ("timeout", 2.0)
    assert function.idle == []


def test_a_program_that_never_ends_is_broken_off_by_its_timeout() -> None:
    service = LambdaService(simpy.Environment(), at_once())
    service.deploy("f", 1024, timeout_s=2.0)
    never = Latch(service.env)
    service.invoke(Record(0, 0, "request", "f", 1024), (WaitFor(never),))
    service.env.run()
    assert [(row.status, row.billed_s) for row in service.records] == [("timeout", 2.0)]


def test_an_init_over_its_limit_is_done_again() -> None:
    package = Package(Draws(0.0, UNUSED), Draws(12.0, UNUSED), True, Rates(((0.0, 0.0),)))
    slow = at_once(start={"package": package, "init_limit_s": 10.0})
    (row,) = rows_of(LambdaService(simpy.Environment(), slow), 1.0)
    assert row.phases["init"] == (0.0, 22.0)
    assert row.billed_s == pytest.approx(23.0)


def failing_profile(share: float):  # type: ignore[no-untyped-def]
    """The packaged profile with handlers that fail, and callers that try up to 20 times."""
    profile = with_constant(load_profile(), ("failures", "handler_error"), share)
    return with_constant(profile, ("retries", "attempts"), 20.0)


@pytest.mark.parametrize("method", ["storage", "pipelined", "direct"])
def test_tokens_of_failed_experts_are_computed_again_and_failures_are_billed(method: Communication) -> None:
    problem, batches = small_problem(), routing(1)
    run = simulate(problem, plan_of(problem, method), failing_profile(0.1), routing=batches, seed=6)
    failed = [row for row in run.records if row.status == "handler-error" and row.role == "expert"]
    assert failed
    assert all(row.billed_s > 0 for row in failed)
    computed = np.zeros((6, 4))
    for row in run.records:
        if row.role == "expert" and row.status == "ok":
            computed[row.layer, row.expert] += row.tokens
    layers = 6 if not run.failed else min(r.layer for r in run.records if r.role == "non-moe" and r.status != "ok")
    assert (computed[:layers] == batches[0][:layers]).all()


def test_a_batch_that_cannot_go_on_is_said_to_have_failed() -> None:
    problem = small_problem()
    run = simulate(problem, plan_of(problem, "storage"), failing_profile(1.0), routing=routing(1))
    assert "handler-error" in run.failed[0]
    assert math.isnan(run.mean_latency_s)
    assert run.records
