"""The functions of an endpoint: their configuration, states, tags and reserved concurrency."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from lambda_probe.local.code import Code
from lambda_probe.local.errors import conflict, invalid, not_found, outdated
from lambda_probe.local.settings import (
    ACCOUNT,
    ENVIRONMENT_BYTES,
    EPHEMERAL_MB,
    LISTED_AT_ONCE,
    MEMORY_MB,
    TAGS,
    TIMEOUT_S,
    LocalSettings,
)

_NAME = re.compile(r"[a-zA-Z0-9-_]{1,64}")
_RUNTIME = re.compile(r"python3\.\d+")
_RESERVED = re.compile(
    r"_HANDLER|_X_AMZN_TRACE_ID|PYTHONPATH|LAMBDA_.*|AWS_LAMBDA_.*|AWS_EXECUTION_ENV|AWS_SESSION_TOKEN|"
    r"AWS_(ACCESS_KEY|ACCESS_KEY_ID|SECRET_ACCESS_KEY|REGION|DEFAULT_REGION)"
)  # AWS's, and PYTHONPATH, which has the managed runtime here
_REFERENCE = re.compile(
    r"(arn:aws[a-zA-Z-]*:lambda:)?((?P<region>[a-z]{2}[a-z-]*-\d):)?((?P<account>\d{12}):)?(function:)?"
    r"(?P<name>[a-zA-Z0-9-_]+)(:(?P<version>\$LATEST|[a-zA-Z0-9-_]+))?"
)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


@dataclass(frozen=True)
class Function:
    """One version of a function. `revision` changes with each update; instances of an older one are not reused."""

    name: str
    arn: str
    code: Code
    handler: str
    runtime: str
    role: str
    memory_mb: int = 128
    timeout_s: int = 3
    description: str = ""
    architectures: tuple[str, ...] = ("x86_64",)
    ephemeral_mb: int = 512
    environment: Mapping[str, str] = field(default_factory=dict)
    log_format: str = "Text"
    reserved: int | None = None
    event_retries: int = 2
    tags: Mapping[str, str] = field(default_factory=dict)
    updated: bool = False
    ready_at: float = 0.0
    revision: str = field(default_factory=lambda: str(uuid.uuid4()))
    modified: str = field(default_factory=_now)

    @property
    def pending(self) -> bool:
        """Whether it is not ready yet: just created, or just changed."""
        return time.monotonic() < self.ready_at

    def configuration(self) -> dict[str, Any]:
        """As GetFunctionConfiguration answers."""
        new = self.pending and not self.updated
        answer: dict[str, Any] = {
            "FunctionName": self.name,
            "FunctionArn": self.arn,
            "Runtime": self.runtime,
            "Role": self.role,
            "Handler": self.handler,
            "CodeSize": self.code.size,
            "CodeSha256": self.code.sha256,
            "Description": self.description,
            "Timeout": self.timeout_s,
            "MemorySize": self.memory_mb,
            "LastModified": self.modified,
            "Version": "$LATEST",
            "RevisionId": self.revision,
            "PackageType": "Zip",
            "Architectures": list(self.architectures),
            "EphemeralStorage": {"Size": self.ephemeral_mb},
            "TracingConfig": {"Mode": "PassThrough"},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": self.log_format, "LogGroup": f"/aws/lambda/{self.name}"},
            "State": "Pending" if new else "Active",
            "LastUpdateStatus": "InProgress" if self.pending and self.updated else "Successful",
        }
        if new:
            answer |= {"StateReason": "The function is being created.", "StateReasonCode": "Creating"}
        if self.environment:
            answer["Environment"] = {"Variables": dict(self.environment)}
        return answer


def changes(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Function that a request to create or update one sets, but for code and tags.

    Raises ApiError (InvalidParameterValueException) for values that AWS refuses, or that cannot run here.
    """
    found: dict[str, Any] = {}
    if "MemorySize" in request:
        found["memory_mb"] = _within(request["MemorySize"], MEMORY_MB, "memorySize")
    if "Timeout" in request:
        found["timeout_s"] = _within(request["Timeout"], TIMEOUT_S, "timeout")
    if "EphemeralStorage" in request:
        found["ephemeral_mb"] = _within(request["EphemeralStorage"]["Size"], EPHEMERAL_MB, "ephemeralStorage.size")
    if "Runtime" in request and not _RUNTIME.fullmatch(request["Runtime"]):
        raise invalid(f"Value '{request['Runtime'][:100]}' at 'runtime': only python3.x runs here")
    if request.get("PackageType", "Zip") != "Zip":
        raise invalid("Images do not run here: upload a zip")
    if "Environment" in request:
        found["environment"] = _environment(request["Environment"].get("Variables", {}))
    if "LoggingConfig" in request:
        found["log_format"] = request["LoggingConfig"].get("LogFormat", "Text")
    if "Architectures" in request:
        found["architectures"] = tuple(request["Architectures"])
    for key, name in (
        ("Runtime", "runtime"),
        ("Handler", "handler"),
        ("Role", "role"),
        ("Description", "description"),
    ):
        if key in request:
            found[name] = request[key]
    return found


