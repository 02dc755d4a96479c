"""S3 of one endpoint: moto's server in a process of its own, since its buckets belong to the process.

Run as `python -m lambda_probe.local.s3_server`: prints its port on the first line, and serves until it is killed.
"""

from __future__ import annotations

import logging
import os
import threading

from lambda_probe.local.settings import HOST


def main() -> None:
    """Serve."""
    from moto.server import ThreadedMotoServer
    from werkzeug.serving import WSGIRequestHandler

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    WSGIRequestHandler.disable_nagle_algorithm = True
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # nobody reads the pipe any more, and a full one would stop the server
        os.dup2(nowhere, stream)
    threading.Event().wait()


if __name__ == "__main__":
    main()
