"""Errors as the Lambda API answers them."""

from __future__ import annotations

import json

from lambda_probe.local.loopback import Response


class ApiError(Exception):
    """An error answer: HTTP status, the exception's name in boto3, message and, for throttles, the reason."""

    def __init__(self, status: int, name: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.name, self.message, self.reason = status, name, message, reason

    def response(self) -> Response:
        """What goes over the wire."""
        body = {"Type": "User" if self.status < 500 else "Service", "message": self.message}
        if self.reason:
            body["Reason"] = self.reason
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": self.name}
        return Response(self.status, json.dumps(body).encode(), headers)


def invalid(message: str) -> ApiError:
    """InvalidParameterValueException."""
    return ApiError(400, "InvalidParameterValueException", message)


def conflict(message: str) -> ApiError:
    """ResourceConflictException."""
    return ApiError(409, "ResourceConflictException", message)


def not_found(arn: str) -> ApiError:
    """ResourceNotFoundException."""
    return ApiError(404, "ResourceNotFoundException", f"Function not found: {arn}")


def outdated() -> ApiError:
    """PreconditionFailedException."""
    message = (
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to "
        "retrieve the latest Revision Id"
    )
    return ApiError(412, "PreconditionFailedException", message)


def throttled(reason: str) -> ApiError:
    """TooManyRequestsException."""
    return ApiError(429, "TooManyRequestsException", "Rate Exceeded.", reason)
