"""Who may use the endpoint: whoever has its keys, and no web page (docs/aws.md, "Walls")."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

from lambda_probe.local.settings import HOST
from moe.errors import InputError

KEYS_VARIABLE = "SMOE_LOCAL_KEYS"
_LOOPBACK = "0100007F"  # 127.0.0.1 as the kernel writes it
_ESTABLISHED = "01"


@dataclass(frozen=True)
class Keys:
    """An access key and its secret, of one endpoint."""

    access_key: str
    secret_key: str = field(repr=False)

    def variables(self) -> dict[str, str]:
        """As boto3 reads them."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}


def new_keys() -> Keys:
    """Random ones; of the variable SMOE_LOCAL_KEYS where it is set, for programs that hold a pair of their own.

    Raises InputError where that is not `ID:SECRET`.
    """
    given = os.environ.get(KEYS_VARIABLE)
    if given is None:
        return Keys(f"LOCAL{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30))
    name, _, secret = given.partition(":")
    if not re.fullmatch(r"\w{1,128}", name, re.ASCII) or not secret:
        raise InputError(f"{KEYS_VARIABLE}: expected ID:SECRET, the ID of letters and digits")
    return Keys(name, secret)


def of_a_web_page(headers: Message, port: int | None) -> str:
    """Why a request may come from a web page, empty where it does not.

    A page's own name is in `Host`, also where that name leads to this machine (DNS rebinding).

    Args:
        port: on which it came in; None: a relay stands before it, any is right.
    """
    hosts = headers.get_all("Host") or []
    name, _, given = hosts[0].rpartition(":") if len(hosts) == 1 else ("", "", "")
    if name not in (HOST, "localhost") or (port is not None and given != str(port)):
        return f"Host: expected {HOST} or localhost, and the port"
    return "Origin: requests of web pages are refused" if "Origin" in headers else ""


def body_bytes(headers: Message) -> int | None:
    """The length of a request's body; None where it is not told in one plain number."""
    given = headers.get_all("Content-Length") or ["0"]
    if len(given) > 1 or "Transfer-Encoding" in headers or not re.fullmatch(r"[0-9]{1,18}", given[0]):
        return None
    return int(given[0])


def connected(pid: int, client_port: int, server_port: int) -> bool:
    """Whether it is this process that holds the client's end of a loopback connection (Linux)."""
    ends = [f"{_LOOPBACK}:{port:04X}" for port in (client_port, server_port)]
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1:3] == ends and row[3] == _ESTABLISHED}
    with suppress(OSError):  # it has just ended
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # it has just closed this one
                if os.readlink(f"/proc/{pid}/fd/{name}") in sockets:
                    return True
    return False
