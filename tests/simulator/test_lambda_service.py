"""Lambda: if these fail, cold starts, reuse or rounding are billed wrongly."""

from pathlib import Path

import numpy as np
import pytest
import simpy

from simulator.lambda_service import LambdaService
from simulator.plan import ProblemPlatform
from simulator.platform import Platform, platform_of_profile
from simulator.profile import PlatformProfile, load_profile
from simulator.program import Sleep
from simulator.records import Record, bill
from tests.conftest import reference


@pytest.fixture
def aws() -> Platform:
    return platform(load_profile())


def platform(profile: PlatformProfile) -> Platform:
    constants: ProblemPlatform = reference("tiny")[0].platform
    return platform_of_profile(profile, constants, np.random.default_rng(1))


def serve(
    aws: Platform, requests_s: list[float], work_s: float = 0.1, prewarmed: int = 0, **limits: object
) -> LambdaService:
    """Calls of one function of 1024 MB at the given times, each working for `work_s`."""
    env = simpy.Environment()
    service = LambdaService(env, aws)
    service.deploy("f", 1024, warm=prewarmed, **limits)  # type: ignore[arg-type]

    def request() -> None:
        service.invoke(Record(batch=0, layer=0, role="expert", function="f", memory_mb=1024), (Sleep(work_s),))

    for at in requests_s:
        service.after(at, request)
    env.run()
    service.records.sort(key=lambda row: (row.requested_s, row.attempt))
    return service


def test_concurrent_calls_start_an_instance_each_and_later_ones_reuse_the_last_used(aws: Platform) -> None:
    rows = serve(aws, [0.0, 0.0, 5.0]).records
    assert [row.cold for row in rows] == [True, True, False]
    last_idle = max(rows[:2], key=lambda row: row.ended_s)
    assert rows[2].instance == last_idle.instance


def test_no_instance_serves_two_calls_at_once(aws: Platform) -> None:
    rows = serve(aws, [0.0, 0.3, 0.5, 0.6, 0.61, 2.0, 2.0, 2.05], work_s=0.25).records
    for a in rows:
        for b in rows:
            if a is not b and a.instance == b.instance:
                assert a.ended_s <= b.requested_s or b.ended_s <= a.requested_s


def test_an_instance_is_gone_after_the_keep_alive(aws: Platform) -> None:
    rows = serve(aws, [0.0, 1.0, 1.0 + 2 * aws.keep_alive.next()]).records
    assert [row.cold for row in rows] == [True, False, True]


def test_prewarmed_instances_serve_without_a_cold_start(aws: Platform) -> None:
    assert [row.cold for row in serve(aws, [0.0, 0.0], prewarmed=2).records] == [False, False]


def test_a_warm_call_is_billed_its_handler_rounded_up_to_a_millisecond(aws: Platform) -> None:
    row = serve(aws, [0.0], work_s=0.1234, prewarmed=1).records[0]
    assert row.billed_s == pytest.approx(0.124)
    assert row.billed_gb_s == pytest.approx(0.124)
    assert row.compute_cost_usd == pytest.approx(0.124 * 0.0000166667)
    assert row.started_s > row.requested_s  # the front end's overhead is waited for, not billed


def test_a_cold_call_is_billed_its_init(aws: Platform) -> None:
    row = serve(aws, [0.0], work_s=0.1).records[0]
    start, end = row.phases["init"]
    assert row.billed_s == pytest.approx(end - start + 0.1, abs=0.001)
    assert row.billed_s >= end - start + 0.1 - 1e-9


def test_init_was_free_before_august_2025() -> None:
    profile = load_profile()
    free = profile.prices.init_is_billed.model_copy(update={"value": 0.0})
    prices = profile.prices.model_copy(update={"init_is_billed": free})
    row = serve(platform(profile.model_copy(update={"prices": prices})), [0.0], work_s=0.1).records[0]
    assert row.cold
    assert row.billed_s == pytest.approx(0.1)


def test_the_bill_is_the_sum_of_its_rows(aws: Platform) -> None:
    service = serve(aws, [0.0, 0.0, 1.0, 7.0])
    whole, parts = bill(service.records), [bill([row]) for row in service.records]
    assert whole.total_cost_usd == pytest.approx(sum(part.total_cost_usd for part in parts))
    assert whole.billed_gb_s == pytest.approx(sum(part.billed_gb_s for part in parts))
    assert whole.full_cost_usd == pytest.approx(whole.billed_cost_usd + 4 * 2e-7)


def test_nothing_heavy_is_imported_by_a_simulation() -> None:
    import subprocess
    import sys

    heavy = "('torch', 'pandas', 'matplotlib', 'boto3')"
    code = f"import simulator, optimizer.solvers, sys; print(*(m for m in {heavy} if m in sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == []
