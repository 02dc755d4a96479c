"""Requests of the Lambda API, read by AWS's own description of it, which botocore carries.

Names, types, ranges and patterns of all that a request says are held against it, so nothing is dropped or guessed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lambda_probe.local.errors import ApiError, invalid
from lambda_probe.local.loopback import Request
from lambda_probe.local.settings import DEEPEST_JSON

_SHOWN_LETTERS = 100
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_MODELLED = {
    *("FunctionName", "Qualifier", "RevisionId", "DryRun", "Resource", "Tags", "TagKeys"),
    *("Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize", "PackageType", "Architectures"),
    *("Code", "ZipFile", "S3Bucket", "S3Key", "Environment", "Variables", "EphemeralStorage", "Size"),
    *("LoggingConfig", "LogFormat"),
    *("FunctionVersion", "Marker", "MaxItems", "ReservedConcurrentExecutions", "MaximumRetryAttempts"),
    *("InvocationType", "LogType", "ClientContext", "Payload"),
}
_DEFAULTS = {  # AWS's own, of what is not modelled: whoever asks for these gets them
    "Mode": "PassThrough",
    "ApplyOn": "None",
    "ApplicationLogLevel": "INFO",
    "SystemLogLevel": "INFO",
    "MaximumEventAgeInSeconds": 21_600,
    "S3ObjectStorageMode": "COPY",
}


@dataclass(frozen=True)
class _Operation:
    name: str
    method: str
    path: re.Pattern[str]
    shape: Any  # botocore's StructureShape; None: nothing is asked


class Requests:
    """Reads requests of these operations of the Lambda API."""

    def __init__(self, operations: Iterable[str]) -> None:
        import botocore.session

        model = botocore.session.Session().get_service_model("lambda")
        self._operations = [_operation(model.operation_model(name)) for name in operations]

    def read(self, request: Request) -> tuple[str, dict[str, Any]]:
        """The operation, and what is asked of it, by AWS's names; blobs as bytes. Raises ApiError."""
        path = _without_date(request.path)
        for operation in self._operations:
            match = operation.path.fullmatch(path)
            if match and request.method == operation.method:
                return operation.name, _asked(operation.shape, request, match.groupdict())
        raise ApiError(404, "UnknownOperationException", f"{request.method} {path}: not in this endpoint")


def parse_json(text: bytes) -> Any:
    """What is JSON by RFC 8259: UTF-8 without a mark, finite numbers, not nested without bounds.

    Raises ApiError (InvalidRequestContentException).
    """
    try:
        found = json.loads(text.decode(), parse_constant=_refuse_constant)
        if _deeper(found, DEEPEST_JSON):
            raise ValueError(f"nested more than {DEEPEST_JSON} deep")
        return found
    except (ValueError, RecursionError) as error:
        message = f"Could not parse request body into json: {error}"
        raise ApiError(400, "InvalidRequestContentException", message) from None


def _deeper(value: Any, levels: int) -> bool:
    """Whether arrays and objects are nested deeper than so."""
    level = [value]
    for _ in range(levels):
        level = [each for each in level if isinstance(each, list | dict)]
        if not level:
            return False
        level = [each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer)]
    return any(isinstance(each, list | dict) for each in level)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _operation(model: Any) -> _Operation:
    path = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", _without_date(model.http["requestUri"]))
    path = path.replace("(?P<Resource>[^/]+)", "(?P<Resource>.+)")
    return _Operation(model.name, model.http["method"], re.compile(path.rstrip("/") + "/?"), model.input_shape)


def _without_date(path: str) -> str:
    return re.sub(r"^/\d{4}-\d\d-\d\d", "", path)


def _asked(shape: Any, request: Request, in_path: Mapping[str, str]) -> dict[str, Any]:
    if shape is None:
        return {}
    found: dict[str, Any] = {}
    in_body: dict[str, Any] = {}
    for name, member in shape.members.items():
        where, key = member.serialization.get("location"), member.serialization.get("name", name)
        if where == "uri":
            found[name] = in_path[key]
        elif where == "querystring" and key in request.query:
            found[name] = _of_text(member, request.query[key])
        elif where == "header" and key.lower() in request.headers:
            found[name] = request.headers[key.lower()]
        elif where is None:
            in_body[name] = member
    payload = shape.serialization.get("payload")
    if in_body and payload is None:
        found |= _body(request, in_body)
    asked: dict[str, Any] = _checked(shape, found, "")
    return asked | {payload: request.body} if payload else asked


