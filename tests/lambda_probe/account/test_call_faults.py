"""Calls that go wrong: every attempt is kept with what it cost, and the reason can be read.

A user who pays for a campaign loses measurements, or pays for repeats that nobody counted, when these fail.
"""

import math
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambda_probe.account.calls import ATTEMPTS, Attempt
from lambda_probe.account.clients import Clients
from lambda_probe.campaign.backend import BackendPrices, ProbeFunction, ProbePackage
from lambda_probe.campaign.boto_backend import BotoBackend, facts_of
from lambda_probe.campaign.measurements import Measured, row_of
from lambda_probe.campaign.works import ExpertPass, GetObjects, Nothing, PutObjects, Send, Wait, Work
from lambda_probe.handlers import probe
from lambda_probe.local import LocalEndpoint
from tests.lambda_probe.faulty import Faults, answer, down, lost, refusal, report

SMALL = ProbePackage("small")
FUNCTIONS = {
    "plain": ProbeFunction("plain", 256, SMALL),
    "other": ProbeFunction("other", 1769, SMALL),
    "short": ProbeFunction("short", 128, SMALL, timeout_s=1),
    "numpy": ProbeFunction("numpy", 128, ProbePackage("numpy", imports=("numpy",))),
    "broken": ProbeFunction("broken", 128, ProbePackage("broken", imports=("no_such_module",))),
}
GOOD = (
    "REPORT RequestId: 1\tDuration: 2.00 ms\tBilled Duration: 2 ms\tMemory Size: 256 MB\tMax Memory Used: 40 MB\t"
)


@pytest.fixture(scope="module")
def clients(endpoint: LocalEndpoint) -> Clients:
    """The same for all tests."""
    return endpoint.clients()


@pytest.fixture(scope="module")
def waits() -> list[float]:
    return []


@pytest.fixture(scope="module")
def backend(clients: Clients, waits: list[float]) -> BotoBackend:
    """All functions are there; waiting between attempts is noted and not done."""
    facts = facts_of("local", clients.region)
    made = BotoBackend(clients, facts, BackendPrices(), "calls", poll_s=0.01, sleep=waits.append)
    for function in FUNCTIONS.values():
        made.create(function)
    return made


@pytest.fixture(scope="module")
def faults(clients: Clients) -> Faults:
    return Faults(clients.functions)


def row(attempt: Attempt, work: Work = Nothing()) -> dict[str, Any]:  # noqa: B008
    """The attempt's row of the measurement table."""
    measured = Measured(0, "warm", FUNCTIONS[attempt.function], work, attempt)
    return row_of(measured, facts_of("local", "us-east-1"), BackendPrices(), 0.0)


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        (refusal(429, "TooManyRequestsException", Reason="CallerRateLimitExceeded"), "throttled", "CallerRate"),
        (refusal(429, "Whatever"), "throttled", "Whatever"),
        (refusal(500, "ServiceException"), "failed", "ServiceException"),
        (refusal(502, "EC2UnexpectedException"), "failed", "because"),
        (answer(503, "<html>not JSON</html>"), "failed", "503"),
        (refusal(409, "ResourceConflictException", "Pending"), "failed", "Pending"),
        (down, "failed", "EndpointConnectionError"),
        (lost, "failed", "ReadTimeoutError"),
    ],
)
def test_what_may_pass_is_tried_again_and_each_attempt_is_kept(
    backend: BotoBackend, faults: Faults, fault: Any, status: str, says: str
) -> None:
    faults.sent.clear()
    faults.add("Invoke", fault, times=2)
    made = backend.call("plain", Nothing())
    assert [each.status for each in made] == [status, status, "ok"]
    assert [each.attempt for each in made] == [1, 2, 3]
    assert faults.sent == ["Invoke"] * 3, "botocore repeated by itself: billed, and not counted"
    assert says in made[0].error
    assert row(made[0])["error"] == made[0].error


