"""A function's bandwidth: if these fail, transfers take the wrong time and every bill with them."""

import dataclasses

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cloud.lambda_service import LambdaService
from simulator.cloud.network import Link, LinkRates
from simulator.cloud.platform import platform_of_profile
from simulator.profiles.schema import load_profile
from tests.simulator.cloud.processor_sharing import SharedLink

BUCKET = LinkRates(function=200.0, connection=np.inf, burst_bytes=1000.0, sustained=50.0)


def ends(rates: LinkRates, transfers: list[tuple[float, float]]) -> list[float]:
    """When each (start, size) is through."""
    env = simpy.Environment()
    link = SharedLink(env, rates)
    found = [0.0] * len(transfers)

    def move(k: int, start: float, size: float):  # type: ignore[no-untyped-def]
        yield env.timeout(start)
        yield link.transfer(size)
        found[k] = env.now

    for k, (start, size) in enumerate(transfers):
        env.process(move(k, start, size))
    env.run()
    return found


def test_two_transfers_share_the_link() -> None:
    # 100 B/s: both get 50 until the small one is through at 2 s; the large one then has 300 - 100 left.
    assert ends(LinkRates(100.0), [(0, 100), (0, 300)]) == pytest.approx([2.0, 4.0])


def test_a_late_transfer_takes_its_share() -> None:
    assert ends(LinkRates(100.0), [(0, 200), (1, 50)]) == pytest.approx([2.5, 2.0])


def test_a_connection_has_its_own_limit() -> None:
    assert ends(LinkRates(100.0, connection=20.0), [(0, 100), (0, 40)]) == pytest.approx([5.0, 2.0])


def test_the_bucket_runs_dry_and_the_sustained_rate_stays() -> None:
    # 200 B/s while 1000 tokens drain at 150/s: 6.67 s and 1333 bytes; the other 667 bytes at 50 B/s.
    assert ends(BUCKET, [(0, 2000)]) == pytest.approx([1000 / 150 + (2000 - 200 * 1000 / 150) / 50])


def test_an_idle_bucket_refills() -> None:
    first, second = ends(BUCKET, [(0, 1000 / 150 * 200), (1000 / 150 + 10, 200)])
    assert first == pytest.approx(1000 / 150)
    assert second - (1000 / 150 + 10) == pytest.approx(1.0)  # 500 tokens are back: 200 bytes at the full rate


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(1, 500)), min_size=1, max_size=12))
def test_no_byte_is_lost_and_none_is_faster_than_the_link(transfers: list[tuple[float, float]]) -> None:
    found = ends(LinkRates(100.0), transfers)
    for (start, size), end in zip(transfers, found, strict=True):
        assert end - start >= size / 100.0 - 1e-6
    if all(start == 0 for start, _ in transfers):
        assert max(found) == pytest.approx(sum(size for _, size in transfers) / 100.0)


LINKS = st.builds(
    LinkRates,
    function=st.floats(5e6, 1.2e9),
    connection=st.one_of(st.just(np.inf), st.floats(5e6, 2e8)),
    burst_bytes=st.one_of(st.just(np.inf), st.floats(1e6, 4e8)),
    sustained=st.floats(5e6, 3e8),
)
OBJECTS = st.lists(
    st.tuples(st.one_of(st.just(0.02), st.floats(0.01, 3.0)), st.floats(1e3, 6e7)), min_size=1, max_size=40
)


