"""AWS's signatures, checked: Signature Version 4 (all that boto3 sends) and S3's older presigned addresses.

Source: AWS IAM user guide, "Create a signed AWS API request"; S3 API reference, "Authenticating requests
(AWS Signature Version 2)", query string authentication.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit

from lambda_probe.local.walls import Keys

Fault = Literal["", "missing", "key", "signature"]
_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True)
class Sent:
    """A request as it came in; `target` is its path and query as they were sent. `body`: not read for S3."""

    method: str
    target: str
    headers: Message
    body: bytes | None = None


@dataclass(frozen=True)
class _Claim:
    """What a signature says of itself; `scope` is date/region/service/aws4_request."""

    access_key: str
    scope: Sequence[str]
    stamp: str
    signed: Sequence[str]
    signature: str


def fault_of(sent: Sent, keys: Keys, service: str) -> Fault:
    """What is wrong with a request's signature; empty when it is signed with these keys, for this service.

    Where the body is not read, its hash is what `x-amz-content-sha256` says, as S3's clients send it.
    """
    query = {name: values[-1] for name, values in parse_qs(sent.target.partition("?")[2]).items()}
    if "AWSAccessKeyId" in query and sent.body is None:
        return _fault_of_version_2(sent, query, keys)
    try:
        claim = _of_query(query) if "X-Amz-Signature" in query else _of_header(sent.headers)
    except (KeyError, ValueError):
        return "missing"
    if claim.access_key != keys.access_key:
        return "key"
    in_time = "X-Amz-Expires" not in query or time.time() < _seconds(claim.stamp, query["X-Amz-Expires"])
    right = in_time and "host" in claim.signed and list(claim.scope[2:]) == [service, "aws4_request"]
    return "" if right and _same(_version_4(sent, claim, keys, service), claim.signature) else "signature"


def _of_header(headers: Message) -> _Claim:
    algorithm, _, rest = headers.get("Authorization", "").partition(" ")
    if algorithm != _ALGORITHM:
        raise ValueError(algorithm)
    told = dict(part.strip().split("=", 1) for part in rest.split(","))
    access_key, *scope = told["Credential"].split("/")
    return _Claim(access_key, scope, headers["X-Amz-Date"], told["SignedHeaders"].split(";"), told["Signature"])


def _of_query(query: dict[str, str]) -> _Claim:
    access_key, *scope = query["X-Amz-Credential"].split("/")
    signed = query["X-Amz-SignedHeaders"].split(";")
    return _Claim(access_key, scope, query["X-Amz-Date"], signed, query["X-Amz-Signature"])


def _version_4(sent: Sent, claim: _Claim, keys: Keys, service: str) -> str:
    path, _, query = sent.target.partition("?")
    if service != "s3":  # S3 takes a path as it is
        from botocore.utils import normalize_url_path

        path = quote(normalize_url_path(path), safe="/~")
    pairs = [pair if "=" in pair else f"{pair}=" for pair in query.split("&") if pair]
    pairs = [pair for pair in pairs if not pair.startswith("X-Amz-Signature=")]
    named = [f"{name}:{_value(sent.headers, name)}" for name in claim.signed]
    if sent.body is not None:
        payload = hashlib.sha256(sent.body).hexdigest()
    else:
        payload = sent.headers.get("x-amz-content-sha256", _UNSIGNED)
    parts = (sent.method, path, "&".join(sorted(pairs)), *named, "", ";".join(claim.signed), payload)
    hashed = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    key = f"AWS4{keys.secret_key}".encode()
    for part in claim.scope:
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join((_ALGORITHM, claim.stamp, "/".join(claim.scope), hashed))
    return hmac.digest(key, text.encode(), "sha256").hex()


def _value(headers: Message, name: str) -> str:
    return ",".join(" ".join(value.split()) for value in headers.get_all(name) or [])


def _fault_of_version_2(sent: Sent, query: dict[str, str], keys: Keys) -> Fault:
    """Of a presigned address, as boto3 makes it for S3 unless it is told another version."""
    from botocore.auth import HmacV1Auth
    from botocore.credentials import Credentials

    if query["AWSAccessKeyId"] != keys.access_key:
        return "key"
    expires = query.get("Expires", "")
    if not re.fullmatch("[0-9]{1,12}", expires) or time.time() >= int(expires):
        return "signature"
    told = {name.lower(): value.strip() for name, value in (*sent.headers.items(), *query.items())}
    lines = [sent.method, told.get("content-md5", ""), told.get("content-type", ""), expires]
    lines += sorted(f"{name}:{value}" for name, value in told.items() if name.startswith("x-amz-"))
    resource = HmacV1Auth(Credentials(keys.access_key, keys.secret_key)).canonical_resource
    lines.append(resource(urlsplit(f"http://s3{sent.target}")))
    digest = hmac.digest(keys.secret_key.encode(), "\n".join(lines).encode(), "sha1")
    return "" if _same(base64.b64encode(digest).decode(), query.get("Signature", "")) else "signature"


def _seconds(stamp: str, expires: str) -> float:
    """When a presigned address ends, s since 1970; 0 where that cannot be read."""
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() + int(expires)
    except ValueError:
        return 0.0


def _same(right: str, given: str) -> bool:
    return hmac.compare_digest(right.encode(), given.encode())
