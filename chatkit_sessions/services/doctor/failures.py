"""Why there was no session, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from django.db import Error as StorageError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chatkit_sessions.client import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    InternalServerError,
    NotFoundError,
    ParameterError,
    PermissionDeniedError,
    RateLimitError,
)
from chatkit_sessions.conf import Settings
from chatkit_sessions.exceptions import (
    ChatKitSessionsError,
    NotConfigured,
    SessionLimitReached,
    SessionRefused,
    StorageUnavailable,
)

from .findings import Finding, error
from .key import about_key
from .network import host_of, no_connection
from .site import storage_failed

NO_CREDIT = "insufficient_quota"
KEYS_PAGE = "https://platform.openai.com/api-keys"
BILLING_PAGE = "https://platform.openai.com/settings/organization/billing"
LIMITS_PAGE = "https://platform.openai.com/settings/organization/limits"
STATUS_PAGE = "https://status.openai.com"


def explain(
    failure: APIError | ParameterError | ChatKitSessionsError, settings: Settings, credentials: str
) -> Finding:
    """Say why the API did not do what it was asked with these credentials."""
    cause = failure if isinstance(failure, APIError) else failure.__cause__
    if isinstance(cause, APIConnectionError | APIResponseValidationError):
        return _no_answer(cause, settings, settings.credentials_for(credentials).base_url)
    if isinstance(cause, APIStatusError):
        if isinstance(cause, AuthenticationError):
            return _key_refused(cause, about_key(settings, credentials))
        return _refused(cause)
    if isinstance(failure, StorageUnavailable):
        return _not_stored(failure)
    if isinstance(failure, SessionLimitReached):
        cure = _("Wait, or raise max_sessions_per_hour; the doctor's own sessions count too.")
        return error("limits", str(failure), cure)
    if isinstance(failure, NotConfigured | ParameterError | SessionRefused):
        return error("settings", str(failure), _("Look at CHATKIT_SESSIONS and the workflow in the admin."))
    # Nothing was sent: the API has failed too often, or too many calls are under way.
    wait = _("Try again in %(wait)s.") % {"wait": _seconds(failure.retry_after or 1)}
    return error("api", _("The API was not asked: %(reason)s") % {"reason": failure}, wait)


def _no_answer(cause: APIError, settings: Settings, base_url: str) -> Finding:
    host = host_of(base_url)
    if isinstance(cause, APITimeoutError):
        return error(
            "timeout",
            _("%(host)s did not answer in time (TIMEOUT %(timeout)s, DEADLINE %(deadline)s seconds).")
            % {"host": host, "timeout": settings.timeout, "deadline": settings.deadline},
            _("Check the network, the proxy and %(page)s, or raise TIMEOUT and DEADLINE.")
            % {"page": STATUS_PAGE},
        )
    if isinstance(cause, APIConnectionError):
        return no_connection(cause, base_url)
    return error(
        "answer",
        _("%(host)s answers, but not as the API does: %(said)s") % {"host": host, "said": _said(cause)},
        _("Check that BASE_URL is the API's address with its /v1, and that no proxy answers instead."),
    )


def _key_refused(cause: AuthenticationError, key: Finding) -> Finding:
    said = _said(cause).rstrip(".")
    words = {"status": cause.status_code, "said": said, "key": key.message, "page": KEYS_PAGE}
    return error(
        "key",
        _("The API refused the key (%(status)s: %(said)s). It was %(key)s") % words,
        _("Make a new key at %(page)s and put it where this one came from.") % words,
    )


def _refused(cause: APIStatusError) -> Finding:
    """Say what is behind an error status."""
    said = {"status": cause.status_code, "said": _said(cause)}
    if isinstance(cause, PermissionDeniedError):
        message = _("The API does not permit this (%(status)s): %(said)s")
        cure = _("Let the key write ChatKit sessions at %(page)s, and see what its project is allowed.")
        return error("permission", message % said, cure % {"page": KEYS_PAGE})
    if isinstance(cause, NotFoundError):
        return error(
            "workflow",
            _("The API does not find the workflow or the address (%(status)s): %(said)s") % said,
            _(
                "If the workflow was made in another project than the key, put a key of that project into "
                "CREDENTIALS and name it in the workflow. Else check the workflow id, that it is published, "
                "and that BASE_URL ends in /v1."
            ),
        )
    if isinstance(cause, RateLimitError):
        return _limited(cause, said)
    if isinstance(cause, InternalServerError) or cause.status_code == 408:
        message = _("The API is failing (%(status)s): %(said)s")
        cure = _("Wait, and look at %(page)s; if there is a proxy in between, look at that too.")
        return error("api", message % said, cure % {"page": STATUS_PAGE})
    message = _("The API does not take the request (%(status)s): %(said)s")
    cure = _("Correct the value that the API names, in CHATKIT_SESSIONS or in the workflow in the admin.")
    return error("request", message % said, cure)


def _limited(cause: RateLimitError, said: Mapping[str, object]) -> Finding:
    if cause.code == NO_CREDIT:
        message = _("The OpenAI project has no credit left (%(status)s): %(said)s")
        return error("quota", message % said, _("Add credit at %(page)s.") % {"page": BILLING_PAGE})
    message = _("The API gets too many requests from this project (%(status)s): %(said)s")
    cure = _("Wait %(wait)s; if it stays so, see the project's limits at %(page)s.")
    wait = _("a minute")
    if cause.retry_after is not None:
        wait = _seconds(cause.retry_after)
    return error("rate-limit", message % said, cure % {"wait": wait, "page": LIMITS_PAGE})


def _not_stored(failure: StorageUnavailable) -> Finding:
    if isinstance(failure.__cause__, StorageError) and failure.reference is None:
        return storage_failed(failure.__cause__)
    return error("storage", str(failure), _("Check the database; the log has the details."))


def _said(cause: APIError) -> str:
    """Return on one line what the API said; the client has removed keys and secrets from it."""
    return " ".join(cause.message.split())


def _seconds(seconds: float) -> str:
    number = max(math.ceil(seconds), 1)
    return ngettext("%(n)d second", "%(n)d seconds", number) % {"n": number}
