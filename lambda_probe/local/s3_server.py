"""S3 of one endpoint: moto's server in a process of its own, since its buckets belong to the process.

Run as `python -m lambda_probe.local.s3_server [relayed]`, the keys in boto3's variables: prints its port on the
first line, and serves until it is killed. `relayed`: functions reach it through relays, whose ports they name.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any
from urllib.parse import unquote

from lambda_probe.local.settings import HOST
from lambda_probe.local.signatures import Sent, fault_of
from lambda_probe.local.walls import Keys, body_bytes, of_a_web_page

_REFUSALS = {
    "missing": ("AccessDenied", "Access Denied: a request without this endpoint's signature"),
    "key": ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    "signature": ("SignatureDoesNotMatch", "The request signature does not match, or is too old."),
}
_READ_BYTES = 2 * 2**20  # of a refused request, so that its client reads why


def refusal(handler: Any, keys: Keys, port: int | None) -> tuple[int, str, str] | None:
    """Status, code and message for a request that may not pass; None for one that may.

    Args:
        handler: with `command`, `path` and `headers` as they came in.
    """
    if page := of_a_web_page(handler.headers, port):
        return 403, "AccessDenied", page
    if "Transfer-Encoding" not in handler.headers and body_bytes(handler.headers) is None:
        return 400, "InvalidRequest", "Content-Length: expected one number of bytes"
    if fault := fault_of(Sent(handler.command, handler.path, handler.headers), keys, "s3"):
        return 403, *_REFUSALS[fault]
    if unquote(handler.path).startswith("/moto-api"):
        return 403, "AccessDenied", "/moto-api is off"
    return None


def main() -> None:
    """Serve."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    keys = Keys(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    relayed = "relayed" in sys.argv[1:]

    class Guarded(MotoRequestHandler):
        disable_nagle_algorithm = True

        def run_wsgi(self) -> None:
            refused = refusal(self, keys, None if relayed else self.server.port)
            if refused is None:
                super().run_wsgi()
                return
            status, code, message = refused
            self.close_connection = True
            if "Expect" not in self.headers:
                self.rfile.read(min(body_bytes(self.headers) or 0, _READ_BYTES))
            text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(text)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server(HOST, 0, app, threaded=True, request_handler=Guarded)
    print(server.port, flush=True)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # nobody reads the pipe any more, and a full one would stop the server
        os.dup2(nowhere, stream)
    server.serve_forever()


if __name__ == "__main__":
    main()
