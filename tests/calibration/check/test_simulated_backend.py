"""The simulator behind the probe's protocol: if these fail, a campaign on it measures another platform."""

import math

import pytest

from calibration.check.simulated_backend import SimulatedBackend
from lambda_probe.account.calls import Attempt
from lambda_probe.campaign.backend import Backend, ProbeFunction, ProbePackage
from lambda_probe.campaign.measurements import Measured, row_of
from lambda_probe.campaign.works import (
    ExpertPass,
    GetObjects,
    Multiply,
    Nothing,
    PutObjects,
    Send,
    Wait,
    Work,
    answer_of,
)
from moe.errors import InputError
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.profiles.walk import constant_at, with_constant

SMALL = ProbePackage("python3.12-x86_64-zip")


def still(**values: float) -> PlatformProfile:
    """The packaged profile without randomness in what these tests look at; other constants by their names."""
    profile = load_profile("paper")
    chosen = {
        "start/warm_s": 0.01,
        "payload/overhead_s": 0.02,
        "storage/get_latency_s": 0.03,
        "storage/put_latency_s": 0.04,
        "compute/jitter": 1.0,
        f"start/packages/{SMALL.name}/init_s": 0.1,
        **values,
    }
    for name, value in chosen.items():
        path = name.split("/")
        constant = constant_at(profile, path).model_copy(update={"value": value})
        profile = with_constant(profile, path, constant)
    return profile


def backend(profile: PlatformProfile | None = None, memory_mb: int = 1769) -> SimulatedBackend:
    """With the functions `a`, which has a warm instance, and `b`."""
    made = SimulatedBackend(profile or still(), seed=1)
    for name in ("a", "b"):
        made.create(ProbeFunction(name, memory_mb, SMALL))
        made.call(name, Nothing())
    return made


def one(made: Backend, work: Work) -> Attempt:
    (attempt,) = made.call("a", work)
    return attempt


@pytest.mark.parametrize(
    ("work", "expected_s"),
    [
        (Multiply(45e9, threads=1, repeats=2), 1.0),
        (Multiply(45e9, threads=2), 1.0),  # two threads share one vCPU
        (ExpertPass(1000, passes=7), 2 * 768 * 3072 * 4 / 8e9 + 1000 * 4 * 768 * 3072 / 45e9),
        (GetObjects(1024, repeats=3), 0.03 + 1024 / 93e6),
        (GetObjects(80_000_000), 0.03 + 80e6 / 93e6),
        (GetObjects(80_000_000, connections=4), 0.03 + 80e6 / (0.0715e6 * 1769)),
        (PutObjects(20_000_000, connections=2), 3 * 0.04 + 20e6 / (0.0715e6 * 1769)),
        (Send("b", 3_000_000, repeats=2), 0.02 + 4e6 / 37e6),
        (Send("b", 1, answer_bytes=3_000_000), 0.02 + 4 / 3 / 37e6 + 0.02 + 4e6 / 37e6),
        (Wait(2.5), 2.5),
        (Nothing(), 0.0),
    ],
)
def test_a_work_takes_what_the_profile_says(work: Work, expected_s: float) -> None:
    attempt = one(backend(), work)
    answer = answer_of(attempt.answer)
    assert answer.seconds == pytest.approx([expected_s] * getattr(work, "repeats", 1), rel=1e-6)
    assert attempt.client_s == pytest.approx(0.01 + sum(answer.seconds) * getattr(work, "passes", 1), rel=1e-6)
    assert attempt.report is not None
    assert attempt.report.duration_ms == pytest.approx(1000 * (attempt.client_s - 0.01), abs=0.0051)
    assert attempt.report.billed_ms == math.ceil(round(1000 * (attempt.client_s - 0.01), 6))


