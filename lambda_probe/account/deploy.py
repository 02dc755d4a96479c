"""Functions and a bucket on a Lambda endpoint: made, waited for, tagged, and removed whatever happens."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from lambda_probe.account.calls import SLEEP
from lambda_probe.account.cleanup import PREFIX, TAG, remove_bucket, remove_function
from lambda_probe.account.clients import CLIENT_ERRORS, Clients, code_of, one_line
from moe.errors import InputError, PlatformError

LOCAL_ROLE = "arn:aws:iam::000000000000:role/smoe-probe"
UPLOAD_LIMIT = 4 * 2**20  # a larger zip goes through the bucket, once for all functions that have it
POLL_S, PATIENCE_S = 0.1, 300.0
AWS_EVENT_RETRIES = 2
REMOVALS, REMOVAL_WAIT_S = 4, 5.0
_LOG = logging.getLogger(__name__)
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """A zip of these files; the same files, the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


@dataclass(frozen=True)
class Deployable:
    """A function to deploy: `code` is a zip; `name` without prefix.

    Attributes:
        image: URI of an image, in place of `code`, `handler` and `runtime`, which are in it.
        event_retries: how often the platform repeats an asynchronous call that failed (AWS: twice, and it bills).
    """

    name: str
    code: bytes
    memory_mb: int
    handler: str = "probe.handler"
    runtime: str = "python3.12"
    architecture: str = "x86_64"
    timeout_s: int = 120
    tmp_mb: int = 512
    environment: Mapping[str, str] = field(default_factory=dict)
    event_retries: int = AWS_EVENT_RETRIES
    image: str = ""


