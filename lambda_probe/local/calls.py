"""Calls of the Lambda API: checked, run at once or when there is a place, repeated where they fail."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from lambda_probe.local.errors import ApiError, conflict
from lambda_probe.local.functions import Function, Functions
from lambda_probe.local.invocation import Invoker
from lambda_probe.local.loopback import Response
from lambda_probe.local.requests import parse_json
from lambda_probe.local.settings import (
    CLIENT_CONTEXT_BYTES,
    EVENT_BYTES,
    LOG_TAIL_BYTES,
    REQUEST_BYTES,
    LocalSettings,
)

_QUEUE_WAIT_S = 0.05


class Calls:
    """Answers requests that call a function."""

    def __init__(self, functions: Functions, invoker: Invoker, settings: LocalSettings) -> None:
        self._functions, self._invoker, self._settings = functions, invoker, settings
        self._stopping = Event()

    def close(self) -> None:
        """Drop asynchronous calls that wait for a place."""
        self._stopping.set()

    def answer(self, asked: dict[str, Any]) -> Response:
        """What a call of a function gets. Raises ApiError."""
        function = self._functions.get(asked["FunctionName"], asked.get("Qualifier", ""))
        kind = asked.get("InvocationType", "RequestResponse")
        payload = _payload(asked["Payload"], EVENT_BYTES if kind == "Event" else REQUEST_BYTES)
        context = _client_context(asked.get("ClientContext", ""))
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
        result = self._invoker.run(function, payload, context)
        headers = {
            "Content-Type": "application/json",
            "X-Amz-Executed-Version": "$LATEST",
            "x-amzn-RequestId": result.request_id,
        }
        if result.failed:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if asked.get("LogType") == "Tail":
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


def _payload(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
        raise ApiError(413, "RequestTooLargeException", message)
    payload = body or b"{}"
    parse_json(payload)
    return payload


def _client_context(encoded: str) -> str:
    """A client context as JSON in one line of ASCII, which can be a header; empty where there is none."""
    if not encoded:
        return ""
    try:
        found = parse_json(base64.b64decode(encoded, validate=True))
    except (ValueError, ApiError):
        found = None
    if not isinstance(found, dict) or len(encoded) > CLIENT_CONTEXT_BYTES:
        message = (
            f"Client context must be a valid Base64-encoded JSON object of at most {CLIENT_CONTEXT_BYTES} bytes."
        )
        raise ApiError(400, "InvalidRequestContentException", message)
    return json.dumps(found)