def columns(transfers: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Starts and sizes."""
    starts, sizes = zip(*transfers, strict=True)
    return np.array(starts), np.array(sizes)


def idle_link(rates: LinkRates) -> Link:
    return Link(rates, 0.0)


@given(LINKS, OBJECTS)
@settings(max_examples=300)
def test_a_batch_is_what_the_events_make_of_it(rates: LinkRates, transfers: list[tuple[float, float]]) -> None:
    link = idle_link(rates)
    found = link.batch(*columns(transfers))
    assert found == pytest.approx(np.array(ends(rates, transfers)), rel=1e-9)
    assert link.bytes_moved == pytest.approx(sum(size for _, size in transfers))
    assert (
        found - columns(transfers)[0] >= columns(transfers)[1] / min(rates.function, rates.connection) - 1e-9
    ).all()


@given(LINKS, OBJECTS, OBJECTS)
@settings(max_examples=100)
def test_a_second_batch_meets_the_bucket_that_the_first_left(
    rates: LinkRates, first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    starts, sizes = columns(second)
    link = idle_link(rates)
    later = link.batch(*columns(first)).max() + 0.5 + starts
    found = link.batch(later, sizes)
    both = ends(rates, [*first, *zip(later.tolist(), sizes.tolist(), strict=True)])
    assert found == pytest.approx(np.array(both[len(first) :]), rel=1e-9)


@given(LINKS, st.lists(st.tuples(st.floats(0, 2), st.floats(1e3, 6e7)), min_size=1, max_size=12))
def test_one_object_after_the_other_is_what_the_events_make_of_it(
    rates: LinkRates, pauses_and_sizes: list[tuple[float, float]]
) -> None:
    link, now, transfers, found = idle_link(rates), 0.01, [], []
    for pause, size in pauses_and_sizes:
        transfers.append((now + pause, size))
        now = link.alone(now + pause, size)
        found.append(now)
    assert found == pytest.approx(ends(rates, transfers), rel=1e-9)


@given(LINKS, st.lists(st.floats(1e3, 6e7), min_size=1, max_size=10))
def test_a_stream_is_one_object_after_the_other_over_as_many_connections_as_it_takes(
    rates: LinkRates, sizes: list[float]
) -> None:
    rates = dataclasses.replace(rates, connection=np.inf)
    stream, link, now, one_by_one = idle_link(rates), idle_link(rates), 0.0, []
    for size in sizes:
        now = link.alone(now, size)
        one_by_one.append(now)
    assert stream.stream(0.0, np.array(sizes)) == pytest.approx(np.array(one_by_one), rel=1e-9)
    assert now == pytest.approx(ends(rates, [(0, sum(sizes))])[0], rel=1e-9)
    # and both leave the same bucket behind
    assert stream.alone(now + 0.1, 1e8) == pytest.approx(link.alone(now + 0.1, 1e8), rel=1e-9)


@given(LINKS, st.integers(1, 8))
def test_the_mean_rate_of_a_long_busy_time_tends_to_the_sustained_rate(rates: LinkRates, connections: int) -> None:
    rates = dataclasses.replace(rates, connection=np.inf)
    size = 1e12 / connections
    end = idle_link(rates).batch(np.zeros(connections), np.full(connections, size)).max()
    lasting = min(rates.function, rates.sustained if rates.burst_bytes < np.inf else np.inf)
    assert 1e12 / end == pytest.approx(lasting, rel=2e-3)


@given(LINKS, OBJECTS)
def test_no_time_span_carries_more_than_burst_and_sustained(
    rates: LinkRates, transfers: list[tuple[float, float]]
) -> None:
    starts, sizes = columns(transfers)
    seconds = idle_link(rates).batch(starts, sizes).max() - starts.min()
    most = min(rates.function * seconds, rates.burst_bytes + rates.sustained * seconds)
    assert sizes.sum() <= most * (1 + 1e-9) + 1e-3


def test_in_and_out_have_buckets_of_their_own() -> None:
    aws = platform_of_profile(load_profile("paper"), None, np.random.default_rng(0))
    service = LambdaService(simpy.Environment(), aws)
    instance = service.deploy("f", 3008, warm=1).idle[0]
    emptied = instance.inbound.alone(0.0, 2e9)
    rate = min(aws.network.rates(3008).connection, aws.network.rates(3008).function)
    assert instance.outbound.alone(emptied, 1e8) - emptied == pytest.approx(1e8 / rate)
    assert instance.inbound.alone(emptied, 1e8) - emptied == pytest.approx(1e8 / 78e6)