def _within(value: int, bounds: tuple[int, int], name: str) -> int:
    """A size or time in the range that AWS has today (its own description allows what accounts may get later)."""
    if not bounds[0] <= value <= bounds[1]:
        raise invalid(
            f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
            f"Member must have value between {bounds[0]} and {bounds[1]}"
        )
    return value


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    cannot = (
        "Lambda was unable to configure your environment variables because the environment variables you have "
        "provided"
    )
    reserved = sorted(name for name in variables if _RESERVED.fullmatch(name))
    if reserved:
        raise invalid(
            f"{cannot} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > ENVIRONMENT_BYTES:
        raise invalid(f"{cannot} exceeded the 4KB limit. String measured: {measured[:100]}...")
    return dict(variables)


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a function. Raises ApiError where they are too many, or AWS's own."""
    if len(tags) > TAGS:
        raise invalid("Number of tags exceeds resource tag limit.")
    if any(key.lower().startswith("aws:") for key in tags):
        raise invalid(
            "Your request contains one or more reserved tag keys: expected keys without aws: before them"
        )
    return dict(tags)


class Functions:
    """All functions of an endpoint, by name or ARN."""

    def __init__(self, settings: LocalSettings) -> None:
        self._settings, self._lock = settings, Lock()
        self._all: dict[str, Function] = {}

    def get(self, name: str, qualifier: str = "") -> Function:
        """By name, ARN or partial ARN. Of versions there is $LATEST only. Raises ApiError (not found)."""
        name, qualifier = self._parsed(name, qualifier)
        found = self._all.get(name)
        if found is None or qualifier not in ("", "$LATEST"):
            raise not_found(self.arn(name) + (f":{qualifier}" if qualifier else ""))
        return found

    def page(self, marker: str, most: int) -> tuple[list[Function], str]:
        """Functions after a marker, and the marker of the next page, empty where there is none."""
        rest = [function for function in self.all() if function.name > marker]
        page = rest[: min(most, LISTED_AT_ONCE)]
        return page, page[-1].name if len(page) < len(rest) else ""

    def all(self) -> list[Function]:
        """Sorted by name."""
        return [self._all[name] for name in sorted(self._all)]

    def arn(self, name: str) -> str:
        """Of a function of this name."""
        return f"arn:aws:lambda:{self._settings.region}:{ACCOUNT}:function:{name}"

    def check_new(self, name: str) -> str:
        """The name of a function that can be created. Raises ApiError."""
        parsed, qualifier = self._parsed(name)
        if qualifier or not _NAME.fullmatch(parsed):
            raise invalid(
                f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
                f"Member must satisfy regular expression pattern: {_NAME.pattern}"
            )
        if parsed in self._all:
            raise conflict(f"Function already exist: {parsed}")
        return parsed

    def create(self, request: Mapping[str, Any], code: Code) -> Function:
        """A new function, Pending at first."""
        fields = changes(request)
        missing = [key for key in ("handler", "runtime", "role") if not fields.get(key)]
        if missing:
            raise invalid(f"{', '.join(missing)}: needed for a zip package")
        fields["tags"] = checked_tags(request.get("Tags", {}))
        ready_at = time.monotonic() + self._settings.pending_s
        with self._lock:
            name = self.check_new(request["FunctionName"])
            function = Function(name=name, arn=self.arn(name), code=code, ready_at=ready_at, **fields)
            self._all[name] = function
        return function

    def check_update(self, name: str, revision: str = "") -> Function:
        """A function that can be changed now. Raises ApiError where it is another revision, or pending."""
        function = self.get(name)
        if revision and revision != function.revision:
            raise outdated()
        if function.pending:
            now = f"An update is in progress for resource: {function.arn}"
            if not function.updated:
                now = "The function is currently in the following state: Pending"
            raise conflict(f"The operation cannot be performed at this time. {now}")
        return function

    def update(self, name: str, revision: str = "", **fields: Any) -> Function:
        """Change code or configuration: a new revision. Raises ApiError as `check_update` does."""
        with self._lock:
            changed = replace(
                self.check_update(name, revision),
                updated=True,
                ready_at=time.monotonic() + self._settings.pending_s,
                revision=str(uuid.uuid4()),
                modified=_now(),
                **fields,
            )
            self._all[changed.name] = changed
        return changed

    def set(self, name: str, **fields: Any) -> Function:
        """Change tags or reserved concurrency: instances stay."""
        with self._lock:
            changed = replace(self.get(name), **fields)
            self._all[changed.name] = changed
        return changed

    def reserve(self, name: str, instances: int) -> Function:
        """Reserve concurrency. Raises ApiError when the account has not so much."""
        with self._lock:
            function = self.get(name)
            others = sum(other.reserved or 0 for other in self._all.values() if other.name != function.name)
            if instances < 0 or others + instances > self._settings.account_concurrency:
                raise invalid(
                    f"Specified ReservedConcurrentExecutions {instances}: the account has "
                    f"{self._settings.account_concurrency}, {others} of them reserved"
                )
            self._all[function.name] = replace(function, reserved=instances)
        return self._all[function.name]

    def unreserved(self) -> int:
        """Concurrency of the account that functions without a reservation share."""
        return self._settings.account_concurrency - sum(function.reserved or 0 for function in self.all())

    def delete(self, name: str, qualifier: str = "") -> Function:
        """Forget it. Raises ApiError where a version is named: $LATEST goes with its function only."""
        with self._lock:
            function = self.get(name, qualifier)
            if self._parsed(name, qualifier)[1]:
                raise invalid("$LATEST version cannot be deleted without deleting the function.")
            return self._all.pop(function.name)

    def _parsed(self, name: str, qualifier: str = "") -> tuple[str, str]:
        """The bare name, and the version that the name or `qualifier` says, empty where none is said."""
        match = _REFERENCE.fullmatch(name)
        if match is None:
            raise invalid(f"Value '{name[:100]}' at 'functionName': expected a name or an ARN")
        if match["region"] not in (None, self._settings.region) or match["account"] not in (None, ACCOUNT):
            raise not_found(name)
        if match["version"] and qualifier not in ("", match["version"]):
            raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
        return match["name"], match["version"] or qualifier
