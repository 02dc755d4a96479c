"""A small HTTP/1.1 server on a free loopback port: one request in, one response out."""

from __future__ import annotations

import socketserver
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from lambda_probe.local.settings import HOST

LARGEST_BODY = 128 * 2**20


@dataclass(frozen=True)
class Request:
    """What came in. `path` is unquoted; header names of `headers` in lower case."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """What goes out."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class LoopbackServer(ThreadingHTTPServer):
    """Answers requests on 127.0.0.1, each connection in a thread of its own.

    Args:
        answer: from request to response; None closes the connection without an answer.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[Request], Response | None]) -> None:
        self.answer = answer
        super().__init__((HOST, 0), _Connection)
        self.port: int = self.server_address[1]
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def server_bind(self) -> None:
        """Bind without the look-up of a host name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

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

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            self.send_error(413)
            return
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = parse_qs(url.query, keep_blank_values=True)
        response = self.server.answer(Request(self.command, unquote(url.path), query, headers, body))
        if response is None:
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    do_GET = do_POST = do_PUT = do_DELETE = _serve
