"""Faults between boto3 and an endpoint: answers that never came from it, and answers that are lost."""

import base64
import io
import json
import signal
from collections.abc import Callable, Mapping
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

Fault = Callable[[Any], AWSResponse | None]


class _Raw(io.BytesIO):
    def stream(self, **_: Any) -> Any:
        yield self.read()


def answer(status: int, body: Mapping[str, Any] | str, headers: Mapping[str, str] | None = None) -> Fault:
    """An answer in place of the endpoint's."""
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    return lambda request: AWSResponse(request.url, status, dict(headers or {}), _Raw(content))


def refusal(status: int, code: str, message: str = "because", **more: str) -> Fault:
    """An error answer of the Lambda API."""
    return answer(status, {"message": message, **more}, {"x-amzn-errortype": code})


def s3_error(status: int, code: str) -> Fault:
    """An error answer of S3."""
    return answer(status, f"<Error><Code>{code}</Code><Message>because</Message></Error>")


def report(line: str, payload: Mapping[str, Any] | None = None) -> Fault:
    """A call that went well, with this log."""
    return answer(200, payload or {}, {"X-Amz-Log-Result": base64.b64encode(line.encode()).decode()})


def down(request: Any) -> None:
    """Nobody listens."""
    raise EndpointConnectionError(endpoint_url=request.url)


def lost(request: Any) -> None:
    """The endpoint does it; its answer never comes."""
    URLLib3Session().send(request)
    raise ReadTimeoutError(endpoint_url=request.url)


def closed(request: Any) -> None:
    """The connection is closed before anything is done: boto3's error has None for an answer."""
    raise ConnectionClosedError(endpoint_url=request.url)


def closed_late(request: Any) -> None:
    """The endpoint does it, and the connection is closed before its answer."""
    URLLib3Session().send(request)
    raise ConnectionClosedError(endpoint_url=request.url)


def hanging(signals: int) -> Fault:
    """No answer for so long that the user presses Ctrl-C so often; then it is not sent at all."""

    def fault(request: Any) -> None:
        for _ in range(signals):
            signal.raise_signal(signal.SIGINT)
        raise ReadTimeoutError(endpoint_url=request.url)

    return fault


def interrupted(request: Any) -> None:
    """Ctrl-C before it is sent."""
    raise KeyboardInterrupt


def interrupted_late(request: Any) -> None:
    """Ctrl-C after the endpoint did it."""
    URLLib3Session().send(request)
    raise KeyboardInterrupt


class Faults:
    """Faults of one boto3 client, in turn, for an operation; when they are used up the endpoint answers.

    Attributes:
        sent: the operations that were sent, in order.
    """

    def __init__(self, client: Any) -> None:
        self.sent: list[str] = []
        self._faults: dict[str, list[Fault]] = {}
        service = client.meta.service_model.service_name
        client.meta.events.register_first(f"before-send.{service}", self._before_send)

    def add(self, operation: str, *faults: Fault, times: int = 1) -> None:
        """Let the next requests of an operation meet these."""
        self._faults.setdefault(operation, []).extend(faults * times)

    def _before_send(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.rsplit(".", 1)[-1]
        self.sent.append(operation)
        waiting = self._faults.get(operation)
        return waiting.pop(0)(request) if waiting else None
