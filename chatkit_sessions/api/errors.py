"""The one table from an error to its HTTP status, and the one shape that every error has."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from chatkit_sessions.exceptions import (
    ChatKitSessionsError,
    InvalidRequest,
    NotAuthenticated,
    NotConfigured,
    StorageUnavailable,
)

logger = logging.getLogger("chatkit_sessions")

STATUS_BY_CODE: Mapping[str, int] = {
    "invalid": 400,
    "not_authenticated": 403,
    "blocked": 403,
    "workflow_not_found": 404,
    "session_not_found": 404,
    "thread_not_found": 404,
    "session_limit_reached": 429,
    "throttled": 429,
    "upstream_rejected": 502,
    "upstream_invalid_response": 502,
    "upstream_rate_limited": 503,
    "upstream_unavailable": 503,
    "not_configured": 503,
    "storage_unavailable": 503,
    "upstream_timeout": 504,
}
# Seconds to name in Retry-After where a throttle class names none.
DEFAULT_THROTTLE_WAIT = 60.0
# For the operator, whose words are not for a browser.
_PRIVATE = (NotConfigured, StorageUnavailable)


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer an error in the promised shape; None leaves it to Django, as a 500."""
    if isinstance(error, ChatKitSessionsError):
        return _ours(error)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, exceptions.APIException):
        return _rest_framework(error)
    return None


def _ours(error: ChatKitSessionsError) -> Response:
    set_rollback()
    private = isinstance(error, _PRIVATE)
    if private:
        logger.error("Answered %s: %s", error.code, error)
    body: dict[str, Any] = {
        "detail": str(error.default_message if private or isinstance(error, InvalidRequest) else error),
        "code": error.code,
        "reference": error.reference,
    }
    if isinstance(error, InvalidRequest):
        body["errors"] = error.errors
    return _response(body, STATUS_BY_CODE[error.code], error.retry_after)


def _rest_framework(error: exceptions.APIException) -> Response:
    set_rollback()
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    body: dict[str, Any] = {"detail": _sentence(error), "code": _code(error), "reference": None}
    if isinstance(error, exceptions.ValidationError):
        body["errors"] = error.detail
    return _response(body, error.status_code, _wait(error), headers)


def _wait(error: exceptions.APIException) -> float | None:
    if not isinstance(error, exceptions.Throttled):
        return None
    # A throttle class may leave open how long.
    wait: float | None = getattr(error, "wait", None)
    return DEFAULT_THROTTLE_WAIT if wait is None else wait


def _sentence(error: exceptions.APIException) -> str:
    if isinstance(error, exceptions.ValidationError):
        return str(InvalidRequest.default_message)
    if isinstance(error, exceptions.NotAuthenticated):
        return str(NotAuthenticated.default_message)
    return str(error.detail if isinstance(error.detail, str) else error.default_detail)


def _code(error: exceptions.APIException) -> str:
    if isinstance(error, exceptions.ValidationError | exceptions.ParseError):
        return "invalid"
    codes = error.get_codes()
    return codes if isinstance(codes, str) else error.default_code


def _response(
    body: dict[str, Any], status: int, retry_after: float | None, headers: dict[str, str] | None = None
) -> Response:
    response = Response(body, status=status, headers=headers)
    if retry_after is not None:
        response["Retry-After"] = str(max(math.ceil(retry_after), 1))
    return response