def _of_text(member: Any, values: list[str]) -> Any:
    if member.type_name == "list":
        return values
    try:
        return int(values[0]) if member.type_name == "integer" else values[0]
    except ValueError:
        raise ApiError(400, "SerializationException", f"{member.name}: expected an integer") from None


def _body(request: Request, members: Mapping[str, Any]) -> dict[str, Any]:
    found = parse_json(request.body or b"{}")
    if not isinstance(found, dict):
        raise ApiError(400, "InvalidRequestContentException", "expected a JSON object")
    for name in found.keys() - members.keys():
        raise _unknown("", name)
    return found


def _checked(shape: Any, value: Any, where: str) -> Any:
    """A value as its shape says it is; null is nothing. Raises ApiError."""
    check = {"structure": _structure, "map": _map, "list": _list, "blob": _blob}.get(shape.type_name, _scalar)
    return check(shape, value, where)


def _structure(shape: Any, value: Any, where: str) -> dict[str, Any]:
    _expect(isinstance(value, dict), where, "an object")
    given = {name: each for name, each in value.items() if each is not None}
    for name in shape.required_members:
        if name not in given and shape.members[name].serialization.get("location") != "uri":
            raise _unsatisfied("null", _below(where, name), "Member must not be null")
    found = {}
    for name, each in given.items():
        if name not in shape.members:
            raise _unknown(where, name)
        checked = _checked(shape.members[name], each, _below(where, name))
        if name in _MODELLED:
            found[name] = checked
        elif checked and checked != _DEFAULTS.get(name):
            raise invalid(
                f"{_below(where, name)} '{_shown(checked)}' is not modelled by this endpoint: leave it out"
            )
    return found


def _map(shape: Any, value: Any, where: str) -> dict[str, Any]:
    _expect(isinstance(value, dict), where, "an object")
    for key in value:
        _scalar(shape.key, key, where)
    return {key: _checked(shape.value, each, f"{where}.{key}") for key, each in value.items()}


def _list(shape: Any, value: Any, where: str) -> list[Any]:
    _expect(isinstance(value, list), where, "an array")
    _within(shape, len(value), "length", value, where)
    return [_checked(shape.member, each, f"{where}.{number}.member") for number, each in enumerate(value, 1)]


def _blob(shape: Any, value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ApiError(400, "SerializationException", f"{where}: expected base64") from None


def _scalar(shape: Any, value: Any, where: str) -> Any:
    kind: Any = {"string": str, "boolean": bool}.get(shape.type_name, int)
    _expect(isinstance(value, kind) and isinstance(value, bool) == (kind is bool), where, shape.type_name)
    if kind is str and _NO_TEXT.search(value):
        raise _unsatisfied(value, where, "Member must not have a NUL character, or half of one")
    if shape.name == "RoleArn" or kind is bool:  # roles are not looked at
        return value
    if kind is int:
        _within(shape, value, "value", value, where)
        return value
    _within(shape, len(value), "length", value, where)
    allowed, pattern = getattr(shape, "enum", []), shape.metadata.get("pattern")
    if allowed and value not in allowed:
        raise _unsatisfied(value, where, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
    if pattern and not re.fullmatch(_in_python(pattern), value):
        raise _unsatisfied(value, where, f"Member must satisfy regular expression pattern: {pattern}")
    return value


def _within(shape: Any, size: int, what: str, value: Any, where: str) -> None:
    least, most = shape.metadata.get("min", size), shape.metadata.get("max", size)
    if size < least:
        raise _unsatisfied(value, where, f"Member must have {what} greater than or equal to {least}")
    if size > most:
        raise _unsatisfied(value, where, f"Member must have {what} less than or equal to {most}")


def _in_python(pattern: str) -> str:
    """AWS's patterns are Java's; Python has no classes of Unicode: letters, digits and spaces."""
    return (
        pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\w").replace(r"\p{Z}", " \u00a0\u2000-\u200a\u3000")
    )


def _expect(fits: bool, where: str, what: str) -> None:
    if not fits:
        raise ApiError(400, "SerializationException", f"{where}: expected {what}")


def _unknown(where: str, name: str) -> ApiError:
    return invalid(f"{_below(where, name)}: AWS knows no such parameter of this operation")


def _unsatisfied(value: Any, where: str, constraint: str) -> ApiError:
    at = f"Value '{_shown(value)}' at '{where}'"
    return invalid(f"1 validation error detected: {at} failed to satisfy constraint: {constraint}")


def _below(where: str, name: str) -> str:
    name = _shown(name)
    name = name[:1].lower() + name[1:]
    return f"{where}.{name}" if where else name


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_LETTERS else text[:_SHOWN_LETTERS] + "..."
