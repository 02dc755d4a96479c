"""Arrival processes against their analytic means: if these fail, every traffic result answers another question."""

from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from simulator.traffic.arrivals import MMPP, Diurnal, Poisson, Trace, limited
from simulator.traffic.trace_file import read_trace


def times_of(process: Poisson | MMPP | Diurnal | Trace, duration_s: float, seed: int = 1) -> np.ndarray:
    blocks = process.blocks(np.random.default_rng(seed))
    return np.concatenate(list(limited(blocks, duration_s, None)))


def dispersion(times: np.ndarray, duration_s: float, window_s: float) -> float:
    counts = np.histogram(times, np.arange(0, duration_s + window_s / 2, window_s))[0]
    return float(counts.var() / counts.mean())


def test_poisson_has_its_rate_and_no_bursts() -> None:
    times = times_of(Poisson(rate_per_s=50), 2000)
    assert len(times) == pytest.approx(50 * 2000, rel=0.015)
    assert (np.diff(times) >= 0).all()
    assert dispersion(times, 2000, 5.0) == pytest.approx(1.0, abs=0.2)


def test_mmpp_has_its_mean_rate_and_the_dispersion_of_its_bursts() -> None:
    process = MMPP(rates_per_s=(2, 40), mean_sojourns_s=(8, 2))
    assert process.mean_rate_per_s == pytest.approx(9.6)
    times = times_of(process, 60_000)
    assert len(times) == pytest.approx(9.6 * 60_000, rel=0.03)
    assert (np.diff(times) >= 0).all()
    assert dispersion(times, 60_000, 200.0) == pytest.approx(process.limit_of_dispersion, rel=0.2)
    assert process.limit_of_dispersion > 50


def test_diurnal_has_its_rate_at_every_hour() -> None:
    process = Diurnal(mean_rate_per_s=20, peak_to_mean=1.8, period_s=100)
    times = times_of(process, 20_000)
    assert len(times) == pytest.approx(20 * 20_000, rel=0.01)
    counts = np.histogram(times % 100, np.linspace(0, 100, 21))[0] / (20_000 / 100) / 5
    assert counts == pytest.approx(process.rate_at(np.arange(2.5, 100, 5)), rel=0.08)
    assert counts.max() / counts.mean() == pytest.approx(1.8, rel=0.03)


@pytest.mark.parametrize("process", [Poisson(rate_per_s=5), MMPP(rates_per_s=(1, 30), mean_sojourns_s=(4, 1))])
def test_the_number_of_requests_is_kept(process: Poisson | MMPP) -> None:
    blocks = limited(process.blocks(np.random.default_rng(2)), None, 10_001)
    assert sum(len(block) for block in blocks) == 10_001
    assert sum(len(b) for b in limited(process.blocks(np.random.default_rng(2)), 1e9, 10_001)) == 10_001


def test_a_trace_comes_back_as_it_was_written(tmp_path: Path) -> None:
    times = times_of(Poisson(rate_per_s=5), 200)
    text, table = tmp_path / "times.txt", tmp_path / "times.csv"
    text.write_text("\n".join(map(repr, times.tolist())))
    table.write_text("time_s,what\n" + "".join(f"{t!r},x\n" for t in times.tolist()))
    for file in (text, table):
        assert (times_of(Trace(file=str(file)), 1e6) == times).all()
        Trace(file=str(file), rate_per_s=5).check(200)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected arrival times in seconds, one a line, got none"),
        ("0\n2\n1\n", "line 3: expected sorted times, got 1 after 2"),
        ("time_ms\n0\n5\n", "expected seconds, got the column 'time_ms'"),
        ("0\n1\nsoon\n", "line 3: expected a time in seconds, got 'soon'"),
        ("0\nnan\n", "line 2: expected a time in seconds, got 'nan'"),
        ("time_s\n0\n1\n\n3\n", "line 4: expected a time, got an empty line"),
        ("-1\n0\n", "expected seconds from 0 on, got -1"),
        ("1700000000\n1700000001\n", "expected seconds from 0 on, got 1700000001"),
    ],
)
def test_a_bad_trace_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "times.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as refused:
        read_trace(file)
    assert "times.txt" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_trace_in_milliseconds_is_refused_and_the_same_in_seconds_is_not(tmp_path: Path) -> None:
    times = times_of(Poisson(rate_per_s=5), 60)
    seconds, milliseconds = tmp_path / "s.txt", tmp_path / "ms.txt"
    seconds.write_text("\n".join(map(str, times)))
    milliseconds.write_text("\n".join(map(str, times * 1000)))
    for trace, duration_s in (
        (Trace(file=str(milliseconds)), 60.0),
        (Trace(file=str(milliseconds), rate_per_s=5), None),
    ):
        with pytest.raises(InputError, match="looks like milliseconds"):
            trace.check(duration_s)
    for rate in (None, 5.0):
        Trace(file=str(seconds), rate_per_s=rate).check(10.0)


def test_the_same_seed_gives_the_same_arrivals_and_another_one_does_not() -> None:
    process = MMPP(rates_per_s=(1, 30), mean_sojourns_s=(4, 1))
    first, again, other = (times_of(process, 500, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert not np.array_equal(first, other)
