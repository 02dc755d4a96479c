"""Arrivals out of others' files: a column, unit or row taken for another is a bill of another traffic, exit 0."""

from pathlib import Path

import numpy as np
import pytest

from moe.errors import InputError
from simulator.traffic.arrivals import Trace
from simulator.traffic.trace_file import Unit, read_trace

TIMES = [0.5, 1.0, 2.25]


def written(folder: Path, text: str) -> Path:
    file = folder / "times.csv"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        "0.5\n1.0\n2.25\n\n\n",
        "\ufeff0.5\n1.0\n2.25\n",
        "\ufeffarrival_s\n0.5\n1.0\n2.25\n",
        "first_of_tokens\n0.5\n1\n2.25\n",
        ",arrival_s\n0,0.5\n1,1\n2,2.25\n",
        "request_id,arrival_timestamp\n7,0.5\n8,1\n9,2.25\n",
        "Timestamp,Model,Request tokens\n0.5,ChatGPT,266\n1,ChatGPT,1\n2.25,GPT-4,5\n",
        "start_timestamp,arrived_at,end_timestamp\n3,0.5,3\n4,1,4\n5,2.25,5\n",
        "app,time,duration,inter_arrival_time\na,0.5,1,3\nb,1,1,3\nc,2.25,1,3\n",
        "request,seconds\na,0.5\nb,1\nc,2.25\n",
        '"time [s]"\r\n"0.5"\r\n" 1 "\r\n2.25\r\n',
    ],
)
def test_the_column_of_times_is_known_by_its_name(tmp_path: Path, text: str) -> None:
    """An index or a request's number is not played as seconds; a mark of byte order takes no row."""
    assert read_trace(written(tmp_path, text)).tolist() == TIMES


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,0.5\n1,1\n", "line 1: expected one time a line, or a header line that names the columns, got 2 cells"),
        ("12,345\n13,5\n", r"got 2 cells \(a decimal comma\?\)"),
        ("0,ChatGPT\n1,ChatGPT\n", "line 1: expected one time a line, or a header"),
        ("arrival_s\n0,5\n1,25\n", r"line 2: expected 1 cells, as above, got 2 \(a decimal comma\?\)"),
        ('arrival_s\n"0,5"\n', "line 2: expected a time in seconds, got '0,5'"),
        (
            "id,value\n0,1\n",
            "one column of arrival times, got none that says so among 'id', 'value'; say",
        ),
        ("request_id\n0\n1\n", "got none that says so among 'request_id'; say which: column: NAME"),
        ("interarrival_s\n0\n1\n", "got none that says so among 'interarrival_s'"),
        ("start_time,time\n0,1\n", "got several that may be 'start_time', 'time'; say which: column: NAME"),
        ("time,time\n0,1\n", "expected a column of each name, got 'time' twice"),
        ("arrival_s,n\n,1\n6,1\n", "line 2: expected a time in seconds, got ''"),
        ("arrival_s,n\n5,1\n6\n", "line 3: expected 2 cells, as above, got 1"),
        ("1\n\n2\n", "line 2: expected a time, got an empty line"),
        ("\n1\n2\n", "line 1: expected a time, got an empty line"),
        ("1_000\n2_000\n", "line 1: expected a time in seconds, got '1_000'"),
        ("2026-07-01 10:00:00\n", "line 1: expected a time in seconds, got '2026-07-01 10:00:00'"),
        ("0\ninf\n", "line 2: expected a time in seconds, got 'inf'"),
        ("inf\n0\n", "line 1: expected a time in seconds, got 'inf'"),
        ("0\n1e400\n", "expected seconds from 0 on, got inf"),
        ("0\n" + "x" * 1000 + "\n", r"got 'x{56}\.\.\.$"),
        ('time_s\n"0\n', "line 2: cannot be read: unexpected end of data"),
        ("time_s\n", "expected arrival times in seconds, one a line, got none"),
    ],
)
def test_a_row_or_column_that_cannot_be_told_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """Rows do not vanish, and no column is guessed: one line with the file and the line."""
    with pytest.raises(InputError, match=said) as refused:
        read_trace(written(tmp_path, text))
    assert "times.csv" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *((name, "ms") for name in ("timestamp (ms)", "arrival_msec", "timeMs", "TimestampMillis", "time[ms]")),
        *((name, "ms") for name in ("timems", "arrival in milliseconds", "MS")),
        *((name, "us") for name in ("ts_us", "arrival (µs)", "time (μs)", "tsMicros", "microseconds")),
        *((name, "ns") for name in ("timestampNanos", "time/ns", "timestampns")),
        *((name, "min") for name in ("minutes", "time (min)")),
        ("arrival.hours", "h"),
    ],
)
def test_a_unit_in_a_header_of_any_spelling_is_seen(tmp_path: Path, name: str, unit: Unit) -> None:
    """Milliseconds are not played as seconds; `unit:` says what they are, and another one is refused."""
    file = written(tmp_path, f"{name}\n" + "".join(f"{t}\n" for t in (0, 1, 2)))
    with pytest.raises(InputError, match=f"expected seconds, got the column .*; say unit: {unit}$"):
        read_trace(file)
    factor = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60, "h": 3600}[unit]
    assert read_trace(file, unit=unit) == pytest.approx(factor * np.arange(3))
    with pytest.raises(InputError, match=f"say unit: {unit}$"):
        read_trace(file, unit="s")


def test_an_unknown_unit_is_asked_for(tmp_path: Path) -> None:
    file = written(tmp_path, "time (ticks)\n0\n1\n")
    with pytest.raises(InputError, match=r"got the column 'time \(ticks\)'; say unit: one of s, ms"):
        read_trace(file)
    assert read_trace(file, unit="ms").tolist() == [0, 1e-3]


def test_a_column_can_be_named(tmp_path: Path) -> None:
    file = written(tmp_path, "start_time,queued\n5,0.5\n6,1\n7,2.25\n")
    assert read_trace(file, column="queued").tolist() == TIMES
    with pytest.raises(InputError, match="no column 'queud'; did you mean 'queued'"):
        read_trace(file, column="queud")
    with pytest.raises(InputError, match="column 'a': expected a header line with it, got none"):
        read_trace(written(tmp_path, "1\n2\n"), column="a")


def test_a_slice_of_a_longer_trace_does_not_wait_for_its_start(tmp_path: Path) -> None:
    """Ten days before the first request were billed; now the file's owner says what is meant."""
    times = 862_919 + np.cumsum(np.random.default_rng(1).exponential(2, 100))
    file = written(tmp_path, "Timestamp\n" + "".join(f"{t!r}\n" for t in times.tolist()))
    with pytest.raises(InputError, match=r"a wait of 8629\d\d s before the first.*say from_first: true"):
        read_trace(file)
    assert Trace(file=str(file), from_first=True).times() == pytest.approx(times - times[0])
    assert Trace(file=str(file), from_first=False).times() == pytest.approx(times)
    epoch = written(tmp_path, "time_ms\n1700000000000\n1700000000500\n")
    assert read_trace(epoch, unit="ms", from_first=True).tolist() == [0, 0.5]
    with pytest.raises(InputError, match="expected seconds from 0 on, got 1700000000"):
        read_trace(epoch, unit="ms")
