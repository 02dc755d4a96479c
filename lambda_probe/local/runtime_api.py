"""The Runtime API of one sandbox: where AWS's runtime client fetches calls and leaves its answers.

Source: AWS Lambda developer guide, "Lambda runtime API" (2018-06-01). The client takes a bare host:port,
so each sandbox has a server of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from lambda_probe.local.loopback import LoopbackServer, Request, Response
from lambda_probe.local.settings import HOST, RESPONSE_BYTES

_PREFIX = "/2018-06-01/runtime/"
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
    """

    def __init__(self, idle: Callable[[], None], busy: Callable[[], None]) -> None:
        self._idle, self._busy = idle, busy
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._said: SimpleQueue[Said] = SimpleQueue()
        self._ready = False
        self._server = LoopbackServer(self._answer)
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
        if what == "invocation/next":
            return self._next()
        if what == "init/error":
            self.tell(Said("init_error", request.body, _error_type(request)))
        elif what.endswith("/response"):
            if len(request.body) > RESPONSE_BYTES:
                self.tell(Said("too_large", str(len(request.body)).encode()))
                return Response(413, b'{"errorType":"RequestEntityTooLarge"}')
            self.tell(Said("response", request.body))
        elif what.endswith("/error"):
            self.tell(Said("error", request.body, _error_type(request)))
        else:
            return Response(404)
        return _ACCEPTED

    def _next(self) -> Response | None:
        if not self._ready:
            self._ready = True
            self.tell(Said("ready"))
        self._idle()
        call = self._calls.get()
        if call is None:
            return None
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


def _error_type(request: Request) -> str:
    return request.headers.get("lambda-runtime-function-error-type", "")
