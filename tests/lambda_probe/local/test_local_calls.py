"""Calls to the embedded endpoint: if these fail, what works locally does not work on AWS, or the bill is wrong."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from tests.lambda_probe.local.conftest import under_way


def test_a_cold_call_bills_its_init_and_a_warm_one_does_not(deploy):
    function = deploy("app.echo", MemorySize=256)
    cold, warm = function(say="first"), function(say="second")
    assert cold.body["event"] == {"say": "first"}
    assert (cold.body["calls"], warm.body["calls"]) == (1, 2)
    assert cold.body["pid"] == warm.body["pid"]
    assert "echo: first\n" in cold.log
    assert "echo: first" not in warm.log
    assert cold.log.index("START") < cold.log.index("echo") < cold.log.index("END") < cold.log.index("REPORT")
    assert cold.report.billed_ms == math.ceil(round(cold.report.duration_ms + cold.report.init_ms, 2))
    assert warm.report.init_ms is None
    assert warm.report.billed_ms == math.ceil(warm.report.duration_ms)
    assert warm.report.memory_mb == 256
    assert 5 < warm.report.max_memory_mb < 100
    assert 2_000 < cold.body["left_ms"] <= 3_000


def test_init_duration_is_the_real_import_time(deploy, make_zip):
    code = make_zip(slow="import time\nprint('importing')\ntime.sleep(0.3)\ndef handler(event, context): pass\n")
    function = deploy("slow.handler", code=code)
    cold = function()
    assert cold.report.init_ms > 300
    assert cold.report.duration_ms < cold.report.init_ms
    assert cold.log.index("importing") < cold.log.index("START")
    assert function().report.init_ms is None


def test_two_calls_at_once_start_two_instances_and_the_last_used_is_used_again(deploy):
    function = deploy("app.sleep", MemorySize=128)
    with ThreadPoolExecutor(2) as pool:
        short, long = pool.map(lambda seconds: function(seconds=seconds), (0.8, 1.2))
    assert short.body["pid"] != long.body["pid"]
    assert function(seconds=0).body["pid"] == long.body["pid"]


def test_reserved_concurrency_throttles(deploy, client, endpoint):
    function = deploy("app.sleep")
    client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=1)
    assert client.get_function(FunctionName=function.name)["Concurrency"] == {"ReservedConcurrentExecutions": 1}
    with under_way(endpoint, function, 1.5) as running:
        with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
            function(seconds=0)
        assert running.result().error is None
    assert caught.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    account = client.get_account_settings()["AccountLimit"]
    assert account["ConcurrentExecutions"] - account["UnreservedConcurrentExecutions"] == 1
    client.delete_function_concurrency(FunctionName=function.name)
    with ThreadPoolExecutor(2) as pool:
        assert [got.error for got in pool.map(lambda _: function(seconds=0.2), range(2))] == [None, None]


def test_an_exception_in_the_handler_is_told_and_the_instance_lives_on(deploy):
    function = deploy("app.fail")
    first, second = function(), function()
    assert first.error == "Unhandled"
    assert (first.body["errorType"], first.body["errorMessage"]) == ("KeyError", "'no such expert'")
    assert "[ERROR] KeyError" in first.log
    assert second.report.init_ms is None


def test_a_timeout_is_billed_and_ends_the_instance(deploy):
    function = deploy("app.sleep", Timeout=1)
    late = function(seconds=30)
    assert (late.error, late.body["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert "Task timed out after 1.0" in late.log
    assert (late.report.status, late.report.duration_ms) == ("timeout", 1_000)
    assert function(seconds=0).report.init_ms is not None


def test_memory_beyond_the_limit_is_killed(deploy):
    function = deploy("app.fill", MemorySize=128, Timeout=10)
    assert function(mb=64).body == {"bytes": 64 * 2**20}
    killed = function(mb=300)
    assert (killed.error, killed.body["errorType"]) == ("Unhandled", "Runtime.OutOfMemory")
    assert killed.body["errorMessage"].endswith("signal: killed")
    assert (killed.report.status, killed.report.error_type) == ("error", "Runtime.OutOfMemory")
    assert killed.report.max_memory_mb == 128
    assert function(mb=1).report.init_ms is not None


def test_a_crash_is_told(deploy):
    function = deploy("app.leave")
    crashed = function(code=3)
    assert (crashed.error, crashed.body["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert crashed.body["errorMessage"].endswith("exit status 3")
    assert (crashed.report.status, crashed.report.error_type) == ("error", "Runtime.ExitError")


@pytest.mark.parametrize(
    ("source", "kind"),
    [("raise ValueError('at import')", "ValueError"), ("import no_such_module", "Runtime.ImportModuleError")],
)
def test_a_failed_init_is_tried_twice_and_reported(deploy, make_zip, source, kind):
    failed = deploy("broken.handler", code=make_zip(broken=source), MemorySize=1769)()
    assert (failed.error, failed.body["errorType"]) == ("Unhandled", kind)
    reports = [line for line in failed.log.splitlines() if line.startswith("INIT_REPORT")]
    assert [line.split("\t")[1:3] for line in reports] == [
        ["Phase: init", "Status: error"],
        ["Phase: invoke", "Status: error"],
    ]
    assert failed.report.status == "error"
    assert failed.report.init_ms is None


def test_payloads_up_to_the_limits_pass_and_larger_ones_do_not(deploy, client):
    answer = deploy("app.answer", MemorySize=512)
    largest = json.dumps({"bytes": 3}).ljust(6 * 2**20)
    assert client.invoke(FunctionName=answer.name, Payload=largest)["Payload"].read() == b'"xxx"'
    with pytest.raises(client.exceptions.RequestTooLargeException) as caught:
        client.invoke(FunctionName=answer.name, Payload=largest + " ")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert len(answer(bytes=6_291_554).body) == 6_291_554  # with its quotes exactly the limit
    refused = answer(bytes=6_291_555)
    assert (refused.error, refused.body["errorType"]) == ("Unhandled", "Function.ResponseSizeTooLarge")
    assert answer(bytes=1).error is None


def test_an_asynchronous_call_is_accepted_and_runs(deploy, client, endpoint):
    function = deploy("app.sleep")
    before = len(endpoint.pids())
    got = client.invoke(FunctionName=function.name, InvocationType="Event", Payload=b'{"seconds": 0.2}')
    assert (got["StatusCode"], got["Payload"].read()) == (202, b"")
    deadline = time.monotonic() + 5
    while len(endpoint.pids()) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(endpoint.pids()) == before + 1
    assert client.invoke(FunctionName=function.name, InvocationType="DryRun")["StatusCode"] == 204


def test_what_is_not_json_is_refused(deploy, client):
    with pytest.raises(ClientError, match="Could not parse request body into json"):
        client.invoke(FunctionName=deploy("app.echo").name, Payload=b"{")


def platform_events(log):
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [each for each in events if str(each.get("type")).startswith("platform.")]


def test_a_function_whose_log_format_is_json_logs_events(deploy, client):
    function = deploy("app.echo", LoggingConfig={"LogFormat": "JSON"}, MemorySize=256)
    assert client.get_function_configuration(FunctionName=function.name)["LoggingConfig"]["LogFormat"] == "JSON"
    cold, warm = function(say="hello"), function()
    assert [each["type"] for each in platform_events(cold.log)] == ["platform.start", "platform.report"]
    assert "REPORT RequestId" not in cold.log
    assert "echo: hello" in cold.log
    assert cold.report.billed_ms == math.ceil(round(cold.report.duration_ms + cold.report.init_ms, 2))
    assert (warm.report.init_ms, warm.report.status, warm.report.memory_mb) == (None, None, 256)


@pytest.mark.parametrize(
    ("handler", "event", "status", "kind"),
    [
        ("app.fail", {}, "error", None),
        ("app.leave", {"code": 3}, "error", "Runtime.ExitError"),
        ("app.sleep", {"seconds": 30}, "timeout", None),
    ],
)
def test_how_a_call_failed_is_told_in_json_too(deploy, handler, event, status, kind):
    got = deploy(handler, LoggingConfig={"LogFormat": "JSON"}, Timeout=1)(**event)
    assert got.error == "Unhandled"
    assert (got.report.status, got.report.error_type) == (status, kind)


def test_a_failed_init_is_told_in_json_too(deploy, make_zip):
    code = make_zip(app="raise ValueError('no model')\n")
    got = deploy("app.handler", code=code, LoggingConfig={"LogFormat": "JSON"})()
    reports = [each["record"] for each in platform_events(got.log) if each["type"] == "platform.initReport"]
    assert [(each["phase"], each["status"]) for each in reports] == [("init", "error"), ("invoke", "error")]
