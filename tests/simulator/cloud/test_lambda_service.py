"""Lambda: if these fail, cold starts, reuse or rounding are billed wrongly."""

import math
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import simpy

from moe.errors import InputError
from simulator.cloud.call import Function
from simulator.cloud.lambda_service import LambdaService, Prewarming
from simulator.cloud.phases import Compute, Fail, Sleep
from simulator.cloud.platform import Platform, platform_of_profile
from simulator.cloud.streams import fixed
from simulator.draws import Chances, Draws
from simulator.plan import ProblemPlatform
from simulator.profiles.closed_form import expert_seconds
from simulator.profiles.constant import Constant, Samples
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import with_constant
from simulator.records import Record, bill
from tests.conftest import reference


@pytest.fixture
def aws() -> Platform:
    return platform(load_profile("paper"))


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
    rows = serve(aws, [0.0, 1.0, 1.0 + 2 * aws.start.keep_alive.next()]).records
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


def on(day: date, package: str = "python3.12-x86_64-zip") -> PlatformProfile:
    profile = load_profile("paper")
    return profile.model_copy(
        update={
            "prices": profile.prices.model_copy(update={"date": day}),
            "start": profile.start.model_copy(update={"package": package}),
        }
    )


def test_the_init_of_a_zip_was_free_before_august_2025_that_of_an_image_was_not() -> None:
    for package, billed in (("python3.12-x86_64-zip", False), ("python3.12-x86_64-image", True)):
        row = serve(platform(on(date(2025, 7, 31), package)), [0.0], work_s=0.1).records[0]
        start, end = row.phases["init"]
        assert row.cold
        assert row.billed_s == pytest.approx(0.1 + billed * (end - start), abs=0.001)


def test_durations_were_rounded_up_to_100_ms_before_december_2020() -> None:
    for day, billed_s in ((date(2020, 11, 30), 0.2), (date(2020, 12, 1), 0.124)):
        row = serve(platform(on(day)), [0.0], work_s=0.1234, prewarmed=1).records[0]
        assert row.billed_s == pytest.approx(billed_s)


def test_the_package_decides_init_provisioning_and_price(aws: Platform) -> None:
    def median_init(package: str, **more: object) -> tuple[float, float, float]:
        service = serve(aws, [100.0 * k for k in range(51)], package=package, **more)
        spans = [[b - a for a, b in (row.phases["init"], row.phases["provisioning"])] for row in service.records]
        init, provisioning = np.median(spans, axis=0)
        return (
            float(init),
            float(provisioning),
            service.records[0].compute_cost_usd / service.records[0].billed_gb_s,
        )

    short = aws.changed(start={"keep_alive": Draws(1.0, np.random.default_rng(0))})
    aws = short
    zipped, image, arm = (median_init(f"python3.12-{x}") for x in ("x86_64-zip", "x86_64-image", "arm64-zip"))
    assert zipped[0] == pytest.approx(0.090, rel=0.1)
    assert image[0] == pytest.approx(0.155, rel=0.15)
    assert arm[2] / zipped[2] == pytest.approx(0.8, rel=1e-4)
    big = median_init("python3.12-x86_64-zip", package_bytes=250e6)
    assert big[1] - zipped[1] == pytest.approx(250 / 440)
    with pytest.raises(
        InputError, match=r"no package 'python3\.12-x86_64-zap'; did you mean 'python3\.12-x86_64-zip'"
    ):
        median_init("python3.12-x86_64-zap")


def test_measured_samples_are_drawn_as_they_are() -> None:
    constant = Constant(
        value=Samples(samples=(0.1, 0.2, 0.4)), unit="s", source="ours", date="2026", confidence="low"
    )
    profile = with_constant(
        load_profile("paper"), ("start", "packages", "python3.12-x86_64-zip", "init_s"), constant
    )
    aws = platform(profile).changed(start={"keep_alive": Draws(1.0, np.random.default_rng(0))})
    spans = [row.phases["init"] for row in serve(aws, [10.0 * k for k in range(60)]).records]
    assert {round(end - start, 6) for start, end in spans} == {0.1, 0.2, 0.4}
    assert constant.median == 0.2


