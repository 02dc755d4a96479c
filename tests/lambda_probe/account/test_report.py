"""REPORT lines: if these fail, live bills are read wrongly."""

import json

import pytest

from lambda_probe.account.report import Report, is_of_the_platform, parse_report
from moe.errors import InputError

WARM = "REPORT RequestId: 4f0e\tDuration: 102.31 ms\tBilled Duration: 103 ms\t"
WARM += "Memory Size: 1769 MB\tMax Memory Used: 64 MB"


def test_a_warm_call() -> None:
    report = parse_report(f"START RequestId: 4f0e Version: $LATEST\nEND RequestId: 4f0e\n{WARM}\t\n")
    assert report == Report("4f0e", 102.31, 103.0, 1769, 64)
    assert report.billed_gb_s == pytest.approx(0.103 * 1769 / 1024)


def test_a_cold_call_names_its_init() -> None:
    assert parse_report(f"{WARM}\tInit Duration: 91.2 ms\t").init_ms == 91.2


def test_a_failed_call_and_fields_of_the_future() -> None:
    report = parse_report(f"{WARM}\tStatus: error\tError Type: Runtime.OutOfMemory\tEnergy Used: 3 mWh")
    assert (report.status, report.error_type) == ("error", "Runtime.OutOfMemory")


def test_a_line_that_the_handler_printed_is_not_the_platform_s() -> None:
    assert parse_report(f"REPORT RequestId: mine\tDuration: 0 ms\n{WARM}\n").request_id == "4f0e"


@pytest.mark.parametrize("log", ["", "END RequestId: 4f0e", WARM[:60], WARM.replace("ms", "s")])
def test_a_missing_or_cut_line_is_said(log: str) -> None:
    with pytest.raises(InputError, match="REPORT line"):
        parse_report(log)


def event(**record: object) -> str:
    metrics = {"durationMs": 1233.96, "billedDurationMs": 1698, "memorySizeMB": 256, "maxMemoryUsedMB": 123}
    record = {"requestId": "79b5", "metrics": metrics, "status": "success", **record}
    return json.dumps({"time": "2026-10-08T07:30:29.470Z", "type": "platform.report", "record": record})


def test_a_report_of_the_log_format_json_is_the_same_report() -> None:
    assert parse_report(event()) == Report("79b5", 1233.96, 1698.0, 256, 123)
    assert parse_report(f'{{"level": "INFO", "message": "platform.report"}}\n{event()}\n[1]').request_id == "79b5"
    failed = parse_report(event(status="error", errorType="Runtime.OutOfMemory"))
    assert (failed.status, failed.error_type) == ("error", "Runtime.OutOfMemory")


@pytest.mark.parametrize("record", [{"metrics": {}}, {"metrics": None}, {"metrics": {"durationMs": "x"}}])
def test_an_event_of_an_unknown_form_is_said(record: dict[str, object]) -> None:
    with pytest.raises(InputError, match="REPORT line is cut or of an unknown form"):
        parse_report(event(**record))
    with pytest.raises(InputError, match="no REPORT line"):
        parse_report(event()[:90])


def test_a_start_from_a_snapshot_is_a_cold_one() -> None:
    """What is billed has the restore in it: 2339 + 182 ms."""
    line = "REPORT RequestId: 8c36\tDuration: 2338.66 ms\tBilled Duration: 2521 ms\tMemory Size: 3009 MB\t"
    line += "Max Memory Used: 173 MB\tRestore Duration: 398.97 ms\tBilled Restore Duration: 182 ms\t"
    restored, warm = parse_report(line), parse_report(WARM)
    assert (restored.restore_ms, restored.init_ms, restored.billed_ms) == (398.97, None, 2521)
    assert (restored.cold, warm.cold, parse_report(f"{WARM}\tInit Duration: 1 ms").cold) == (True, False, True)
    metrics = {"durationMs": 1, "billedDurationMs": 2, "memorySizeMB": 128, "maxMemoryUsedMB": 9}
    assert parse_report(event(metrics={**metrics, "restoreDurationMs": 398.97})).restore_ms == 398.97


def test_lines_of_the_platform_are_told_from_those_of_a_handler() -> None:
    told = [
        WARM,
        "INIT_REPORT Init Duration: 3 ms\tPhase: init\tStatus: timeout",
        "RESTORE_REPORT Restore Duration: 600 ms",
        "2026-10-08T07:30:29.470Z 4f0e Task timed out after 3.00 seconds",
        event(),
        '{"time":"","type":"platform.runtimeDone","record":{"requestId":"4f0e","status":"timeout"}}',
    ]
    others = [
        "hello",
        "[",
        "{",
        '{"type": "platform',
        '{"level": "INFO", "message": "platform.report"}',
        '["platform.',
    ]
    assert [is_of_the_platform(line) for line in (*told, *others)] == [True] * len(told) + [False] * len(others)
