"""The Runtime API of one sandbox: where AWS's runtime client fetches calls and leaves its answers.

Source: AWS Lambda developer guide, "Lambda runtime API" (2018-06-01). The client takes a bare host:port,
so each sandbox has a server of its own, which answers that sandbox's process only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock

from lambda_probe.local.loopback import LoopbackServer, Request, Response
from lambda_probe.local.settings import HOST, RESPONSE_BYTES

_PREFIX = "/2018-06-01/runtime/"
_ANSWER = re.compile(r"invocation/([^/]+)/(response|error)")
_ACCEPTED = Response(202, b'{"status":"OK"}\n', {"Content-Type": "application/json"})


@dataclass(frozen=True)
class Call:
    """One invocation, as the runtime client gets it."""

    request_id: str
    payload: bytes
    deadline_ms: int
    function_arn: str
    client_context: str = ""


@dataclass(frozen=True)
class Said:
    """What came from the sandbox: `ready`, `response`, `too_large`, `error`, `init_error` or `exited`."""

    kind: str
    body: bytes = b""
    error_type: str = ""


class RuntimeApi:
    """Hands calls to one runtime client and collects what it says.

    Args:
        idle: called when the client waits for its next call.
        busy: called right before it gets one.
        admits: whether a connection is the sandbox's own, by the ports of its client and its server.
    """

    def __init__(
        self, idle: Callable[[], None], busy: Callable[[], None], admits: Callable[[int, int], bool]
    ) -> None:
        self._idle, self._busy = idle, busy
        self._lock, self._under_way = Lock(), ""
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._said: SimpleQueue[Said] = SimpleQueue()
        self._ready = False
        self._server = LoopbackServer(self._answer, lambda port: admits(port, self._server.port))
        self.address = f"{HOST}:{self._server.port}"

    def hand_over(self, call: Call) -> None:
        """The client's next call."""
        self._calls.put(call)

    def tell(self, said: Said) -> None:
        """Let `listen` return this."""
        self._said.put(said)

    def listen(self, timeout_s: float) -> Said | None:
        """The next thing said, or None after the timeout."""
        try:
            return self._said.get(timeout=max(timeout_s, 0.0))
        except Empty:
            return None

    def close(self) -> None:
        """Let go of a waiting client and stop listening."""
        self._calls.put(None)
        self._server.close()

    def _answer(self, request: Request) -> Response | None:
        what = request.path.removeprefix(_PREFIX)
        call = _ANSWER.fullmatch(what)
        if request.method == "GET" and what == "invocation/next":
            return self._next()
        if request.method == "POST" and what == "init/error":
            return self._init_failed(request)
        if request.method == "POST" and call:
            return self._answered(call[1], call[2], request)
        return Response(404)

    def _init_failed(self, request: Request) -> Response:
        if self._ready:
            return _refusal(403, "InvalidStateTransition", "INIT is over")
        self.tell(Said("init_error", request.body, _error_type(request)))
        return _ACCEPTED

    def _answered(self, request_id: str, kind: str, request: Request) -> Response:
        """The answer to the call under way: the first one counts, and no other."""
        with self._lock:
            if not self._under_way or request_id != self._under_way:
                return _refusal(400, "InvalidRequestID", "Invalid request ID")
            self._under_way = ""
        if kind == "error":
            self.tell(Said("error", request.body, _error_type(request)))
        elif len(request.body) > RESPONSE_BYTES:
            self.tell(Said("too_large", str(len(request.body)).encode()))
            return Response(413, b'{"errorType":"RequestEntityTooLarge"}')
        else:
            self.tell(Said("response", request.body))
        return _ACCEPTED

    def _next(self) -> Response | None:
        with self._lock:
            if self._under_way:
                return _refusal(403, "InvalidStateTransition", "A call is under way")
        if not self._ready:
            self._ready = True
            self.tell(Said("ready"))
        self._idle()
        call = self._calls.get()
        if call is None:
            return None
        with self._lock:
            self._under_way = call.request_id
        self._busy()
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": call.request_id,
            "Lambda-Runtime-Deadline-Ms": str(call.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": call.function_arn,
        }
        if call.client_context:
            headers["Lambda-Runtime-Client-Context"] = call.client_context
        return Response(200, call.payload, headers)


def _refusal(status: int, kind: str, message: str) -> Response:
    body = json.dumps({"errorType": kind, "errorMessage": message}).encode()
    return Response(status, body, {"Content-Type": "application/json"})


def _error_type(request: Request) -> str:
    return request.headers.get("lambda-runtime-function-error-type", "")
