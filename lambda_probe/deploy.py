"""Functions and a bucket on a Lambda endpoint: made, waited for, tagged, and removed whatever happens."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from lambda_probe.clients import Clients
from moe.errors import InputError

PREFIX = "smoe-"
TAG = "smoe-campaign"
LOCAL_ROLE = "arn:aws:iam::000000000000:role/smoe-probe"
UPLOAD_LIMIT = 40 * 2**20  # a larger zip goes through the bucket
POLL_S, PATIENCE_S = 0.1, 300.0
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
    """A function to deploy: `code` is a zip; `name` without prefix."""

    name: str
    code: bytes
    memory_mb: int
    handler: str = "probe.handler"
    runtime: str = "python3.12"
    architecture: str = "x86_64"
    timeout_s: int = 120
    tmp_mb: int = 512
    environment: Mapping[str, str] = field(default_factory=dict)


class Deployment:
    """What one campaign creates, for `with Deployment(...) as deployment:`; all of it is removed at the end.

    Args:
        clients: of the account. campaign: its id, in every name and tag; letters, digits and `-`.
        role: ARN that functions run as. poll_s: between looks at a function that is not ready yet.
    """

    def __init__(self, clients: Clients, campaign: str, role: str = LOCAL_ROLE, poll_s: float = POLL_S) -> None:
        self.clients, self.campaign, self._role, self._poll_s = clients, campaign, role, poll_s
        self._functions: set[str] = set()
        self._bucket: str | None = None

    def full_name(self, name: str) -> str:
        """A function's name on the platform."""
        return f"{PREFIX}{self.campaign}-{name}"

    @property
    def bucket(self) -> str:
        """The campaign's bucket, made when it is first asked for."""
        if self._bucket is None:
            name = f"{PREFIX}{self.campaign}"
            where: dict[str, Any] = {}
            if self.clients.region != "us-east-1":
                where["CreateBucketConfiguration"] = {"LocationConstraint": self.clients.region}
            self._bucket = name  # before it is made: a bucket that was made and not noted would stay
            self.clients.s3.create_bucket(Bucket=name, **where)
            self.clients.s3.put_bucket_tagging(
                Bucket=name, Tagging={"TagSet": [{"Key": TAG, "Value": self.campaign}]}
            )
        return self._bucket

    def create(self, function: Deployable) -> str:
        """Deploy a function and wait until it is active; returns its full name. Raises InputError."""
        from botocore.exceptions import ClientError

        name = self.full_name(function.name)
        self._functions.add(name)
        try:
            self.clients.functions.create_function(
                FunctionName=name,
                Runtime=function.runtime,
                Role=self._role,
                Handler=function.handler,
                Code=self._code(function),
                MemorySize=function.memory_mb,
                Timeout=function.timeout_s,
                Architectures=[function.architecture],
                EphemeralStorage={"Size": function.tmp_mb},
                Environment={"Variables": dict(function.environment)},
                Tags={TAG: self.campaign},
            )
        except ClientError as error:
            raise InputError(f"{name}: cannot be created: {' '.join(str(error).split())}") from None
        self._wait(name)
        return name

    def change(self, name: str, **configuration: Any) -> None:
        """Change a configuration (`MemorySize=...`) and wait for it: the next call starts an instance."""
        self.clients.functions.update_function_configuration(FunctionName=name, **configuration)
        self._wait(name)

    def delete(self, name: str) -> None:
        """Remove a function; one that is gone already is none to worry about."""
        from botocore.exceptions import ClientError

        try:
            self.clients.functions.delete_function(FunctionName=name)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "ResourceNotFoundException":
                raise
        self._functions.discard(name)

    def remove(self) -> None:
        """Remove everything. Again, it does nothing."""
        for name in sorted(self._functions):
            self.delete(name)
        if self._bucket is not None:
            remove_bucket(self.clients, self._bucket)
            self._bucket = None

    def __enter__(self) -> Deployment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _code(self, function: Deployable) -> dict[str, Any]:
        if len(function.code) <= UPLOAD_LIMIT:
            return {"ZipFile": function.code}
        key = f"code/{function.name}.zip"
        self.clients.s3.put_object(Bucket=self.bucket, Key=key, Body=function.code)
        return {"S3Bucket": self.bucket, "S3Key": key}

    def _wait(self, name: str) -> None:
        """Until the function is active and its last update is through. Raises InputError."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            found = self.clients.functions.get_function_configuration(FunctionName=name)
            state, update = found.get("State"), found.get("LastUpdateStatus")
            if state == "Active" and update in (None, "Successful"):
                return
            if "Failed" in (state, update):
                why = found.get("StateReason") or found.get("LastUpdateStatusReason") or "no reason given"
                raise InputError(f"{name}: the platform could not make it ready: {why}")
            time.sleep(self._poll_s)
        raise InputError(f"{name}: still {state} after {PATIENCE_S:.0f} s: try again later, or run --cleanup")


def remove_bucket(clients: Clients, bucket: str) -> None:
    """Empty and delete a bucket, unfinished uploads too; one that is gone already is none to worry about."""
    from botocore.exceptions import ClientError

    s3 = clients.s3
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", []):
                s3.delete_object(Bucket=bucket, Key=item["Key"])
        for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        s3.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchBucket":
            raise


def leftovers(clients: Clients) -> tuple[list[str], list[str]]:
    """Functions and buckets with the prefix and the tag that any earlier campaign left."""
    from botocore.exceptions import ClientError

    functions = []
    for page in clients.functions.get_paginator("list_functions").paginate():
        for found in page["Functions"]:
            if found["FunctionName"].startswith(PREFIX):
                tags = clients.functions.list_tags(Resource=found["FunctionArn"]).get("Tags", {})
                functions += [found["FunctionName"]] if TAG in tags else []
    buckets = []
    for found in clients.s3.list_buckets().get("Buckets", []):
        if found["Name"].startswith(PREFIX):
            with suppress(ClientError):
                tags = clients.s3.get_bucket_tagging(Bucket=found["Name"])["TagSet"]
                buckets += [found["Name"]] if any(tag["Key"] == TAG for tag in tags) else []
    return functions, buckets
