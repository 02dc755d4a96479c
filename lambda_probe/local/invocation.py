"""One call from beginning to end: place, instance, INIT, handler, log and REPORT line."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

from lambda_probe.local import json_lines, report_lines
from lambda_probe.local.functions import Function
from lambda_probe.local.instances import Instances
from lambda_probe.local.runtime_api import Call
from lambda_probe.local.sandbox import Ended, Sandbox
from lambda_probe.local.settings import RESPONSE_BYTES, LocalSettings


@dataclass(frozen=True)
class Result:
    """What the caller gets: payload, whether it is an error of the function, and the whole log."""

    request_id: str
    payload: bytes
    failed: bool
    log: bytes


@dataclass(frozen=True)
class _Outcome:
    payload: bytes
    failed: bool = False
    status: str = ""
    error_type: str = ""
    reusable: bool = True


@dataclass
class _Course:
    """What one call has gathered so far."""

    function: Function
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    log: bytearray = field(default_factory=bytearray)
    spent_s: float = 0.0  # of the function's timeout
    init_s: float | None = None

    def write(self, text: str) -> None:
        self.log += text.encode()

    @property
    def lines(self) -> ModuleType:
        """What the platform writes, in the function's log format."""
        return json_lines if self.function.log_format == "JSON" else report_lines

    def left_s(self) -> float:
        return self.function.timeout_s - self.spent_s


class Invoker:
    """Runs calls on instances.

    Args:
        keep_log: gets a function's name and the log of each call.
    """

    def __init__(
        self, instances: Instances, settings: LocalSettings, keep_log: Callable[[str, bytes], None]
    ) -> None:
        self._instances, self._settings, self._keep_log = instances, settings, keep_log

    def run(self, function: Function, payload: bytes, client_context: str = "") -> Result:
        """One call. Raises ApiError when it is throttled."""
        course = _Course(function)
        self._instances.enter(function)
        try:
            sandbox = self._instances.warm(function) or self._cold(course)
            course.write(course.lines.start(course.request_id))
            if sandbox is None:
                sandbox, init_failure = self._init_again(course)
            else:
                init_failure = None
            outcome = init_failure or self._call(course, sandbox, payload, client_context)
            course.log += sandbox.take_log()
            self._report(course, outcome, sandbox)
            (self._instances.keep if outcome.reusable else self._instances.remove)(sandbox)
        finally:
            self._instances.leave(function)
        self._keep_log(function.name, bytes(course.log))
        return Result(course.request_id, outcome.payload, outcome.failed, bytes(course.log))

    def _cold(self, course: _Course) -> Sandbox | None:
        """A new instance after its INIT, or None when that failed."""
        settings = self._settings
        sandbox = self._instances.new(course.function)
        ended = sandbox.initialise(settings.init_timeout_s, settings.init_throttled)
        course.log += sandbox.take_log()
        if ended.said is not None and ended.said.kind == "ready":
            course.init_s = ended.duration_s
            return sandbox
        self._write_init_report(course, ended, sandbox, "init")
        self._instances.remove(sandbox)
        return None

    def _init_again(self, course: _Course) -> tuple[Sandbox, _Outcome | None]:
        """After a failed INIT: once more, as part of the call, with the call's CPU share and timeout."""
        sandbox = self._instances.new(course.function)
        ended = sandbox.initialise(course.left_s(), throttled=True)
        course.spent_s += ended.duration_s
        if ended.said is not None and ended.said.kind == "ready":
            return sandbox, None
        self._write_init_report(course, ended, sandbox, "invoke")
        return sandbox, self._outcome(course, ended, sandbox)

    def _call(self, course: _Course, sandbox: Sandbox, payload: bytes, client_context: str) -> _Outcome:
        deadline_ms = int((time.time() + course.left_s()) * 1000)
        arn = course.function.arn
        call = Call(course.request_id, payload, deadline_ms, arn, client_context)
        ended = sandbox.invoke(call, course.left_s())
        course.spent_s += ended.duration_s
        return self._outcome(course, ended, sandbox)

    def _outcome(self, course: _Course, ended: Ended, sandbox: Sandbox) -> _Outcome:
        request_id, said = course.request_id, ended.said
        if said is None:
            course.log += sandbox.take_log()
            course.write(course.lines.timed_out(request_id, course.spent_s))
            text = f"RequestId: {request_id} Error: Task timed out after {course.spent_s:.2f} seconds"
            course.spent_s = float(course.function.timeout_s)  # billed: the timeout
            return _failure("Sandbox.Timedout", text, status="timeout", error_type="")
        if said.kind == "response":
            return _Outcome(said.body)
        if said.kind == "error":
            return _Outcome(said.body, failed=True)
        if said.kind == "init_error":
            return _Outcome(said.body, True, "error", said.error_type, reusable=False)
        if said.kind == "too_large":
            sandbox.wait_for_own_end()
            text = (
                f"Response payload size ({said.body.decode()} bytes) exceeded maximum allowed payload size "
                f"({RESPONSE_BYTES} bytes)."
            )
            return _failure("Function.ResponseSizeTooLarge", text, status="error")
        reason = said.body.decode()
        course.log += sandbox.take_log()
        course.write(f"RequestId: {request_id} Error: {reason}\nRuntime.ExitError\n")
        kind = "Runtime.OutOfMemory" if sandbox.out_of_memory else "Runtime.ExitError"
        return _failure(kind, f"RequestId: {request_id} Error: {reason}", status="error")

    def _write_init_report(self, course: _Course, ended: Ended, sandbox: Sandbox, phase: str) -> None:
        course.log += sandbox.take_log()
        if ended.said is None:
            course.write(course.lines.init_report(ended.duration_s, phase, "timeout"))
            return
        kind = "Runtime.OutOfMemory" if sandbox.out_of_memory else ended.said.error_type or "Runtime.ExitError"
        course.write(course.lines.init_report(ended.duration_s, phase, "error", kind))

    def _report(self, course: _Course, outcome: _Outcome, sandbox: Sandbox) -> None:
        status = outcome.status
        if outcome.failed and course.function.log_format == "JSON":  # as text, a handler's own error has none
            status = status or "error"
        course.write(
            course.lines.end_and_report(
                course.request_id,
                course.spent_s,
                course.init_s,
                course.function.memory_mb,
                sandbox.peak_mb(),
                status,
                outcome.error_type,
            )
        )


def _failure(kind: str, message: str, status: str, error_type: str | None = None) -> _Outcome:
    """The platform ended the call: the payload names the error, the instance is not used again."""
    payload = json.dumps({"errorType": kind, "errorMessage": message}).encode()
    return _Outcome(payload, True, status, kind if error_type is None else error_type, reusable=False)