def test_tmp_beyond_512_mb_is_charged(aws: Platform) -> None:
    plain, large = (serve(aws, [0.0], prewarmed=1, tmp_mb=size).records[0] for size in (512, 1536))
    assert plain.tmp_cost_usd == 0
    assert large.tmp_cost_usd == pytest.approx(large.billed_s * 3.09e-8)
    assert bill([large]).total_cost_usd == pytest.approx(bill([plain]).total_cost_usd + large.tmp_cost_usd)


def test_the_free_tier_goes_to_the_first_calls_and_is_off_by_default(aws: Platform) -> None:
    free = aws.changed(prices={"free_gb_s": 0.15, "free_invocations": 2})
    rows = serve(free, [0.0, 5.0, 10.0], work_s=0.1, prewarmed=1).records
    paid = serve(aws, [0.0, 5.0, 10.0], work_s=0.1, prewarmed=1).records
    assert [row.request_cost_usd for row in rows] == [0.0, 0.0, 2e-7]
    assert sum(row.billed_gb_s for row in rows) == pytest.approx(0.3)
    saved = sum(row.compute_cost_usd for row in paid) - sum(row.compute_cost_usd for row in rows)
    assert saved == pytest.approx(0.15 * 0.0000166667)


def test_provisioned_instances_are_never_cold_and_charged_by_five_minutes(aws: Platform) -> None:
    service = serve(aws, [0.0, 0.0, 2000.0, 2000.0, 2000.0], provisioned=2)
    assert [row.cold for row in service.records] == [False, False, False, False, True]
    service.charge_provisioned()
    kept = service.records[-1]
    assert kept.billed_s == 2100
    init_s = service.functions[kept.function].provisioned_init_s
    assert 0.1 < init_s < 0.4
    init_usd = math.ceil(init_s * 1000) / 1000 * 0.0000097222
    assert bill([kept]).standby_usd == pytest.approx(2 * 2100 * 0.0000041667 + init_usd)
    rates = [row.compute_cost_usd / row.billed_gb_s for row in service.records[:5]]
    assert rates == pytest.approx([0.0000097222] * 4 + [0.0000166667])


def test_pings_keep_an_instance_and_are_billed(aws: Platform) -> None:
    class EveryFiveMinutes:
        def arrived(self, service: LambdaService, function: Function) -> None:
            for k in range(1, 5):
                service.after(300.0 * k, lambda: service.ping(function))

    def rows(prewarming: Prewarming | None) -> list[Record]:
        service = LambdaService(simpy.Environment(), aws, prewarming=prewarming)
        service.deploy("f", 1024)
        for at in (0.0, 1400.0):
            service.after(at, lambda: service.invoke(Record(0, 0, "function", "f", 1024), (Sleep(0.1),)))
        service.env.run()
        return service.records

    alone, kept = rows(None), rows(EveryFiveMinutes())
    assert [row.cold for row in alone] == [True, True]
    assert [row.cold for row in kept if row.role == "function"] == [True, False]
    assert bill(kept).standby_usd > 0


def test_an_asynchronous_call_that_fails_is_tried_after_one_and_two_minutes(aws: Platform) -> None:
    service = LambdaService(simpy.Environment(), aws)
    ended: list[Record] = []
    service.invoke(Record(0, 0, "function", "f", 1024), (Sleep(0.1), Fail()), ended.append, queued=True)
    service.env.run()
    starts = [row.requested_s for row in service.records]
    assert [row.status for row in service.records] == ["failed"] * 3
    assert starts[1] - service.records[0].ended_s == pytest.approx(60)
    assert starts[2] - service.records[1].ended_s == pytest.approx(120)
    assert [row.attempt for row in ended] == [3]


