"""S3: if these fail, requests are refused, tried again or billed wrongly."""

import contextlib

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from moe.errors import InputError
from moe.files import validated
from simulator.cloud.call import Phase
from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.platform import Platform, platform_of_profile
from simulator.cloud.storage import RequestLimit, Requests, Storage, StorageError
from simulator.cloud.transfers import Get, Pipeline, Put, Ready
from simulator.draws import Chances, Draws, Retries
from simulator.profiles.closed_form import closed_form
from simulator.profiles.constant import Constant
from simulator.profiles.schema import PlatformProfile, load_profile
from simulator.records import Record

MB = 2**20


def changed(profile: PlatformProfile, **storage: object) -> PlatformProfile:
    """A profile with other constants of storage."""
    values = {
        name: getattr(profile.storage, name).model_copy(update={"value": value})
        if isinstance(getattr(profile.storage, name), Constant)
        else value
        for name, value in storage.items()
    }
    return profile.model_copy(update={"storage": profile.storage.model_copy(update=values)})


def platform(seed: int = 1, attempts: int = 3, **storage: object) -> Platform:
    aws = platform_of_profile(changed(load_profile("paper"), **storage), None, np.random.default_rng(seed))
    for requests in (aws.storage.gets, aws.storage.puts):
        assert requests.retries is not None
        requests.retries.attempts = attempts
    return aws


def serve(aws: Platform, *phases: Phase) -> LambdaService:
    """Calls of one phase that start at once, each on a warm instance of one function."""
    service = LambdaService(simpy.Environment(), aws)
    service.deploy("f", 3008, warm=len(phases))
    for phase in phases:
        record = Record(batch=0, layer=0, role="expert", function="f", memory_mb=3008)
        service.invoke(record, (phase,), repeatable=False)
    service.env.run()
    return service


def most_in_a_second(times: list[float]) -> int:
    """Requests in the fullest second."""
    at = np.sort(times)
    return int((np.searchsorted(at, at + 1.0, side="left") - np.arange(len(at))).max()) if times else 0


@given(st.lists(st.floats(0, 6), max_size=150), st.integers(1, 20))
def test_a_prefix_never_serves_more_than_its_limit_in_a_second(times: list[float], per_s: int) -> None:
    limit = RequestLimit(per_s)
    served = [t for t in times if limit.admits(t)]
    assert most_in_a_second(served) <= per_s
    for t in set(times) - set(served):  # and refuses none that it could have served
        assert most_in_a_second([*served, t]) > per_s


@given(st.lists(st.tuples(st.floats(0, 4), st.integers(1, 12)), max_size=30), st.integers(1, 20))
def test_requests_at_once_and_one_by_one_obey_the_same_limit(rows: list[tuple[float, int]], per_s: int) -> None:
    limit, served = RequestLimit(per_s), []
    for at, count in rows:
        if limit.admits_all(at, count):
            served += [at] * count
        else:
            served += [at for _ in range(count) if limit.admits(at)]
    assert most_in_a_second(served) <= per_s


def test_a_limit_forgets_the_past_and_nothing_else() -> None:
    limit = RequestLimit(2)
    assert [limit.admits(t) for t in (99.5, 99.6, 99.7)] == [True, True, False]
    limit.forget(100.0)
    assert [limit.admits(t) for t in (100.4, 100.55, 100.61)] == [False, True, True]
    limit.forget(1000.0)
    assert limit._served == {}


@given(st.integers(1, 400), st.integers(5, 60), st.floats(0, 0.5), st.integers(0, 9))
def test_requests_are_billed_or_refused(count: int, per_s: int, error: float, seed: int) -> None:
    sent = 0

    class Counting(Draws):
        def next(self) -> float:
            nonlocal sent
            sent += 1
            return super().next()

    first, second, third = np.random.default_rng(seed).spawn(3)
    latency = Counting({0.5: 0.02, 0.99: 0.09}, first)
    requests = Requests(latency, RequestLimit(per_s), Chances(error, second), Retries(3, 1.0, 20.0, third))
    waits = None
    with contextlib.suppress(StorageError):
        waits = requests.many(np.zeros(count), np.zeros(count))
    if waits is None:
        assert requests.refused >= 3
    else:
        assert requests.served == count
        assert (waits > 0).all()
        assert waits.max() < 3 * 0.2 + 1 + 2
    assert sent == requests.served + requests.refused
    assert requests.served <= count


def test_without_limits_and_errors_a_request_is_its_latency() -> None:
    requests = Requests(Draws(0.03, np.random.default_rng(0)))
    assert requests.many(np.zeros(4), np.zeros(4)).tolist() == [0.03] * 4
    assert requests.one(5.0) == 0.03
    assert (requests.served, requests.refused) == (5, 0)


def test_a_refused_get_is_tried_again_counted_and_not_billed() -> None:
    aws = platform(attempts=9, get_limit_per_s=50.0)
    row = serve(aws, Get([1000.0] * 80, "gather")).records[0]
    assert row.status == "ok"
    assert row.gets == 80
    assert row.refused == aws.storage.gets.refused >= 30
    assert row.request_cost_usd == pytest.approx(2e-7 + 80 * 4e-7)
    assert row.ended_s - row.started_s > 0.9  # the last of 80 is served in the next second


def test_a_transfer_that_is_refused_too_often_fails_its_attempt() -> None:
    for phase in (
        Get([1000.0] * 50, "gather"),
        Put([1000.0] * 50),
        Pipeline(Ready(np.zeros(50)), np.ones(50), 0.0, 0.001, 1000, 1000),
    ):
        aws = platform(error=0.6)
        row = serve(aws, phase).records[0]
        assert row.status == "s3-error"
        assert row.refused >= 3
        assert row.gets + row.puts == aws.storage.gets.served + aws.storage.puts.served
        assert row.billed_s > 0  # until the caller gave up


