"""Functions and a bucket on a Lambda endpoint: made, waited for, tagged, and removed whatever happens."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from lambda_probe.account.calls import SLEEP
from lambda_probe.account.cleanup import PREFIX, TAG, bucket_tags, remove_bucket, remove_function
from lambda_probe.account.clients import CLIENT_ERRORS, Clients, code_of, made_nothing, one_line, status_of
from lambda_probe.account.interrupts import stubborn
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

    def request(self, code: dict[str, Any]) -> dict[str, Any]:
        """What `CreateFunction` is asked for, but for name, role and tags; `code`: where the zip is."""
        packaged: dict[str, Any] = {"PackageType": "Image", "Code": {"ImageUri": self.image}}
        if not self.image:
            packaged = {"Runtime": self.runtime, "Handler": self.handler, "Code": code}
        return {
            **packaged,
            "MemorySize": self.memory_mb,
            "Timeout": self.timeout_s,
            "Architectures": [self.architecture],
            "EphemeralStorage": {"Size": self.tmp_mb},
            "Environment": {"Variables": dict(self.environment)},
            "LoggingConfig": {"LogFormat": "Text"},  # REPORT as a line, not as JSON
        }


class Bucket:
    """A campaign's bucket: made when it is first asked for, tagged, removed with all that is in it.

    Attributes:
        name: whether or not it is there. noted: it may be there, and is to be removed.
    """

    def __init__(self, clients: Clients, campaign: str) -> None:
        self._clients, self._campaign = clients, campaign
        self.name, self.noted = f"{PREFIX}{campaign}", False
        self._codes: set[str] = set()

    def made(self) -> str:
        """Its name; now it is there. Raises InputError, PlatformError."""
        if not self.noted:
            self.noted = True
            try:
                self._create()
            except CLIENT_ERRORS as error:
                raise _told(f"bucket {self.name}: cannot be created", error) from None
        return self.name

    def code(self, zipped: bytes) -> dict[str, Any]:
        """Where Lambda finds a zip: in the request, or in here if it is large."""
        if len(zipped) <= UPLOAD_LIMIT:
            return {"ZipFile": zipped}
        key = f"code/{hashlib.sha256(zipped).hexdigest()[:16]}.zip"
        if key not in self._codes:
            try:
                self._clients.s3.put_object(Bucket=self.made(), Key=key, Body=zipped)
            except CLIENT_ERRORS as error:
                raise _told(f"{self.name}/{key}: cannot be uploaded", error) from None
            self._codes.add(key)
        return {"S3Bucket": self.name, "S3Key": key}

    def remove(self) -> None:
        """Remove it, if it may be there; an error of boto3 is not caught."""
        self._codes.clear()
        if self.noted:
            remove_bucket(self._clients, self.name)
            self.noted = False

    def _create(self) -> None:
        """Make and tag it; one that this account has already (of the same campaign, killed) is taken."""
        s3 = self._clients.s3
        where: dict[str, Any] = {}
        new = self._clients.region != "us-east-1"  # where S3 does not tell one that was there
        if new:
            where["CreateBucketConfiguration"] = {"LocationConstraint": self._clients.region}
        try:
            s3.create_bucket(Bucket=self.name, **where)
        except s3.exceptions.BucketAlreadyOwnedByYou:
            new = False
        except CLIENT_ERRORS as error:
            self.noted = not (made_nothing(error) or code_of(error) == "BucketAlreadyExists")  # of another account
            raise
        if not new and not self._is_ours():
            self.noted = False
            raise InputError(
                f"bucket {self.name}: is in the account already, and not of campaign {self._campaign}"
            )
        s3.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": [{"Key": TAG, "Value": self._campaign}]})

    def _is_ours(self) -> bool:
        """Whether it has the campaign's tag; or none, and nothing in it: it was made just now."""
        owner = bucket_tags(self._clients, self.name).get(TAG)
        if owner is not None:
            return owner == self._campaign
        return not self._clients.s3.list_objects_v2(Bucket=self.name, MaxKeys=1).get("KeyCount")


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
        self._doing = ""
        self._bucket = Bucket(clients, campaign)

    def full_name(self, name: str) -> str:
        """A function's name on the platform."""
        return f"{PREFIX}{self.campaign}-{name}"

    @property
    def bucket_name(self) -> str:
        """The name of the campaign's bucket, whether or not it is there."""
        return self._bucket.name

    @property
    def bucket(self) -> str:
        """The campaign's bucket, made when it is first asked for. Raises InputError, PlatformError."""
        return self._bucket.made()

    def create(self, function: Deployable) -> str:
        """Deploy a function and wait until it is active; returns its full name.

        Raises InputError where the platform refuses, PlatformError where it fails.
        """
        name = self.full_name(function.name)
        request = {
            "FunctionName": name,
            "Role": self._role,
            "Tags": {TAG: self.campaign},
            **function.request({} if function.image else self._bucket.code(function.code)),
        }
        self._functions.add(name)
        self._unanswered.add(name)
        try:
            self._create(name, request)
        except CLIENT_ERRORS as error:
            if made_nothing(error):
                self._functions.discard(name)
                self._unanswered.discard(name)
            raise _told(f"{name}: cannot be created", error) from None
        self._unanswered.discard(name)
        wait_until_ready(self.clients.control, name, self._poll_s, self._patience_s, self._sleep)
        if function.event_retries != AWS_EVENT_RETRIES:
            configure = self.clients.control.put_function_event_invoke_config
            self._change(name, configure, MaximumRetryAttempts=function.event_retries)
        return name

    def change(self, name: str, **configuration: Any) -> None:
        """Change a configuration (`MemorySize=...`) and wait for it: the next call starts an instance.

        Raises InputError, PlatformError.
        """
        self._change(name, self.clients.control.update_function_configuration, **configuration)
        wait_until_ready(self.clients.control, name, self._poll_s, self._patience_s, self._sleep)

    def delete(self, name: str) -> None:
        """Remove a function; where that fails, `remove` tries again."""
        try:
            remove_function(self.clients, name)
            self._functions.discard(name)
        except CLIENT_ERRORS as error:
            _LOG.warning("%s: not removed yet: %s", name, one_line(error))

    def remove(self) -> None:
        """Remove everything; what fails is tried again. Once all is gone it does nothing.

        Ctrl-C says what it waits for, the third ends it. Raises PlatformError that names what is left.
        """
        why = ""
        try:
            with stubborn(lambda: self._doing):
                for attempt in range(REMOVALS):
                    if attempt:
                        self._doing = f"{self._left()}: to be looked for again in {REMOVAL_WAIT_S:.0f} s"
                        self._sleep(REMOVAL_WAIT_S)
                    why = self._remove_once() or why
                    if not self._left():
                        return
        except KeyboardInterrupt:
            why = "interrupted"
        raise PlatformError(f"left behind: {self._left()} ({why}): remove it later with `./smoe probe --cleanup`")

    def _left(self) -> str:
        """The names of all that is, or may be, still there."""
        return ", ".join([*sorted(self._functions), *([self._bucket.name] if self._bucket.noted else [])])

    def __enter__(self) -> Deployment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _change(self, name: str, operation: Callable[..., Any], **settings: Any) -> None:
        """Change a function; where it is being changed (perhaps by this, its answer lost), again after that."""
        try:
            try:
                operation(FunctionName=name, **settings)
            except self.clients.control.exceptions.ResourceConflictException:
                wait_until_ready(self.clients.control, name, self._poll_s, self._patience_s, self._sleep)
                operation(FunctionName=name, **settings)
        except CLIENT_ERRORS as error:
            raise _told(f"{name}: cannot be changed", error) from None

    def _create(self, name: str, request: dict[str, Any]) -> None:
        """Create it; one of the same name that this campaign left (killed, or asked twice) is replaced."""
        control = self.clients.control
        try:
            control.create_function(**request)
        except control.exceptions.ResourceConflictException:
            if self._owner(name) != self.campaign:
                raise
            remove_function(self.clients, name)
            control.create_function(**request)

    def _owner(self, name: str) -> str | None:
        """The campaign that a function belongs to, empty for none; None: there is no such function."""
        try:
            tags = self.clients.control.get_function(FunctionName=name).get("Tags", {})
        except CLIENT_ERRORS as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            return None
        return str(tags.get(TAG, ""))

    def _remove_once(self) -> str:
        """Try to remove all; returns why something could not be."""
        why = ""
        for name in sorted(self._functions):
            self._doing = f"removing function {name}"
            try:
                gone = self._remove_function(name)
            except CLIENT_ERRORS as error:
                why = one_line(error)
                continue
            if gone:
                self._functions.discard(name)
            self._unanswered.discard(name)
        self._doing = f"removing bucket {self._bucket.name}"
        try:
            self._bucket.remove()
        except CLIENT_ERRORS as error:
            why = one_line(error)
        return why

    def _remove_function(self, name: str) -> bool:
        """Whether nothing is left to remove. What was never answered may yet come to be, or belong to others."""
        if name not in self._unanswered:
            remove_function(self.clients, name)
            return True
        owner = self._owner(name)
        if owner == self.campaign:
            return remove_function(self.clients, name)
        return owner is not None


def wait_until_ready(control: Any, name: str, poll_s: float, patience_s: float, sleep: SLEEP) -> None:
    """Until a function is active and its last update is through. Raises PlatformError."""
    began, state = time.monotonic(), "not there"
    while True:  # looked at once, however late it has become
        try:
            found = control.get_function_configuration(FunctionName=name)
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
        if time.monotonic() - began >= patience_s:
            raise PlatformError(f"{name}: still {state} after {patience_s:.0f} s: try again later")
        sleep(poll_s)


def _told(what: str, error: Exception) -> InputError | PlatformError:
    """An error of boto3 as one for the user: the service refuses what was asked for, or it fails."""
    if 400 <= status_of(error) < 500 and status_of(error) != 429:
        return InputError(f"{what}: {one_line(error)}")
    return PlatformError(f"{what}: {one_line(error)}: check the connection and try again")
