"""The Lambda API as boto3 speaks it: which request does what.

Source: AWS Lambda API reference. Of other requests it says that they are unknown.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lambda_probe.local.calls import Calls
from lambda_probe.local.code import Code, check_size, unpack
from lambda_probe.local.errors import ApiError, invalid
from lambda_probe.local.functions import Function, Functions, changes, checked_tags
from lambda_probe.local.instances import Instances
from lambda_probe.local.loopback import Request, Response
from lambda_probe.local.requests import Requests
from lambda_probe.local.settings import LISTED_AT_ONCE, UNZIPPED_BYTES, LocalSettings
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
        self._acts: dict[str, Callable[[dict[str, Any]], Response]] = {
            "CreateFunction": self._create,
            "ListFunctions": self._list,
            "GetFunction": self._get,
            "DeleteFunction": self._delete,
            "GetFunctionConfiguration": self._get_configuration,
            "UpdateFunctionConfiguration": self._update_configuration,
            "UpdateFunctionCode": self._update_code,
            "Invoke": calls.answer,
            "PutFunctionConcurrency": self._reserve,
            "GetFunctionConcurrency": self._get_reserved,
            "DeleteFunctionConcurrency": self._unreserve,
            "PutFunctionEventInvokeConfig": self._configure_events,
            "GetAccountSettings": self._account,
            "ListTags": self._tags,
            "TagResource": self._tag,
            "UntagResource": self._untag,
        }
        self._requests = Requests(self._acts)

    def answer(self, request: Request) -> Response:
        """What a request gets, errors included."""
        try:
            self._check_signature(request)
            operation, asked = self._requests.read(request)
            return self._acts[operation](asked)
        except ApiError as error:
            return error.response()
        except Exception as error:
            what = (request.method, request.path, type(error).__name__, error)
            _LOG.error("local Lambda: %s %r: %s: %s", *what)
            _LOG.debug("local Lambda: where", exc_info=True)
            return ApiError(500, "ServiceException", f"{type(error).__name__}: {error}").response()

    def _check_signature(self, request: Request) -> None:
        sent = Sent(request.method, request.target, request.received, request.body)
        if fault := fault_of(sent, self._keys, "lambda"):
            raise ApiError(403, *_REFUSALS[fault])

    def _create(self, asked: dict[str, Any]) -> Response:
        self._functions.check_new(asked["FunctionName"])
        changes(asked)
        with self._unpacked(asked["Code"]) as code:
            function = self._functions.create(asked, code)
        return _answer(function.configuration(), 201)

    def _list(self, asked: dict[str, Any]) -> Response:
        page, marker = self._functions.page(asked.get("Marker", ""), asked.get("MaxItems", LISTED_AT_ONCE))
        answer: dict[str, Any] = {"Functions": [function.configuration() for function in page]}
        return _answer(answer | ({"NextMarker": marker} if marker else {}))

    def _get(self, asked: dict[str, Any]) -> Response:
        function = self._functions.get(**_version(asked))
        answer: dict[str, Any] = {"Configuration": function.configuration()}
        answer["Code"] = {"RepositoryType": "local", "Location": function.code.folder.as_uri()}
        if function.tags:
            answer["Tags"] = dict(function.tags)
        if function.reserved is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved}
        return _answer(answer)

    def _get_configuration(self, asked: dict[str, Any]) -> Response:
        return _answer(self._functions.get(**_version(asked)).configuration())

    def _update_configuration(self, asked: dict[str, Any]) -> Response:
        name, revision = asked["FunctionName"], asked.get("RevisionId", "")
        return self._changed(self._functions.update(name, revision, **changes(asked)))

    def _update_code(self, asked: dict[str, Any]) -> Response:
        name, revision = asked["FunctionName"], asked.get("RevisionId", "")
        self._functions.check_update(name, revision)
        with self._unpacked(asked) as code:
            fields = {"code": code, **changes(asked)}
            if not asked.get("DryRun"):
                return self._changed(self._functions.update(name, revision, **fields))
        would_be = replace(self._functions.check_update(name, revision), **fields)
        code.remove()
        return _answer(would_be.configuration())

    def _changed(self, function: Function) -> Response:
        self._instances.retire(function.name)
        return _answer(function.configuration())

    def _delete(self, asked: dict[str, Any]) -> Response:
        self._instances.retire(self._functions.delete(**_version(asked)).name)
        return Response(204)

    def _reserve(self, asked: dict[str, Any]) -> Response:
        instances = asked["ReservedConcurrentExecutions"]
        self._functions.reserve(asked["FunctionName"], instances)
        return _answer({"ReservedConcurrentExecutions": instances})

    def _get_reserved(self, asked: dict[str, Any]) -> Response:
        reserved = self._functions.get(asked["FunctionName"]).reserved
        return _answer({} if reserved is None else {"ReservedConcurrentExecutions": reserved})

    def _unreserve(self, asked: dict[str, Any]) -> Response:
        self._functions.set(asked["FunctionName"], reserved=None)
        return Response(204)

    def _configure_events(self, asked: dict[str, Any]) -> Response:
        function = self._functions.get(**_version(asked))
        retries = asked.get("MaximumRetryAttempts", 2)
        self._functions.set(function.name, event_retries=retries)
        return _answer({"FunctionArn": f"{function.arn}:$LATEST", "MaximumRetryAttempts": retries})

    def _account(self, asked: dict[str, Any]) -> Response:
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

    def _tags(self, asked: dict[str, Any]) -> Response:
        return _answer({"Tags": dict(self._functions.get(asked["Resource"]).tags)})

    def _tag(self, asked: dict[str, Any]) -> Response:
        function = self._functions.get(asked["Resource"])
        self._functions.set(function.name, tags=checked_tags({**function.tags, **asked["Tags"]}))
        return Response(204)

    def _untag(self, asked: dict[str, Any]) -> Response:
        function = self._functions.get(asked["Resource"])
        tags = {key: value for key, value in function.tags.items() if key not in asked["TagKeys"]}
        self._functions.set(function.name, tags=tags)
        return Response(204)

    @contextmanager
    def _unpacked(self, asked: Mapping[str, Any]) -> Iterator[Code]:
        """Code that stays only where what is done with it goes well."""
        code = unpack(self._zip(asked), self._folder)
        try:
            yield code
        except BaseException:
            code.remove()
            raise

    def _zip(self, asked: Mapping[str, Any]) -> bytes:
        if "ZipFile" in asked:
            if "S3Bucket" in asked or "S3Key" in asked:
                raise invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
            return check_size(asked["ZipFile"])
        if "S3Bucket" not in asked or "S3Key" not in asked:
            raise invalid("Please provide a source for function code: ZipFile, or S3Bucket and S3Key.")
        return self._fetch(asked["S3Bucket"], asked["S3Key"])


def _version(asked: Mapping[str, Any]) -> dict[str, str]:
    return {"name": asked["FunctionName"], "qualifier": asked.get("Qualifier", "")}


def _answer(data: Mapping[str, Any], status: int = 200) -> Response:
    return Response(status, json.dumps(data).encode(), {"Content-Type": "application/json"})