def test_a_forgotten_instance_starts_again_and_pays_for_its_init() -> None:
    made = backend()
    made.forget("a")
    cold, warm = one(made, Nothing()), one(made, Nothing())
    assert (answer_of(cold.answer).first, answer_of(warm.answer).first) == (True, False)
    assert cold.client_s == pytest.approx(0.01 + 0.155 + 0.1)
    assert cold.report is not None
    assert (cold.report.init_ms, cold.report.billed_ms) == (100.0, 100.0)
    assert warm.report is not None
    assert (warm.report.init_ms, warm.report.billed_ms) == (None, 0.0)


def test_a_rule_of_the_profile_is_billed_not_todays() -> None:
    before = still()
    prices = before.prices.model_copy(update={"date": before.prices.date.replace(year=2019)})
    made = backend(before.model_copy(update={"prices": prices}))
    made.forget("a")
    report = one(made, Wait(0.25)).report
    assert report is not None
    assert (report.billed_ms, report.init_ms) == (300.0, 100.0)  # steps of 100 ms, INIT free


def test_a_large_package_is_fetched() -> None:
    made = SimulatedBackend(still(), seed=1)
    made.create(ProbeFunction("a", 1769, ProbePackage(SMALL.name, padding_bytes=88_000_000)))
    assert one(made, Nothing()).client_s == pytest.approx(0.01 + 0.155 + 0.2 + 0.1)


def test_idle_instances_expire_while_time_passes() -> None:
    made = backend(still(**{"start/keep_alive_s": 300.0}))
    made.rest(299.0)
    assert not answer_of(one(made, Nothing()).answer).first
    made.rest(301.0)
    assert answer_of(one(made, Nothing()).answer).first
    assert made.now_s() == pytest.approx(600, abs=2)


def test_calls_at_once_beyond_the_account_are_throttled_and_not_repeated() -> None:
    made = backend(still(**{"concurrency/account": 5.0}))
    outcomes = [attempts[0].status for attempts in made.call_at_once(["a"] * 4 + ["b"] * 4, Wait(1.0))]
    assert sorted(outcomes) == ["ok"] * 5 + ["throttled"] * 3


def test_failures_have_the_statuses_of_real_calls() -> None:
    made = backend()
    too_large = one(made, Send("b", 6_000_000))
    assert (too_large.status, too_large.error) == (
        "handler-error",
        "upstream-failed, simulated; b: payload-too-large",
    )
    late = one(made, Wait(121.0))
    assert late.status == "timeout"
    assert late.report is not None
    assert (late.report.status, late.report.billed_ms) == ("timeout", 120_000.0)


def test_the_same_seed_measures_the_same() -> None:
    first, second = (backend(load_profile("paper")) for _ in range(2))
    for work in (GetObjects(1024, repeats=5), ExpertPass(10), Send("b", 1024)):
        assert one(first, work) == one(second, work)


def test_an_attempt_becomes_a_row_of_the_measurement_table() -> None:
    made = backend()
    function = ProbeFunction("a", 1769, SMALL)
    work = GetObjects(1024, repeats=3)
    row = row_of(Measured(2, "get", function, work, one(made, work)), made.facts, made.prices, 0.0)
    assert (row["run"], row["gets"], row["status"], row["cores"], row["backend"]) == (2, 3, "ok", 2, "simulated")
    assert row["seconds"] == pytest.approx([0.03 + 1024 / 93e6] * 3)
    assert row["compute_cost_usd"] == pytest.approx(0.091 * 1769 / 1024 * 0.0000166667)


def test_what_is_not_there_is_named() -> None:
    made = backend()
    with pytest.raises(InputError, match="no function 'c'"):
        made.call("c", Nothing())
    with pytest.raises(InputError, match=r"no package .*zap.*python3\.12-x86_64-zip"):
        made.create(ProbeFunction("c", 128, ProbePackage("python3.12-x86_64-zap")))
    made.delete("b")
    with pytest.raises(InputError, match="no function 'b'"):
        one(made, Send("b", 1))
