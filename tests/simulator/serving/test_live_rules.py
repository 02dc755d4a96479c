"""What live runs have and the paper leaves out: polling, payloads and uploads of small functions."""

import numpy as np
import pytest

from simulator.plan import Communication
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile
from simulator.profiles.walk import with_constant
from simulator.records import Record
from simulator.serving.layer import EAGER
from simulator.serving.simulate import simulate
from tests.simulator.serving.test_simulate import PROFILE, plan_of, routing, small_problem


def constant(value: float, unit: str) -> Constant:
    return Constant(value=value, unit=unit, source="test", date="2026", confidence="high")


def still() -> PlatformProfile:
    """The AWS profile without chance."""
    profile = PROFILE
    for path, unit in (
        (("start", "warm_s"), "s"),
        (("storage", "get_latency_s"), "s"),
        (("storage", "put_latency_s"), "s"),
        (("payload", "overhead_s"), "s"),
        (("compute", "jitter"), "1"),
    ):
        section = getattr(profile, path[0])
        profile = with_constant(profile, path, constant(getattr(section, path[1]).median, unit))
    return profile


@pytest.mark.parametrize("method", ["storage", "pipelined"])
def test_looking_costs_time_and_gets(method: Communication) -> None:
    """A user who polls S3 pays for it: in seconds that functions wait longer, and in GETs."""
    problem, profile = small_problem(), still()
    plan = plan_of(problem, method)
    told, looking = (
        simulate(problem, plan, profile, serving=EAGER, routing=routing(), poll_s=poll_s) for poll_s in (0.0, 0.5)
    )
    extra = looking.latency_s - told.latency_s
    layers = len(problem.layers)
    between = 0.5 + profile.storage.get_latency_s.median
    assert (extra > 0).all()
    assert (extra <= 2 * layers * between).all()  # at most one whole look for the inputs, one for the results
    gets = [sum(row.gets - row.exchange_gets for row in run.records) for run in (told, looking)]
    assert gets[1] > gets[0]
    waited = [row for row in looking.records if row.role == "non-moe" and "wait" in row.phases]
    for row in waited:
        start, end = row.phases["wait"]
        looks = (end - start) / between
        assert looks == pytest.approx(round(looks), abs=1e-6)


def test_payloads_of_one_function_share_what_its_memory_buys() -> None:
    """Without it, `direct` looks as if a small gate could send four large payloads in the time of one."""
    problem, profile = small_problem(4096), still()
    plan = plan_of(problem, "direct", replicas=1)
    per_mb = 1e7 / problem.layers[0].non_moe_memory_mb
    slow = with_constant(profile, ("payload", "bytes_per_s"), constant(1e9, "bytes/s"))
    slow = with_constant(slow, ("payload", "function_bytes_per_s_per_mb"), constant(per_mb, "bytes/s/MB"))
    run = simulate(problem, plan, slow, routing=[np.full((6, 4), 1024)])
    rows = [row for row in run.records if row.layer == 0]
    gate = next(row for row in rows if row.role == "non-moe")
    start, end = gate.phases["upload"][0], gate.phases["wait"][0]
    sent = 4096 * problem.layers[0].token_in_bytes * problem.platform.payload_encoding_factor
    assert end - start == pytest.approx(sent / 1e7 + profile.payload.overhead_s.median)
    expert = next(row for row in rows if row.role == "expert")
    answered = 1024 * problem.layers[0].token_out_bytes * problem.platform.payload_encoding_factor
    start, end = expert.phases["upload"]
    assert end - start == pytest.approx(answered / (per_mb * expert.memory_mb) + profile.payload.overhead_s.median)


def test_what_the_cpu_moves_does_not_overlap_with_its_compute() -> None:
    """On a platform where S3's client is CPU work, `pipelined` gains nothing, and must not look as if it did."""
    problem, profile = small_problem(4096), still()
    cpu = profile.model_copy(update={"network": profile.network.model_copy(update={"moved_by_cpu": True})})
    plan = plan_of(problem, "pipelined", replicas=1)
    rows = [
        next(
            row
            for row in simulate(problem, plan, used, routing=[np.full((6, 4), 1024)]).records
            if row.role == "expert"
        )
        for used in (profile, cpu)
    ]
    uploads = 1024 // 32
    rate = min(rows[0].memory_mb * profile.network.function_bytes_per_s_per_mb.median, 93e6)
    upload_s = profile.storage.put_latency_s.median + 32 * problem.layers[0].token_out_bytes / rate
    layer, j = problem.layers[0], problem.platform.memory_mb.index(rows[0].memory_mb)
    assert layer.seconds_per_call is not None
    step_s = layer.seconds_per_call[j] + 32 * layer.seconds_per_token[j]
    get_s = profile.storage.get_latency_s.median + 32 * layer.token_in_bytes / rate
    lost_s = (uploads - 1) * (step_s + get_s + upload_s - max(step_s + get_s, upload_s))
    assert rows[1].billed_s - rows[0].billed_s == pytest.approx(lost_s, rel=0.02)


@pytest.mark.parametrize("method", ["storage", "pipelined"])
def test_small_functions_pay_for_their_requests(method: Communication) -> None:
    """A client's work for a request is the function's own vCPU's: with half of one it takes twice as long."""
    problem, profile, work_s = small_problem(4096), still(), 0.004
    working = profile
    for name in ("get_vcpu_s", "put_vcpu_s"):
        working = with_constant(working, ("storage", name), constant(work_s, "s"))
    plan = plan_of(problem, method, memory_mb=768, replicas=1)
    without, paid = (
        next(
            row
            for row in simulate(problem, plan, used, routing=[np.full((6, 4), 1024)]).records
            if row.role == "expert"
        )
        for used in (profile, working)
    )
    each_s = work_s / (768 / profile.compute.mb_per_vcpu.median)
    extra_s = paid.phases["parameter_download"][1] - paid.phases["parameter_download"][0]
    extra_s -= without.phases["parameter_download"][1] - without.phases["parameter_download"][0]
    assert extra_s == pytest.approx(each_s)
    if method == "storage":
        first, last = "input_download", "upload"
        assert _ended(paid, last) - _began(paid, first) - (
            _ended(without, last) - _began(without, first)
        ) == pytest.approx(2 * each_s)
    else:
        assert paid.billed_s - without.billed_s > 1024 // 32 * each_s


def _began(row: Record, phase: str) -> float:
    return row.phases[phase][0]


def _ended(row: Record, phase: str) -> float:
    return row.phases[phase][1]


def test_uploads_may_be_slower_than_downloads() -> None:
    """A function that signs and hashes what it uploads is slower out than in."""
    problem, profile = small_problem(4096), still()
    plan = plan_of(problem, "storage", replicas=1)
    slow = with_constant(
        profile, ("network", "function_upload_bytes_per_s_per_mb"), constant(1000.0, "bytes/s/MB")
    )
    for phase, slower in (("input_download", False), ("upload", True)):
        took = []
        for used in (profile, slow):
            run = simulate(problem, plan, used, routing=[np.full((6, 4), 1024)])
            row = next(row for row in run.records if row.role == "expert")
            took.append(row.phases[phase][1] - row.phases[phase][0])
        assert (took[1] > 1.5 * took[0]) == slower
