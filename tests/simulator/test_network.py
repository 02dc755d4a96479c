"""A function's bandwidth: if these fail, transfers take the wrong time and every bill with them."""

import numpy as np
import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from simulator.network import Link
from simulator.platform import LinkRates

BUCKET = LinkRates(function=200.0, connection=np.inf, burst_bytes=1000.0, sustained=50.0)


def ends(rates: LinkRates, transfers: list[tuple[float, float]]) -> list[float]:
    """When each (start, size) is through."""
    env = simpy.Environment()
    link = Link(env, rates)
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


@given(st.lists(st.floats(1, 900), min_size=1, max_size=10))
def test_a_stream_is_the_transfers_one_after_the_other(sizes: list[float]) -> None:
    env = simpy.Environment()
    streamed = Link(env, BUCKET).stream(0.0, np.array(sizes))
    one_by_one, link, now = [], Link(env, BUCKET), 0.0
    for size in sizes:
        now = link.alone(now, size)
        one_by_one.append(now)
    assert streamed == pytest.approx(np.array(one_by_one), rel=1e-9)
    assert streamed[-1] == pytest.approx(ends(BUCKET, [(0, sum(sizes))])[0], rel=1e-6)