def test_a_storm_ends_and_waits_longer_each_time(backend: BotoBackend, faults: Faults, waits: list[float]) -> None:
    waits.clear()
    faults.add("Invoke", refusal(429, "TooManyRequestsException"), times=ATTEMPTS)
    made = backend.call("plain", Nothing())
    assert [each.status for each in made] == ["throttled"] * ATTEMPTS
    assert len(waits) == ATTEMPTS - 1
    assert waits == sorted(waits)
    assert sum(waits) > 5


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (refusal(404, "ResourceNotFoundException"), "failed"),
        (refusal(403, "AccessDeniedException"), "failed"),
        (refusal(413, "RequestTooLargeException"), "payload-too-large"),
    ],
)
def test_a_refusal_is_not_tried_again(backend: BotoBackend, faults: Faults, fault: Any, status: str) -> None:
    faults.add("Invoke", fault)
    assert [each.status for each in backend.call("plain", Nothing())] == [status]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "some other words",
        GOOD[:60],
        GOOD.replace("2.00 ms", "0.002 s"),
        GOOD.replace("Billed Duration", "Charged Time"),
        "REPORT\tv2\tRequestId=1\tDuration=2ms",
        "REPORT RequestId: 1\tDuration: x ms\tBilled Duration: 2 ms\tMemory Size: 256 MB\tMax Memory Used: 4 MB",
    ],
)
def test_a_report_that_cannot_be_read_is_kept_as_it_is(backend: BotoBackend, faults: Faults, line: str) -> None:
    """Cut, missing, or of a form of the future: what was measured stays, nothing is made up."""
    faults.add("Invoke", report(line, {"seconds": [0.5], "instance": "i"}))
    (made,) = backend.call("plain", Nothing())
    found = row(made)
    assert made.status == "ok"
    assert found["seconds"] == [0.5]
    assert math.isnan(found["duration_s"])
    assert "REPORT" in found["error"]
    assert found["log"] == (line if line.startswith("REPORT ") else "")


def test_an_unknown_field_of_a_report_is_passed_over(backend: BotoBackend, faults: Faults) -> None:
    faults.add("Invoke", report(GOOD + "Restore Duration: 7.00 ms\tEnergy: 3 J\t"))
    (made,) = backend.call("plain", Nothing())
    assert made.report is not None
    assert (made.report.billed_ms, made.error) == (2.0, "")


def test_another_memory_size_than_asked_for_is_a_failed_attempt(backend: BotoBackend, faults: Faults) -> None:
    """An update that is not in force yet: the row would be taken for another size's."""
    faults.add("Invoke", report(GOOD.replace("256 MB", "128 MB"), {"seconds": [9.0]}))
    made = backend.call("plain", Nothing())
    assert [each.status for each in made] == ["failed", "ok"]
    assert [each.attempt for each in made] == [1, 2]
    assert "128 MB instead of 256" in made[0].error
    assert row(made[0])["billed_s"] == 0.002, "it was billed, and the budget must count it"
    (at_once,) = backend.call_at_once(["plain"], Nothing())
    assert at_once[0].status == "ok"


@pytest.mark.parametrize(
    ("function", "work", "status", "says"),
    [
        ("broken", Nothing(), "handler-error", "no_such_module"),
        ("plain", PutObjects(1000, connections=2), "handler-error", "1000 bytes over 2 connections"),
        ("numpy", ExpertPass(tokens=40_000), "out-of-memory", "signal: killed"),
        ("short", Wait(3.0), "timeout", "timed out"),
        ("other", Send("plain", 5_000_000), "payload-too-large", "RequestTooLargeException"),
        ("other", Send("other", 10, answer_bytes=5_000_000), "response-too-large", "ResponseSizeTooLarge"),
        ("other", Send("gone", 10), "handler-error", "ResourceNotFoundException"),
    ],
)
def test_a_function_that_fails_is_one_attempt_with_its_bill(
    backend: BotoBackend, function: str, work: Work, status: str, says: str
) -> None:
    made = backend.call(function, work)
    assert [each.status for each in made] == [status], made
    found = row(made[0], work)
    assert says in found["error"]
    assert "\n" not in found["error"]
    assert found["log"].count("REPORT ") >= 1
    assert found["billed_s"] > 0
    assert found["seconds"] == []


class _SlowDown:
    """S3 that has enough after so many requests."""

    def __init__(self, answers: int) -> None:
        self.left = answers

    def get_object(self, **_: Any) -> Any:
        if self.left == 0:
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "Please reduce your rate"}}, "GetObject")
        self.left -= 1
        return {"Body": self}

    def iter_chunks(self, _: int) -> list[bytes]:
        return []


def test_a_503_of_s3_inside_a_function_costs_the_repeats_after_it_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOE_BUCKET", "any")
    monkeypatch.setattr(probe, "_client", lambda _: _SlowDown(3))
    said = probe.handler({"do": "get", "size_bytes": 10, "connections": 1, "repeats": 5}, None)
    made = Attempt("plain", 1, 0.0, 1.0, "ok", said)
    found = row(made, GetObjects(10, repeats=5))
    assert len(found["seconds"]) == found["gets"] == 3
    assert "SlowDown" in found["error"]
    monkeypatch.setattr(probe, "_client", lambda _: _SlowDown(0))
    with pytest.raises(ClientError, match="SlowDown"):
        probe.handler({"do": "get", "size_bytes": 10, "connections": 1, "repeats": 5}, None)
