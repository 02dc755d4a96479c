"""The functions of an endpoint: their configuration, states, tags and reserved concurrency."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from lambda_probe.local.code import Code
from lambda_probe.local.errors import conflict, invalid, not_found
from lambda_probe.local.settings import ACCOUNT, MEMORY_MB, TIMEOUT_S, LocalSettings

_NAME = re.compile(r"[a-zA-Z0-9-_]{1,64}")
_RUNTIME = re.compile(r"python3\.\d+")
_RESERVED = re.compile(r"_HANDLER|PYTHONPATH|LAMBDA_.*|AWS_LAMBDA_.*|AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|REGION)")


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
            "State": "Pending" if new else "Active",
            "LastUpdateStatus": "InProgress" if self.pending and self.updated else "Successful",
        }
        if new:
            answer |= {"StateReason": "The function is being created.", "StateReasonCode": "Creating"}
        if self.environment:
            answer["Environment"] = {"Variables": dict(self.environment)}
        return answer


def changes(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Function that a Create or UpdateFunctionConfiguration request sets.

    Raises ApiError (InvalidParameterValueException) for values that AWS refuses, or that cannot run here.
    """
    found: dict[str, Any] = {}
    if "MemorySize" in request:
        found["memory_mb"] = _within(request["MemorySize"], MEMORY_MB, "memorySize")
    if "Timeout" in request:
        found["timeout_s"] = _within(request["Timeout"], TIMEOUT_S, "timeout")
    if "Runtime" in request:
        if not _RUNTIME.fullmatch(request["Runtime"]):
            raise invalid(f"Value {request['Runtime']} at 'runtime': only python3.x runs here")
        found["runtime"] = request["Runtime"]
    if "Handler" in request:
        found["handler"] = request["Handler"]
    if "Environment" in request:
        found["environment"] = dict(request["Environment"].get("Variables", {}))
        reserved = sorted(name for name in found["environment"] if _RESERVED.fullmatch(name))
        if reserved:
            raise invalid(f"Environment has reserved keys that are not supported for modification: {reserved}")
    if request.get("PackageType", "Zip") != "Zip" or request.get("Layers"):
        raise invalid("Images and layers do not run here: upload a zip")
    for key, name in (("Role", "role"), ("Description", "description")):
        if key in request:
            found[name] = request[key]
    if "Architectures" in request:
        found["architectures"] = tuple(request["Architectures"])
    if "EphemeralStorage" in request:
        found["ephemeral_mb"] = _within(request["EphemeralStorage"]["Size"], (512, 10_240), "ephemeralStorage")
    return found


def _within(value: int, bounds: tuple[int, int], name: str) -> int:
    if not isinstance(value, int) or not bounds[0] <= value <= bounds[1]:
        raise invalid(
            f"Value '{value}' at '{name}' failed to satisfy constraint: between {bounds[0]} and {bounds[1]}"
        )
    return value


class Functions:
    """All functions of an endpoint, by name or ARN."""

    def __init__(self, settings: LocalSettings) -> None:
        self._settings, self._lock = settings, Lock()
        self._all: dict[str, Function] = {}

    def get(self, name: str) -> Function:
        """By name, ARN or partial ARN. Raises ApiError (ResourceNotFoundException)."""
        name = name.split("function:")[-1].split(":")[0]
        found = self._all.get(name)
        if found is None:
            raise not_found(self.arn(name))
        return found

    def all(self) -> list[Function]:
        """Sorted by name."""
        return [self._all[name] for name in sorted(self._all)]

    def arn(self, name: str) -> str:
        """Of a function of this name."""
        return f"arn:aws:lambda:{self._settings.region}:{ACCOUNT}:function:{name}"

    def check_new(self, name: str) -> None:
        """Raises ApiError when a function of this name cannot be created."""
        if not _NAME.fullmatch(name):
            raise invalid(f"Value '{name}' at 'functionName' failed to satisfy constraint: {_NAME.pattern}")
        if name in self._all:
            raise conflict(f"Function already exist: {name}")

    def create(self, request: Mapping[str, Any], code: Code) -> Function:
        """A new function, Pending at first."""
        name = request["FunctionName"]
        fields = changes(request)
        missing = [key for key in ("handler", "runtime", "role") if not fields.get(key)]
        if missing:
            raise invalid(f"{', '.join(missing)}: needed for a zip package")
        ready_at = time.monotonic() + self._settings.pending_s
        tags = dict(request.get("Tags", {}))
        function = Function(name=name, arn=self.arn(name), code=code, tags=tags, ready_at=ready_at, **fields)
        with self._lock:
            self.check_new(name)
            self._all[name] = function
        return function

    def update(self, name: str, **fields: Any) -> Function:
        """Change code or configuration: a new revision. Raises ApiError (a conflict) while it is pending."""
        with self._lock:
            function = self.get(name)
            if function.pending:
                state = "Pending" if not function.updated else "an update is in progress"
                raise conflict(
                    "The operation cannot be performed at this time. "
                    f"The function is currently in the following state: {state}"
                )
            changed = replace(
                function,
                updated=True,
                ready_at=time.monotonic() + self._settings.pending_s,
                revision=str(uuid.uuid4()),
                modified=_now(),
                **fields,
            )
            self._all[function.name] = changed
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

    def delete(self, name: str) -> Function:
        """Forget it."""
        with self._lock:
            return self._all.pop(self.get(name).name)
