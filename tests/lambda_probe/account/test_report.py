"""REPORT lines: if these fail, live bills are read wrongly."""

import pytest

from lambda_probe.account.report import Report, parse_report
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
