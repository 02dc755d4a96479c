"""One call of a function as its caller sees it: every attempt, its wall time, its REPORT line."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lambda_probe.account.clients import CLIENT_ERRORS, Clients, answer_of, code_of, one_line, status_of
from lambda_probe.account.report import Report, is_of_the_platform, parse_report
from moe.errors import InputError

ATTEMPTS = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 20.0
THROTTLED = "TooManyRequestsException"
PASSING = ("ResourceConflictException", "ResourceNotReadyException")  # the function is not ready yet
SLEEP: TypeAlias = Callable[[float], None]


@dataclass(frozen=True)
class Attempt:
    """One attempt of a call.

    Attributes:
        function: its name. attempt: from 1.
        sent_s: when it was sent, s since 1970. client_s: until its answer was there; both by the client's clock.
        status: as in the record table: ok, throttled, handler-error, out-of-memory, timeout, payload-too-large,
            response-too-large, failed (anything else). Too large may also be what the handler sent or got itself.
        answer: what the handler returned; None where it failed.
        report: of the REPORT line; None where there is none that can be read.
        log: lines that the platform wrote (REPORT, INIT_REPORT, Task timed out), raw.
        error: what the platform or the handler said went wrong, or what is wrong with the REPORT line; one line.
    """

    function: str
    attempt: int
    sent_s: float
    client_s: float
    status: str
    answer: Any = None
    report: Report | None = None
    log: str = ""
    error: str = ""


def call(
    clients: Clients, function: str, event: Any, attempts: int = ATTEMPTS, sleep: SLEEP = time.sleep
) -> list[Attempt]:
    """Invoke a function and wait for its answer; where it was throttled or the service failed, again.

    Every attempt is in the list; the last one is the outcome. What would fail again is not tried again: a
    handler's own failure, which is an answer, and a request that the service refuses.
    """
    payload = json.dumps(event).encode()
    made: list[Attempt] = []
    for attempt in range(1, attempts + 1):
        outcome, passing = _once(clients, function, payload, attempt)
        made.append(outcome)
        if not passing:
            break
        if attempt < attempts:
            sleep(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1)))
    return made


def _once(clients: Clients, function: str, payload: bytes, attempt: int) -> tuple[Attempt, bool]:
    """An attempt, and whether it failed in a way that may pass."""
    sent_s, began = time.time(), time.perf_counter()
    try:
        got = clients.functions.invoke(FunctionName=function, LogType="Tail", Payload=payload)
        body = got["Payload"].read()
    except CLIENT_ERRORS as error:
        client_s = time.perf_counter() - began
        status, passing = _status_of(error)
        return Attempt(function, attempt, sent_s, client_s, status, error=one_line(error)), passing
    client_s = time.perf_counter() - began
    log = _platform_lines(base64.b64decode(got.get("LogResult", "")).decode(errors="replace"))
    report, status, text = None, "ok", ""
    try:
        report = parse_report(log)
    except InputError as error:
        text = str(error)
    answer = _json(body)
    if "FunctionError" in got:
        kind, text = _failure(answer)
        answer, status = None, _handler_status(kind, text, report)
    return Attempt(function, attempt, sent_s, client_s, status, answer, report, log, text), False


def _platform_lines(log: str) -> str:
    """The lines of a log tail that the platform wrote about a call."""
    return "\n".join(filter(is_of_the_platform, log.splitlines()))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _failure(answer: Any) -> tuple[str, str]:
    """Type and one line of a function's error."""
    if not isinstance(answer, dict):
        return "", "the function failed and did not say why"
    kind = str(answer.get("errorType", ""))
    return kind, " ".join(f"{kind}: {answer.get('errorMessage', '')}".split())


def _handler_status(kind: str, text: str, report: Report | None) -> str:
    status, error_type = (report.status or "", report.error_type or "") if report else ("", "")
    if "OutOfMemory" in kind or "OutOfMemory" in error_type or "signal: killed" in text:
        return "out-of-memory"
    if status == "timeout" or "Task timed out" in text or "Timedout" in kind:
        return "timeout"
    if "RequestTooLargeException" in text:
        return "payload-too-large"
    if "ResponseSizeTooLarge" in text or "payload size exceeded" in text:
        return "response-too-large"
    return "handler-error"


def _status_of(error: Exception) -> tuple[str, bool]:
    """Status of a call that the service did not carry out, and whether it may do so later."""
    if not answer_of(error):
        return "failed", True
    code, http = code_of(error), status_of(error)
    if code == THROTTLED or http == 429:
        return "throttled", True
    if code == "RequestTooLargeException":
        return "payload-too-large", False
    return "failed", http >= 500 or code in PASSING
