"""The Lambda API as boto3 speaks it: which request does what.

Source: AWS Lambda API reference. Of other requests it says that they are unknown.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lambda_probe.local.calls import Calls
from lambda_probe.local.code import Code, check_size, unpack
from lambda_probe.local.errors import ApiError, invalid
from lambda_probe.local.functions import Function, Functions, changes
from lambda_probe.local.instances import Instances
from lambda_probe.local.loopback import Request, Response
from lambda_probe.local.settings import UNZIPPED_BYTES, LocalSettings
from lambda_probe.local.signatures import Sent, fault_of
from lambda_probe.local.walls import Keys

_REFUSALS = {
    "missing": ("MissingAuthenticationTokenException", "Missing Authentication Token"),
    "key": ("UnrecognizedClientException", "The security token included in the request is invalid."),
    "signature": ("InvalidSignatureException", "The request signature does not match the one calculated here."),
}
_LOG = logging.getLogger(__name__)


class LambdaApi:
    """Answers requests.

    Args:
        folder: code is unpacked under it.
        fetch: an object of the endpoint's S3, by bucket and key.
        keys: with which requests are signed.
    """

    def __init__(
        self,
        functions: Functions,
        instances: Instances,
        calls: Calls,
        settings: LocalSettings,
        folder: Path,
        fetch: Callable[[str, str], bytes],
        keys: Keys,
    ) -> None:
        self._keys = keys
        self._functions, self._instances = functions, instances
        self._settings, self._folder, self._fetch = settings, folder, fetch
        one = r"/functions/([^/]+)"
        self._routes: list[tuple[str, str, Callable[[Request, str], Response]]] = [
            ("POST", r"/functions/?", self._create),
            ("GET", r"/functions/?", self._list),
            ("GET", one, self._get),
            ("DELETE", one, self._delete),
            ("GET", one + "/configuration", self._get_configuration),
            ("PUT", one + "/configuration", self._update_configuration),
            ("PUT", one + "/code", self._update_code),
            ("POST", one + "/invocations", calls.answer),
            ("PUT", one + "/concurrency", self._reserve),
            ("GET", one + "/concurrency", self._get_reserved),
            ("DELETE", one + "/concurrency", self._unreserve),
            ("PUT", one + "/event-invoke-config", self._configure_events),
            ("GET", "/account-settings/?", self._account),
            ("GET", "/tags/(.+)", self._tags),
            ("POST", "/tags/(.+)", self._tag),
            ("DELETE", "/tags/(.+)", self._untag),
        ]

    def answer(self, request: Request) -> Response:
        """What a request gets, errors included."""
        path = re.sub(r"^/\d{4}-\d\d-\d\d", "", request.path)
        try:
            self._check_signature(request)
            for method, pattern, act in self._routes:
                match = re.fullmatch(pattern, path)
                if match and method == request.method:
                    return act(request, match[1] if match.groups() else "")
            raise ApiError(404, "UnknownOperationException", f"{request.method} {path}: not in this endpoint")
        except ApiError as error:
            return error.response()
        except Exception as error:
            _LOG.error("local Lambda: %s %r: %s: %s", request.method, path, type(error).__name__, error)
            _LOG.debug("local Lambda: where", exc_info=True)
            return ApiError(500, "ServiceException", f"{type(error).__name__}: {error}").response()

    def _check_signature(self, request: Request) -> None:
        fault = fault_of(
            Sent(request.method, request.target, request.received, request.body), self._keys, "lambda"
        )
        if fault:
            raise ApiError(403, *_REFUSALS[fault])

    def _create(self, request: Request, _: str) -> Response:
        asked = _json(request)
        self._functions.check_new(str(asked.get("FunctionName", "")))
        changes(asked)
        function = self._functions.create(asked, self._code(asked.get("Code", {})))
        return _answer(function.configuration(), 201)

    def _list(self, request: Request, _: str) -> Response:
        return _answer({"Functions": [function.configuration() for function in self._functions.all()]})

    def _get(self, request: Request, name: str) -> Response:
        function = self._functions.get(name)
        answer: dict[str, Any] = {"Configuration": function.configuration()}
        answer["Code"] = {"RepositoryType": "local", "Location": function.code.folder.as_uri()}
        if function.tags:
            answer["Tags"] = dict(function.tags)
        if function.reserved is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved}
        return _answer(answer)

    def _get_configuration(self, request: Request, name: str) -> Response:
        return _answer(self._functions.get(name).configuration())

    def _update_configuration(self, request: Request, name: str) -> Response:
        return self._changed(self._functions.update(name, **changes(_json(request))))

    def _update_code(self, request: Request, name: str) -> Response:
        self._functions.get(name)
        return self._changed(self._functions.update(name, code=self._code(_json(request))))

    def _changed(self, function: Function) -> Response:
        self._instances.retire(function.name)
        return _answer(function.configuration())

    def _delete(self, request: Request, name: str) -> Response:
        self._instances.retire(self._functions.delete(name).name)
        return Response(204)

    def _reserve(self, request: Request, name: str) -> Response:
        instances = int(_json(request)["ReservedConcurrentExecutions"])
        self._functions.reserve(name, instances)
        return _answer({"ReservedConcurrentExecutions": instances})

    def _get_reserved(self, request: Request, name: str) -> Response:
        reserved = self._functions.get(name).reserved
        return _answer({} if reserved is None else {"ReservedConcurrentExecutions": reserved})

    def _unreserve(self, request: Request, name: str) -> Response:
        self._functions.set(name, reserved=None)
        return Response(204)

    def _configure_events(self, request: Request, name: str) -> Response:
        retries = _json(request).get("MaximumRetryAttempts", 2)
        if retries not in (0, 1, 2):
            raise invalid(f"Value '{retries}' at 'maximumRetryAttempts': expected 0 to 2")
        function = self._functions.set(name, event_retries=retries)
        return _answer({"FunctionArn": function.arn, "MaximumRetryAttempts": retries})

    def _account(self, request: Request, _: str) -> Response:
        functions = self._functions.all()
        limit = {
            "TotalCodeSize": 75 * 2**30,
            "CodeSizeUnzipped": UNZIPPED_BYTES,
            "CodeSizeZipped": 50 * 2**20,
            "ConcurrentExecutions": self._settings.account_concurrency,
            "UnreservedConcurrentExecutions": self._functions.unreserved(),
        }
        usage = {"TotalCodeSize": sum(each.code.size for each in functions), "FunctionCount": len(functions)}
        return _answer({"AccountLimit": limit, "AccountUsage": usage})

    def _tags(self, request: Request, arn: str) -> Response:
        return _answer({"Tags": dict(self._functions.get(arn).tags)})

    def _tag(self, request: Request, arn: str) -> Response:
        tags = {**self._functions.get(arn).tags, **_json(request)["Tags"]}
        self._functions.set(arn, tags=tags)
        return Response(204)

    def _untag(self, request: Request, arn: str) -> Response:
        gone = request.query.get("tagKeys", [])
        tags = {key: value for key, value in self._functions.get(arn).tags.items() if key not in gone}
        self._functions.set(arn, tags=tags)
        return Response(204)

    def _code(self, asked: Mapping[str, Any]) -> Code:
        if "ZipFile" in asked:
            try:
                zipped = check_size(base64.b64decode(asked["ZipFile"], validate=True))
            except (binascii.Error, TypeError):
                raise invalid("ZipFile: expected base64") from None
        elif "S3Bucket" in asked and "S3Key" in asked:
            zipped = self._fetch(asked["S3Bucket"], asked["S3Key"])
        else:
            raise invalid("Code: expected ZipFile, or S3Bucket and S3Key")
        return unpack(zipped, self._folder)


def _json(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(request.body or b"{}")
    except ValueError as error:
        message = f"Could not parse request body into json: {error}"
        raise ApiError(400, "InvalidRequestContentException", message) from None
    if not isinstance(found, dict):
        raise ApiError(400, "InvalidRequestContentException", "expected a JSON object")
    return {key: value for key, value in found.items() if value is not None}


def _answer(data: Mapping[str, Any], status: int = 200) -> Response:
    return Response(status, json.dumps(data).encode(), {"Content-Type": "application/json"})