class Deployment:
    """What one campaign creates, for `with Deployment(...) as deployment:`; all of it is removed at the end.

    A name is noted before its thing is made: what was made without an answer is removed as well.

    Args:
        clients: of the account. campaign: its id, in every name and tag; at most 40 of a-z, 0-9 and `-`.
        role: ARN that functions run as. poll_s: between looks at a function that is not ready yet.
        patience_s: until a function must be ready. sleep: replaced in tests.

    Raises InputError for an id that cannot name a bucket.
    """

    def __init__(
        self,
        clients: Clients,
        campaign: str,
        role: str = LOCAL_ROLE,
        poll_s: float = POLL_S,
        patience_s: float = PATIENCE_S,
        sleep: SLEEP = time.sleep,
    ) -> None:
        if not _ID.fullmatch(campaign):
            raise InputError(
                f"campaign id {campaign!r}: expected at most 40 of a-z, 0-9 and '-': it names a bucket"
            )
        self.clients, self.campaign, self._role, self._poll_s = clients, campaign, role, poll_s
        self._patience_s, self._sleep = patience_s, sleep
        self._functions: set[str] = set()
        self._unanswered: set[str] = set()
        self._bucket: str | None = None
        self._codes: set[str] = set()

    def full_name(self, name: str) -> str:
        """A function's name on the platform."""
        return f"{PREFIX}{self.campaign}-{name}"

    @property
    def bucket_name(self) -> str:
        """The name of the campaign's bucket, whether or not it is there."""
        return f"{PREFIX}{self.campaign}"

    @property
    def bucket(self) -> str:
        """The campaign's bucket, made when it is first asked for. Raises InputError, PlatformError."""
        if self._bucket is None:
            self._bucket = self.bucket_name
            try:
                self._create_bucket(self.bucket_name)
            except CLIENT_ERRORS as error:
                told = _told(f"bucket {self.bucket_name}: cannot be created", error)
                if isinstance(told, InputError):  # not made, or somebody else's: not ours to remove
                    self._bucket = None
                raise told from None
        return self._bucket

    def create(self, function: Deployable) -> str:
        """Deploy a function and wait until it is active; returns its full name.

        Raises InputError where the platform refuses, PlatformError where it fails.
        """
        name = self.full_name(function.name)
        request = self._request(name, function)
        self._functions.add(name)
        self._unanswered.add(name)
        try:
            self._create(name, request)
        except CLIENT_ERRORS as error:
            told = _told(f"{name}: cannot be created", error)
            if isinstance(told, InputError):
                self._functions.discard(name)
                self._unanswered.discard(name)
            raise told from None
        self._unanswered.discard(name)
        self._wait(name)
        if function.event_retries != AWS_EVENT_RETRIES:
            configure = self.clients.control.put_function_event_invoke_config
            self._change(name, configure, MaximumRetryAttempts=function.event_retries)
        return name

    def change(self, name: str, **configuration: Any) -> None:
        """Change a configuration (`MemorySize=...`) and wait for it: the next call starts an instance.

        Raises InputError, PlatformError.
        """
        self._change(name, self.clients.control.update_function_configuration, **configuration)
        self._wait(name)

    def delete(self, name: str) -> None:
        """Remove a function; where that fails, `remove` tries again."""
        try:
            remove_function(self.clients, name)
            self._functions.discard(name)
        except CLIENT_ERRORS as error:
            _LOG.warning("%s: not removed yet: %s", name, one_line(error))

    def remove(self) -> None:
        """Remove everything; what fails is tried again. Once all is gone it does nothing.

        Raises PlatformError that names what is left.
        """
        why = ""
        try:
            for attempt in range(REMOVALS):
                if attempt:
                    self._sleep(REMOVAL_WAIT_S)
                why = self._remove_once() or why
                if not self._functions and self._bucket is None:
                    return
        except KeyboardInterrupt:
            why = "interrupted"
        left = ", ".join([*sorted(self._functions), *([self._bucket] if self._bucket else [])])
        raise PlatformError(f"left behind: {left} ({why}): remove it later with `./smoe probe --cleanup`")

    def __enter__(self) -> Deployment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _create_bucket(self, name: str) -> None:
        """Make and tag it; one that this account has already (of the same campaign, killed) is taken."""
        s3 = self.clients.s3
        where: dict[str, Any] = {}
        if self.clients.region != "us-east-1":
            where["CreateBucketConfiguration"] = {"LocationConstraint": self.clients.region}
        with suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=name, **where)
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": TAG, "Value": self.campaign}]})

    def _request(self, name: str, function: Deployable) -> dict[str, Any]:
        packaged: dict[str, Any] = {"PackageType": "Image", "Code": {"ImageUri": function.image}}
        if not function.image:
            packaged = {
                "Runtime": function.runtime,
                "Handler": function.handler,
                "Code": self._code(function),
            }
        return {
            **packaged,
            "FunctionName": name,
            "Role": self._role,
            "MemorySize": function.memory_mb,
            "Timeout": function.timeout_s,
            "Architectures": [function.architecture],
            "EphemeralStorage": {"Size": function.tmp_mb},
            "Environment": {"Variables": dict(function.environment)},
            "LoggingConfig": {"LogFormat": "Text"},  # REPORT as a line, not as JSON
            "Tags": {TAG: self.campaign},
        }

    def _change(self, name: str, operation: Callable[..., Any], **settings: Any) -> None:
        try:
            operation(FunctionName=name, **settings)
        except CLIENT_ERRORS as error:
            raise _told(f"{name}: cannot be changed", error) from None

    def _create(self, name: str, request: dict[str, Any]) -> None:
        """Create it; one of the same name that this campaign left (killed, or asked twice) is replaced."""
        control = self.clients.control
        try:
            control.create_function(**request)
        except control.exceptions.ResourceConflictException:
            found = control.get_function(FunctionName=name)
            if found.get("Tags", {}).get(TAG) != self.campaign:
                raise
            remove_function(self.clients, name)
            control.create_function(**request)

    def _code(self, function: Deployable) -> dict[str, Any]:
        if len(function.code) <= UPLOAD_LIMIT:
            return {"ZipFile": function.code}
        key = f"code/{hashlib.sha256(function.code).hexdigest()[:16]}.zip"
        if key not in self._codes:
            try:
                self.clients.s3.put_object(Bucket=self.bucket, Key=key, Body=function.code)
            except CLIENT_ERRORS as error:
                raise _told(f"{self.bucket}/{key}: cannot be uploaded", error) from None
            self._codes.add(key)
        return {"S3Bucket": self.bucket, "S3Key": key}

    def _wait(self, name: str) -> None:
        """Until the function is active and its last update is through. Raises PlatformError."""
        began, state = time.monotonic(), "not there"
        while True:  # looked at once, however late it has become
            try:
                found = self.clients.control.get_function_configuration(FunctionName=name)
            except CLIENT_ERRORS as error:
                if code_of(error) != "ResourceNotFoundException":  # a new name may take a moment to be known
                    raise _told(f"{name}: cannot be looked at", error) from None
                found = {}
            state, update = found.get("State", state), found.get("LastUpdateStatus")
            if state == "Active" and update in (None, "Successful"):
                return
            if "Failed" in (state, update):
                why = found.get("StateReason") or found.get("LastUpdateStatusReason") or "no reason given"
                raise PlatformError(f"{name}: the platform could not make it ready: {why}")
            if time.monotonic() - began >= self._patience_s:
                raise PlatformError(f"{name}: still {state} after {self._patience_s:.0f} s: try again later")
            self._sleep(self._poll_s)

    def _remove_once(self) -> str:
        """Try to remove all; returns why something could not be. What was never answered may yet come to be."""
        why = ""
        for name in sorted(self._functions):
            try:
                was_there = remove_function(self.clients, name)
            except CLIENT_ERRORS as error:
                why = one_line(error)
                continue
            if was_there or name not in self._unanswered:
                self._functions.discard(name)
            self._unanswered.discard(name)
        if self._bucket is not None:
            try:
                remove_bucket(self.clients, self._bucket)
                self._bucket = None
            except CLIENT_ERRORS as error:
                why = one_line(error)
        self._codes.clear()
        return why


def _told(what: str, error: Exception) -> InputError | PlatformError:
    """An error of boto3 as one for the user: the service refuses what was asked for, or it fails."""
    status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    if 400 <= status < 500 and status != 429:
        return InputError(f"{what}: {one_line(error)}")
    return PlatformError(f"{what}: {one_line(error)}: check the connection and try again")
