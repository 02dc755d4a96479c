"""A small HTTP/1.1 server on a free loopback port: one request in, one response out."""

from __future__ import annotations

import json
import logging
import socketserver
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote

from lambda_probe.local.settings import HOST
from lambda_probe.local.walls import body_bytes, of_a_web_page

_LOG = logging.getLogger(__name__)
LARGEST_BODY = 128 * 2**20
LONGEST_PAUSE_S = 60.0  # of a client within its request


@dataclass(frozen=True)
class Request:
    """What came in. `path` is unquoted; header names of `headers` in lower case.

    Attributes:
        target, received: path and query, and the headers, as they were sent: what a signature is of.
    """

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    target: str
    received: Message


@dataclass(frozen=True)
class Response:
    """What goes out."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class LoopbackServer(ThreadingHTTPServer):
    """Answers requests on 127.0.0.1, each connection in a thread of its own; refuses those of web pages.

    Args:
        answer: from request to response; None closes the connection without an answer.
        admits: whether a connection may be answered, by the client's port; None: any.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, answer: Callable[[Request], Response | None], admits: Callable[[int], bool] | None = None
    ) -> None:
        self.answer, self.admits = answer, admits
        super().__init__((HOST, 0), _Connection)
        self.port: int = self.server_address[1]
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def server_bind(self) -> None:
        """Bind without the look-up of a host name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news; anything else is, in one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            _LOG.error("local Lambda: a request failed: %s: %s", type(error).__name__, error)
            _LOG.debug("local Lambda: where", exc_info=True)

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # buffered: one write a response (separate ones wait 40 ms for each other)
    server: LoopbackServer

    def handle_expect_100(self) -> bool:
        done = super().handle_expect_100()
        self.wfile.flush()
        return done

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        admits = self.server.admits
        self._admitted = admits is None or admits(self.client_address[1])

    def _serve(self) -> None:
        length = body_bytes(self.headers)
        if not self._admitted:
            self._refuse(403, "AccessDeniedException", "Not a process of this instance")
        elif page := of_a_web_page(self.headers, self.server.port):
            self._refuse(403, "AccessDeniedException", page)
        elif length is None:
            self._refuse(400, "InvalidRequestException", "Content-Length: expected one number of bytes")
        elif length > LARGEST_BODY:
            self._refuse(413, "RequestTooLargeException", f"The body must be smaller than {LARGEST_BODY} bytes")
        else:
            self.connection.settimeout(LONGEST_PAUSE_S)
            self._answer(length)
            self.connection.settimeout(None)

    def _answer(self, length: int) -> None:
        body = self.rfile.read(length)
        if len(body) < length:  # cut in the middle
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = parse_qs(query, keep_blank_values=True)
        request = Request(self.command, unquote(path), asked, headers, body, self.path, self.headers)
        response = self.server.answer(request)
        if response is None:
            self.close_connection = True
        else:
            self._send(response)

    def _refuse(self, status: int, name: str, message: str) -> None:
        """Answer without reading the body, and hang up."""
        self.close_connection = True
        body = json.dumps({"message": message}).encode()
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": name, "Connection": "close"}
        self._send(Response(status, body, headers))

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_DELETE = _serve
