"""CPU share, expiry, INIT and S3 of the embedded endpoint: if these fail, measurements made on it mislead."""

import io
import os
import time
from threading import Event

import pytest
from boto3.s3.transfer import TransferConfig
from hypothesis import example, given
from hypothesis import strategies as st

from lambda_probe.account.report import parse_report
from lambda_probe.local import LocalEndpoint, LocalSettings, limits
from lambda_probe.local.processes import Nursery
from lambda_probe.local.report_lines import end_and_report
from tests.lambda_probe.local.conftest import APP, Clock, under_way

QUIET = 0.05  # of the wall time, that a function waited for a core


def has_share(function, share):
    """A function gets its share of a core. Others on this machine may leave it less, and give it no more."""
    told = [function(seconds=1.0).body for _ in range(3)]
    assert min(each["share"] for each in told) < share + 0.08, told
    quiet = [each["share"] for each in told if each["waited"] < QUIET]
    assert max(quiet, default=share) > share - 0.08, told


def test_a_quarter_of_the_memory_of_a_core_buys_a_quarter_of_a_core(deploy):
    has_share(deploy("app.busy", MemorySize=442, Timeout=10), 0.25)


def test_cpu_share_follows_the_memory_size_and_mb_per_core(other):
    with LocalEndpoint(LocalSettings(pending_s=0.0, mb_per_core=512)) as endpoint:
        for memory_mb, share in ((128, 0.25), (256, 0.5)):
            has_share(other[0](endpoint, "app.busy", MemorySize=memory_mb, Timeout=10), share)


