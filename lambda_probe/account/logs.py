"""What functions and the platform wrote: asynchronous calls tell their REPORT line nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class Logs(Protocol):
    """The logs of functions."""

    def read(self, function: str, since_s: float) -> str:
        """What a function's log has got since a time (s since 1970), or more; so far: lines may come late."""

    def remove(self, function: str) -> None:
        """Delete a function's log, which stays when the function is gone."""


class LocalLogs:
    """Logs that the embedded endpoint keeps in a folder (`LocalSettings.log_folder`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, function: str, since_s: float) -> str:
        """See Logs."""
        file = self._folder / f"{function}.log"
        return file.read_text(errors="replace") if file.is_file() else ""

    def remove(self, function: str) -> None:
        """See Logs."""
        (self._folder / f"{function}.log").unlink(missing_ok=True)


class CloudWatchLogs:
    """Logs on AWS. Args: client: boto3's of CloudWatch Logs."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, function: str, since_s: float) -> str:
        """See Logs."""
        from botocore.exceptions import ClientError

        asked = {"logGroupName": f"/aws/lambda/{function}", "startTime": int(since_s * 1000)}
        try:
            pages = list(self._client.get_paginator("filter_log_events").paginate(**asked))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
                return ""  # nothing has been called yet
            raise
        return "\n".join(event["message"].rstrip("\n") for page in pages for event in page["events"])

    def remove(self, function: str) -> None:
        """See Logs."""
        from botocore.exceptions import ClientError

        try:
            self._client.delete_log_group(logGroupName=f"/aws/lambda/{function}")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "ResourceNotFoundException":
                raise
