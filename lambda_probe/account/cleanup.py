"""What campaigns leave on a Lambda endpoint when they are killed, found by prefix and tag, and removed."""

from __future__ import annotations

from dataclasses import dataclass

from lambda_probe.account.clients import CLIENT_ERRORS, Clients, code_of, one_line
from moe.errors import PlatformError

PREFIX = "smoe-"
TAG = "smoe-campaign"
LOG_PREFIX = "/aws/lambda/"


@dataclass(frozen=True)
class Leftover:
    """A function or a bucket with the prefix and the tag; `campaign`: whose it is (it may still run).

    Or a log group: AWS makes one for each function, without a tag, and keeps it. It is named after its function.
    """

    kind: str
    name: str
    campaign: str


@dataclass(frozen=True)
class Leftovers:
    """What was found.

    Attributes:
        tagged: what campaigns left, and logs of functions with the prefix.
        untagged: buckets with the prefix only: perhaps not ours, not touched.
    """

    tagged: tuple[Leftover, ...]
    untagged: tuple[str, ...] = ()


def leftovers(clients: Clients) -> Leftovers:
    """Everything with the prefix in the account and region. Raises PlatformError where it cannot be listed."""
    try:
        buckets = _buckets(clients)
        tagged = [found for found in buckets if found.campaign]
        untagged = [found.name for found in buckets if not found.campaign]
        return Leftovers((*_functions(clients), *tagged, *_logs(clients)), tuple(untagged))
    except CLIENT_ERRORS as error:
        raise PlatformError(f"what campaigns left cannot be listed: {one_line(error)}") from None


def cleanup(clients: Clients, found: Leftovers) -> list[str]:
    """Remove what has prefix and tag, unfinished uploads too; returns what could not be, and why."""
    failed = []
    for each in found.tagged:
        try:
            remove = {"function": remove_function, "bucket": remove_bucket, "log": _remove_log}[each.kind]
            remove(clients, each.name)
        except CLIENT_ERRORS as error:
            failed.append(f"{each.kind} {each.name}: {one_line(error)}")
    return failed


def remove_function(clients: Clients, name: str) -> bool:
    """Delete a function and its log; one that is gone already is none to worry about, and False is returned."""
    there = True
    try:
        clients.control.delete_function(FunctionName=name)
    except CLIENT_ERRORS as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        there = False
    if clients.logs is not None:
        _remove_log(clients, LOG_PREFIX + name)
    return there


def remove_bucket(clients: Clients, bucket: str) -> None:
    """Empty and delete a bucket, unfinished uploads too; one that is gone already is none to worry about."""
    s3 = clients.s3
    try:
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in page.get("Uploads", []):
                s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if keys:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        s3.delete_bucket(Bucket=bucket)
    except CLIENT_ERRORS as error:
        if code_of(error) != "NoSuchBucket":
            raise


def bucket_tags(clients: Clients, bucket: str) -> dict[str, str]:
    """The tags of a bucket; none where it is gone."""
    try:
        tags = clients.s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except CLIENT_ERRORS as error:
        if code_of(error) not in ("NoSuchTagSet", "NoSuchBucket"):
            raise
        return {}
    return {tag["Key"]: tag["Value"] for tag in tags}


def _remove_log(clients: Clients, name: str) -> None:
    try:
        clients.logs.delete_log_group(logGroupName=name)
    except CLIENT_ERRORS as error:
        if code_of(error) != "ResourceNotFoundException":
            raise


def _logs(clients: Clients) -> list[Leftover]:
    """Log groups of functions with the prefix; on AWS only."""
    if clients.logs is None:
        return []
    pages = clients.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=LOG_PREFIX + PREFIX)
    return [Leftover("log", group["logGroupName"], "") for page in pages for group in page["logGroups"]]


def _functions(clients: Clients) -> list[Leftover]:
    control, found = clients.control, []
    for page in control.get_paginator("list_functions").paginate():
        for each in page["Functions"]:
            if each["FunctionName"].startswith(PREFIX):
                tags = control.list_tags(Resource=each["FunctionArn"]).get("Tags", {})
                found += [Leftover("function", each["FunctionName"], tags[TAG])] if TAG in tags else []
    return found


def _buckets(clients: Clients) -> list[Leftover]:
    """Buckets with the prefix; those without the tag have no campaign."""
    found = []
    for each in clients.s3.list_buckets().get("Buckets", []):
        if each["Name"].startswith(PREFIX):
            campaign = bucket_tags(clients, each["Name"]).get(TAG, "")
            found.append(Leftover("bucket", each["Name"], campaign))
    return found
