"""Calls of the Lambda API: checked, run at once or when there is a place, repeated where they fail."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from threading import Event, Thread

from lambda_probe.local.errors import ApiError, conflict
from lambda_probe.local.functions import Function, Functions
from lambda_probe.local.invocation import Invoker
from lambda_probe.local.loopback import Request, Response
from lambda_probe.local.settings import EVENT_BYTES, LOG_TAIL_BYTES, REQUEST_BYTES, LocalSettings

_QUEUE_WAIT_S = 0.05


class Calls:
    """Answers requests that call a function."""

    def __init__(self, functions: Functions, invoker: Invoker, settings: LocalSettings) -> None:
        self._functions, self._invoker, self._settings = functions, invoker, settings
        self._stopping = Event()

    def close(self) -> None:
        """Drop asynchronous calls that wait for a place."""
        self._stopping.set()

    def answer(self, request: Request, name: str) -> Response:
        """What a call of a function gets. Raises ApiError."""
        function = self._functions.get(name)
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        payload = _payload(request, EVENT_BYTES if kind == "Event" else REQUEST_BYTES)
        if function.pending and not function.updated:
            raise conflict(
                "The operation cannot be performed at this time. "
                "The function is currently in the following state: Pending"
            )
        if kind == "DryRun":
            return Response(204)
        if kind == "Event":
            Thread(target=self._run_queued, args=(function, payload), daemon=True).start()
            return Response(202)
        context = request.headers.get("x-amz-client-context", "")
        result = self._invoker.run(function, payload, base64.b64decode(context).decode())
        headers = {
            "Content-Type": "application/json",
            "X-Amz-Executed-Version": "$LATEST",
            "x-amzn-RequestId": result.request_id,
        }
        if result.failed:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if request.headers.get("x-amz-log-type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(result.log[-LOG_TAIL_BYTES:]).decode()
        return Response(200, result.payload, headers)

    def _run_queued(self, function: Function, payload: bytes) -> None:
        """An asynchronous call: one that fails is run again later, as often as its function says."""
        with suppress(ApiError):  # deleted meanwhile
            for wait_s in self._settings.event_retry_waits_s[: function.event_retries]:
                if not self._run_when_there_is_a_place(function, payload) or self._stopping.wait(wait_s):
                    return
                function = self._functions.get(function.name)
            self._run_when_there_is_a_place(function, payload)

    def _run_when_there_is_a_place(self, function: Function, payload: bytes) -> bool:
        """Run it, waiting for a place as long as it must; returns whether it failed."""
        while not self._stopping.is_set():
            try:
                return self._invoker.run(function, payload).failed
            except ApiError as error:
                if error.status != 429:
                    return False
                time.sleep(_QUEUE_WAIT_S)
        return False


def _payload(request: Request, limit: int) -> bytes:
    if len(request.body) > limit:
        message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
        raise ApiError(413, "RequestTooLargeException", message)
    payload = request.body or b"{}"
    try:
        json.loads(payload)
    except ValueError as error:
        message = f"Could not parse request body into json: {error}"
        raise ApiError(400, "InvalidRequestContentException", message) from None
    return payload