def test_work_takes_what_the_vcpus_allow() -> None:
    aws = platform(load_profile("paper")).changed(compute={"jitter": Draws(1.0, np.random.default_rng(0))})

    def seconds(memory_mb: int, threads: int | None) -> float:
        service = LambdaService(simpy.Environment(), aws)
        service.invoke(Record(0, 0, "function", "f", memory_mb), (Compute(vcpu_s=1.0, threads=threads),))
        service.env.run()
        start, end = service.records[0].phases["compute"]
        return end - start

    assert seconds(884, 1) == pytest.approx(1769 / 884)
    assert seconds(3008, 1) == pytest.approx(1.0)  # one thread is no faster beyond one vCPU
    assert seconds(3008, None) == pytest.approx((1769 / 3008) ** 0.91)
    assert seconds(10240, None) == pytest.approx((1769 / 10240) ** 0.91)


def test_a_function_of_arm64_gets_one_of_two_processors_for_good() -> None:
    """Three in four instances are of the slower kind; on average work takes what the closed form says."""
    profile = load_profile("paper")
    start = profile.start.model_copy(update={"package": "python3.12-arm64-zip"})
    arm = platform(profile.model_copy(update={"start": start})).changed(compute={"jitter": fixed(1.0)})
    service, flops = LambdaService(simpy.Environment(), arm), 45e9
    service.deploy("f", 1769, warm=800)
    for at in [0.0] * 800 + [30.0] * 800:
        service.after(at, lambda: service.invoke(Record(0, 0, "f", "f", 1769), (Compute(flops=flops),)))
    service.env.run()
    took: dict[str, set[float]] = {}
    for row in service.records:
        start_s, end_s = row.phases["compute"]
        took.setdefault(row.instance, set()).add(round(end_s - start_s, 6))
    assert len(took) == 800
    assert all(len(seconds) == 1 for seconds in took.values()), "an instance keeps its processor"
    seconds = np.array([min(each) for each in took.values()])
    assert set(seconds) == {round(1 / 0.62, 6), round(1 / 1.07, 6)}
    closed_form_s = expert_seconds(profile.model_copy(update={"start": start}), [1769], 0.0, flops)[1][0]
    assert seconds.mean() == pytest.approx(closed_form_s, rel=0.03)


def test_one_function_of_arm64_on_an_x86_platform_is_slower() -> None:
    """Its instances are as fast over x86_64 as the profile says, whatever package the others have."""
    service = LambdaService(
        simpy.Environment(), platform(load_profile("paper")).changed(compute={"jitter": fixed(1.0)})
    )
    service.deploy("f", 1769, warm=1, package="python3.12-arm64-zip")
    service.invoke(Record(0, 0, "f", "f", 1769), (Compute(flops=45e9),))
    service.env.run()
    start_s, end_s = service.records[0].phases["compute"]
    assert min(abs(end_s - start_s - 1 / speed) for speed in (0.62, 1.07)) < 1e-9


def test_a_straggler_computes_slower_and_stays_so(aws: Platform) -> None:
    half = aws.changed(
        failures={"stragglers": Chances(0.5, np.random.default_rng(1)), "straggler_factor": 3.0},
        compute={"jitter": Draws(1.0, np.random.default_rng(0))},
    )
    service = LambdaService(simpy.Environment(), half)
    service.deploy("f", 1024, warm=20)
    for at in [0.0] * 20 + [10.0] * 20:
        service.after(at, lambda: service.invoke(Record(0, 0, "function", "f", 1024), (Compute(0.5),)))
    service.env.run()
    seconds: dict[str, set[float]] = {}
    for row in service.records:
        start, end = row.phases["compute"]
        seconds.setdefault(row.instance, set()).add(round(end - start, 6))
    assert all(len(found) == 1 for found in seconds.values())
    assert {next(iter(found)) for found in seconds.values()} == {0.5, 1.5}


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
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == []
