"""Errors of the services. Each has a stable code, which the HTTP interface turns into a status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _


class ChatKitSessionsError(Exception):
    """Base of everything the services raise.

    Attributes:
        code: stable word for programs.
        message: translated sentence for a person; shows nothing of what the API said.
        reference: the audit row's reference as text, or None where no row was written.
        retry_after: seconds after which trying again may help, or None.
    """

    code: ClassVar[str] = "error"
    default_message: ClassVar[Any] = _("The chat could not be started.")

    def __init__(
        self, message: Any = None, *, reference: str | None = None, retry_after: float | None = None
    ) -> None:
        self.message = message or self.default_message
        self.reference = reference
        self.retry_after = retry_after
        super().__init__(self.message)

    def __str__(self) -> str:
        return str(self.message)


class SessionRefused(ChatKitSessionsError):
    """The request is refused here; the API was not asked."""


class InvalidRequest(SessionRefused):
    """An argument is out of its bounds.

    Attributes:
        errors: for each offending field, what is wrong and what is allowed.
    """

    code = "invalid"
    default_message = _("The request is not valid.")

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = dict(errors)
        details = " ".join(f"{field}: {' '.join(reasons)}" for field, reasons in self.errors.items())
        super().__init__(details)


class NotAuthenticated(SessionRefused):
    """Nobody to issue a session for."""

    code = "not_authenticated"
    default_message = _("Sign in to start a chat.")


class Blocked(SessionRefused):
    """An override blocks this user or one of the user's groups."""

    code = "blocked"
    default_message = _("You may not start a chat. Ask the site's operator if you think you should.")


class SessionLimitReached(SessionRefused):
    """This person has as many sessions as allowed; ``retry_after`` says when a place becomes free."""

    code = "session_limit_reached"
    default_message = _("You have started as many chats as you may for now. Try again later.")


class Throttled(SessionRefused):
    """Too many sessions were started from this visitor's address; ``retry_after`` says when to try again."""

    code = "throttled"
    default_message = _("Too many chats were started from your network. Try again later, or sign in.")


class WorkflowNotFound(SessionRefused):
    """The workflow is unknown, inactive or not open to this user: never told apart."""

    code = "workflow_not_found"
    default_message = _("There is no such workflow for you. Ask the site's operator if there should be.")


class SessionNotFound(SessionRefused):
    """The session is unknown or not the caller's."""

    code = "session_not_found"
    default_message = _("There is no such chat session of yours.")


class ThreadNotFound(SessionRefused):
    """The thread is unknown or not the caller's."""

    code = "thread_not_found"
    default_message = _("There is no such conversation of yours.")


class NotConfigured(ChatKitSessionsError):
    """The site lacks a key, a valid setting or its default workflow."""

    code = "not_configured"
    default_message = _("The chat is not set up on this site.")


class StorageUnavailable(ChatKitSessionsError):
    """The audit row could not be written or settled, so no client secret is given out."""

    code = "storage_unavailable"
    default_message = _("The chat could not be recorded, so it was not started. Try again in a moment.")


class UpstreamError(ChatKitSessionsError):
    """The API did not do what it was asked."""

    code = "upstream_unavailable"


class UpstreamRejected(UpstreamError):
    """The API refused the request or the key: an operator must act."""

    code = "upstream_rejected"
    default_message = _("The chat service refused the request. The site's operator has to look at this.")


class UpstreamInvalidResponse(UpstreamError):
    """The API's answer cannot be used."""

    code = "upstream_invalid_response"
    default_message = _("The chat service gave an answer that cannot be used. Try again in a moment.")


class UpstreamRateLimited(UpstreamError):
    """The API has too many requests from this site."""

    code = "upstream_rate_limited"
    default_message = _("The chat service is busy. Try again in a moment.")


class UpstreamUnavailable(UpstreamError):
    """The API cannot be reached or is failing."""

    code = "upstream_unavailable"
    default_message = _("The chat service is not available. Try again in a moment.")


class UpstreamTimeout(UpstreamError):
    """The API gave no answer in time."""

    code = "upstream_timeout"
    default_message = _("The chat service did not answer in time. Try again in a moment.")