def test_functions_share_the_limit_of_a_prefix() -> None:
    get = Get([1000.0] * 40, "gather")

    def refused(prefixes: float) -> int:
        aws = platform(get_limit_per_s=100.0, prefixes=prefixes)
        return sum(row.refused for row in serve(aws, *[get] * 4).records)

    assert refused(1.0) > 0
    assert refused(2.0) == 0


def test_a_pipeline_counts_what_it_asks_for() -> None:
    pipeline = Pipeline(Ready(np.zeros(300)), np.full(300, 8.0), 0.0, 1e-6, 3072, 3072)
    aws = platform(attempts=20, get_limit_per_s=5.0, put_limit_per_s=5.0)
    row = serve(aws, pipeline).records[0]
    assert row.status == "ok"
    assert (row.gets, row.puts) == (row.exchange_gets, row.exchange_puts) == (300, 300)
    assert row.refused > 0
    assert row.ended_s - row.started_s >= 299 / 5 - 1


@pytest.mark.parametrize("limit", [20.0, 5500.0])
def test_the_same_seed_gives_the_same_transfers(limit: float) -> None:
    rows = [
        serve(platform(seed, get_limit_per_s=limit), Get([5e5] * 30, "gather")).records[0] for seed in (3, 3, 4)
    ]
    assert rows[0] == rows[1]
    assert rows[0].ended_s != rows[2].ended_s


def constant_latency(aws: Platform) -> Platform:
    """The platform with a GET of 20 ms and a PUT of 40 ms."""
    unused = np.random.default_rng(0)
    gets, puts = Requests(Draws(0.02, unused)), Requests(Draws(0.04, unused))
    return aws.changed(storage={"gets": gets, "puts": puts})


def test_an_object_in_parts_uses_several_connections_and_as_many_requests() -> None:
    size = 40 * MB
    whole, parted = (
        serve(constant_latency(platform(parts=parts)), Get([size], "parameter_download")).records[0]
        for parts in (1.0, 4.0)
    )
    assert (whole.gets, parted.gets) == (1, 4)
    assert whole.bytes_in == parted.bytes_in == size
    assert whole.ended_s - whole.started_s == pytest.approx(0.02 + size / 93e6)
    assert parted.ended_s - parted.started_s == pytest.approx(0.02 + size / (3008 * 71500))


def test_an_upload_in_parts_is_created_and_completed() -> None:
    row = serve(constant_latency(platform(parts=4.0)), Put([40 * MB, 1 * MB])).records[0]
    assert row.puts == 4 + 2 + 1
    slowest = 0.04 + (41 * MB) / (3008 * 71500)  # five connections fill the function's link until the last byte
    assert row.ended_s - row.started_s == pytest.approx(0.04 + slowest + 0.04, rel=0.02)
    assert row.bytes_out == 41 * MB


@given(st.lists(st.floats(1.0, 300 * MB), min_size=1, max_size=20), st.integers(1, 16))
def test_parts_are_the_whole_object(sizes: list[float], parts: int) -> None:
    none = Requests(Draws(0.0, np.random.default_rng(0)))
    found, several = Storage(none, none, parts, 5 * MB).parts_of(sizes)
    assert found.sum() == pytest.approx(sum(sizes), rel=1e-12)
    assert len(sizes) <= len(found) <= parts * len(sizes)
    assert several == sum(parts > 1 and size >= 10 * MB for size in sizes)
    assert min(found) >= min([5 * MB, *sizes]) * (1 - 1e-12)


def test_express_is_faster_and_charges_bytes() -> None:
    express = changed(load_profile(), storage_class="express")
    assert closed_form(express, [1769]).storage_delay_s == pytest.approx((0.0048 + 0.0073) / 2)
    aws = platform(storage_class="express")
    assert aws.prices.put == pytest.approx(1.13e-6)
    row = serve(aws, Put([2.0**30], exchange=True)).records[0]
    assert row.request_cost_usd == pytest.approx(2e-7 + 1.13e-6 + 0.0032)
    assert row.exchange_cost_usd == pytest.approx(1.13e-6 + 0.0032)
    draws = np.sort(aws.storage.gets.latency.many(20_000))
    assert draws[10_000] == pytest.approx(0.0048, rel=0.02)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("parts", 0.0, "storage.parts: value: expected a number >= 1, got 0"),
        ("get_limit_per_s", 0.5, "storage.get_limit_per_s: value: expected a number >= 1, got 0.5"),
        ("error", 1.5, "storage.error: value: expected a number from 0 to 1, got 1.5"),
        ("prefixes", 0.0, "storage.prefixes: value: expected a number >= 1, got 0"),
    ],
)
def test_an_impossible_constant_is_refused_with_its_name(name: str, value: float, message: str) -> None:
    data = load_profile().model_dump(by_alias=True)
    data["storage"][name]["value"] = value
    with pytest.raises(InputError) as caught:
        validated(PlatformProfile, data, "mine.yaml")
    assert message in str(caught.value)


def test_a_storage_class_that_does_not_exist_names_the_nearest() -> None:
    data = load_profile().model_dump(by_alias=True)
    data["storage"]["storage_class"] = "expres"
    with pytest.raises(InputError, match="did you mean 'express'"):
        validated(PlatformProfile, data, "mine.yaml")