class BusyProcess:
    """A process that computes whenever it may, with clocks and a sleep that lasts longer than asked for."""

    def __init__(self, late_s, seconds):
        self.now_s, self.used_s, self.stopped, self.late_s, self.until_s = 0.0, 0.0, False, late_s, seconds

    def cpu_s(self, pid):
        if self.now_s > self.until_s:
            raise ProcessLookupError
        return self.used_s

    def monotonic(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds + self.late_s
        self.used_s += 0.0 if self.stopped else seconds + self.late_s


@pytest.mark.parametrize("share", [0.07, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("late_s", [0.0, 0.0003, 0.004])
def test_the_duty_cycle_gives_exactly_its_share_also_when_it_wakes_up_late(share, late_s, monkeypatch):
    """On clocks of its own: no load of this machine can change it."""
    process = BusyProcess(late_s, seconds=60.0)
    limit = object.__new__(limits.CpuLimit)
    limit._pid, limit._budget_s, limit._closed, limit._active = 1, share * limits.PERIOD_S, False, Event()
    limit._stop = lambda: setattr(process, "stopped", True)
    limit._resume = lambda: setattr(process, "stopped", False)
    limit._active.set()
    monkeypatch.setattr(limits, "time", process)
    monkeypatch.setattr(limits, "cpu_s", process.cpu_s)
    with pytest.raises(ProcessLookupError):
        limit._work()
    assert process.used_s / process.now_s == pytest.approx(share, rel=0.02)


def test_an_instance_that_asks_for_its_first_call_before_it_is_known_is_served(other, monkeypatch):
    """On a busy machine a process runs before who started it: its INIT was lost, and the call failed."""
    spawn = Nursery.spawn

    def slowly(*arguments, **named):
        process = spawn(*arguments, **named)
        time.sleep(1.0)
        return process

    monkeypatch.setattr(Nursery, "spawn", slowly)
    with LocalEndpoint(LocalSettings(pending_s=0.0)) as endpoint:
        got = other[0](endpoint, "app.echo", Timeout=10)()
        assert (got.error, got.body["calls"]) == (None, 1)


def test_init_runs_at_full_speed_unless_asked_otherwise(other, make_zip):
    app = APP.read_text() + "\nINIT = busy({'seconds': 0.3}, None)\n\ndef init(event, context):\n    return INIT\n"
    ran = []
    for throttled in (False, True):
        with LocalEndpoint(LocalSettings(pending_s=0.0, init_throttled=throttled)) as endpoint:
            told = other[0](endpoint, "app.init", code=make_zip(app=app), MemorySize=442, Timeout=10)().body
            ran.append(told["share"] / (1 - told["waited"]))  # of the time in which no other had the core
    assert ran[0] > 0.9
    assert told["share"] < 0.25 + 0.15


def test_an_instance_is_frozen_between_calls(deploy):
    function = deploy("app.count_in_the_background", MemorySize=885)
    before = function().body
    time.sleep(0.6)
    assert 1 <= function().body - before < 35  # 0.8 s of counting would be 80


def test_an_idle_instance_expires(other, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("lambda_probe.local.instances.time", clock)
    with LocalEndpoint(LocalSettings(pending_s=0.0, keep_alive_s=300)) as endpoint:
        function = other[0](endpoint, "app.echo")
        assert function().report.init_ms is not None
        assert function().report.init_ms is None
        clock.ahead_s = 301.0
        deadline = time.monotonic() + 30
        while len(endpoint.pids()) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(endpoint.pids()) == 1  # S3 is left
        assert function().report.init_ms is not None


def test_an_init_that_takes_too_long_is_run_again_inside_the_call(other, make_zip):
    code = make_zip(app="import time\ntime.sleep(0.6)\ndef handler(event, context): return 1\n")
    with LocalEndpoint(LocalSettings(pending_s=0.0, init_timeout_s=0.3)) as endpoint:
        got = other[0](endpoint, "app.handler", code=code)()
    assert (got.body, got.error) == (1, None)
    assert "Phase: init\tStatus: timeout" in got.log
    assert got.report.init_ms is None
    assert got.report.duration_ms > 600


def test_the_account_concurrency_is_shared_by_all_functions(other):
    with LocalEndpoint(LocalSettings(pending_s=0.0, account_concurrency=1)) as endpoint:
        one, two = (other[0](endpoint, "app.sleep") for _ in range(2))
        refused = two.client.exceptions.TooManyRequestsException
        with under_way(endpoint, one, 1.5) as running, pytest.raises(refused) as caught:
            two(seconds=0)
        assert running.result().error is None
    assert caught.value.response["Reason"] == "ConcurrentInvocationLimitExceeded"


def test_s3_stores_what_boto3_gives_it(endpoint, other):
    s3 = other[1](endpoint, "s3")
    s3.create_bucket(Bucket="data")
    body = os.urandom(11 * 2**20)
    parts = TransferConfig(multipart_threshold=5 * 2**20, multipart_chunksize=5 * 2**20)
    s3.upload_fileobj(io.BytesIO(body), "data", "large", Config=parts)
    assert s3.get_object(Bucket="data", Key="large", Range="bytes=7-106")["Body"].read() == body[7:107]
    assert s3.get_object(Bucket="data", Key="large")["Body"].read() == body
    assert s3.head_object(Bucket="data", Key="large")["ETag"].endswith('-3"')  # three parts


def test_a_function_reads_and_writes_the_endpoints_s3(deploy, endpoint, other):
    s3 = other[1](endpoint, "s3")
    s3.create_bucket(Bucket="shared")
    s3.put_object(Bucket="shared", Key="in", Body=b"token")
    got = deploy("app.copy_object", MemorySize=1769, Timeout=30)(bucket="shared", key="in")
    assert (got.body, got.error) == (5, None)
    assert s3.get_object(Bucket="shared", Key="copy")["Body"].read() == b"nekot"


def test_a_log_can_be_kept(other, tmp_path):
    with LocalEndpoint(LocalSettings(pending_s=0.0, log_folder=tmp_path / "logs")) as endpoint:
        function = other[0](endpoint, "app.echo")
        function(say="kept")
    assert "echo: kept\n" in (tmp_path / "logs" / f"{function.name}.log").read_text()


@example(duration_s=0.000686, init_s=0.060316)
@given(duration_s=st.floats(0, 900), init_s=st.none() | st.floats(0, 10))
def test_what_is_billed_is_what_is_shown_rounded_up(duration_s, init_s):
    """0.686 and 60.316 ms are shown as 0.69 and 60.32, and 61.01 is billed as 62."""
    report = parse_report(end_and_report("id", duration_s, init_s, 128, 64))
    hundredths = round(100 * report.duration_ms) + round(100 * (report.init_ms or 0))
    assert report.billed_ms == -(-hundredths // 100)


def test_report_lines_are_those_that_the_parser_of_aws_reads():
    line = end_and_report("id", 0.10231, 0.0912, 1769, 64, "error", "Runtime.OutOfMemory")
    report = parse_report(line)
    assert (report.duration_ms, report.billed_ms, report.init_ms) == (102.31, 194, 91.2)
    assert (report.status, report.error_type) == ("error", "Runtime.OutOfMemory")
    assert line.startswith(
        "END RequestId: id\nREPORT RequestId: id\tDuration: 102.31 ms\tBilled Duration: 194 ms\t"
    )
