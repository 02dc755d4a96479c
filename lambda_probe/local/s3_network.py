"""The way of one instance to S3: latency of each request and a limited bandwidth, by a relay on loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread

from lambda_probe.local.settings import HOST

_CHUNK = 64 * 1024
_LATE_S = 0.02  # a sleep that ends later than asked for is made up for, up to so much
_GO_ON = b"HTTP/1.1 100"  # "send the body of your request", not an answer to it


class TokenBucket:
    """Lets bytes through at a rate, once `burst_bytes` of them are used up; these come back at the same rate.

    Args:
        now, sleep: a clock, s.
    """

    def __init__(
        self,
        bytes_per_s: float,
        burst_bytes: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._most = bytes_per_s, max(burst_bytes, bytes_per_s * _LATE_S)
        self._now, self._sleep, self._lock = now, sleep, Lock()
        self._left, self._seen_s = burst_bytes, now()

    def take(self, count: int) -> None:
        """Wait until so many bytes may pass."""
        with self._lock:
            now = self._now()
            self._left = min(self._most, self._left + (now - self._seen_s) * self._rate) - count
            self._seen_s = now
            wait_s = -self._left / self._rate
        if wait_s > 0:
            self._sleep(wait_s)


class S3Network:
    """Relays an instance's connections to S3, until it is closed.

    Args:
        s3_port: of the S3 server. latency_s: that each request waits.
        bytes_per_s: each way, of all connections together; 0: not limited. burst_bytes: that pass unlimited.
    """

    def __init__(self, s3_port: int, latency_s: float, bytes_per_s: float, burst_bytes: float) -> None:
        self._s3_port, self._latency_s, self._closed = s3_port, latency_s, False
        limited = bytes_per_s > 0
        self._out, self._in = (TokenBucket(bytes_per_s, burst_bytes) if limited else None for _ in range(2))
        self._lock, self._open = Lock(), set[socket.socket]()
        self._server = socket.create_server((HOST, 0), backlog=128)
        self.url = f"http://{HOST}:{self._server.getsockname()[1]}"
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End it and its connections."""
        self._closed = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        answered = Event()
        answered.set()
        with near, suppress(OSError), socket.create_connection((HOST, self._s3_port)) as far:
            with self._lock:
                self._open |= {near, far}
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = Thread(target=self._pass, args=(far, near, self._in, None, answered), daemon=True)
            back.start()
            self._pass(near, far, self._out, answered, None)
            back.join()
            with self._lock:
                self._open -= {near, far}

    def _pass(
        self,
        source: socket.socket,
        target: socket.socket,
        bucket: TokenBucket | None,
        answered: Event | None,
        answers: Event | None,
    ) -> None:
        """Pass bytes on until their end; requests wait once each, which ends when something is answered."""
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if answered is not None and answered.is_set():
                    answered.clear()
                    time.sleep(self._latency_s)
                if answers is not None and not data.startswith(_GO_ON):
                    answers.set()
                if bucket is not None:
                    bucket.take(len(data))
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
