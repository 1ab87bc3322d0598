"""End a session: here at once, at the API as soon as it can be reached."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error as StorageError
from django.utils import timezone
from django.utils.translation import gettext as _

from chatkit_sessions import signals
from chatkit_sessions.client import APIError, ParameterError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import InvalidRequest, NotConfigured, StorageUnavailable
from chatkit_sessions.issuers.openai import OpenAIIssuer
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, Status

from .storage import database

logger = logging.getLogger("chatkit_sessions")

MAX_REASON_LENGTH = 255


def cancel_session(session: ChatSession, *, by: Any = None, reason: str = "") -> ChatSession:
    """Cancel a running session; one that has ended stays as it is, so that repeating is harmless.

    From here on it is not handed out again, even if the API cannot be told now: ``cancel_requested_at`` is
    set until the API has been told.

    Args:
        by: the account that ends it, for the audit.
        reason: for the audit, at most 255 characters.

    Raises:
        InvalidRequest: the reason is too long.
        StorageUnavailable: the database failed, and the session goes on.
    """
    _check_reason(reason)
    with _recording(str(session.reference)):
        ended = end_here(session, by=by, reason=reason)
    if ended:
        announce_end(session)
    end_at_the_api(session)
    return session


@dataclass(frozen=True)
class BulkCancellation:
    """What came of cancelling many sessions.

    Attributes:
        ended: how many were running and are cancelled here.
        due: of how many of them the API has yet to be told.
    """

    ended: int
    due: int


def cancel_sessions(
    sessions: ChatSessionQuerySet, *, by: Any = None, reason: str = "", seconds: float = 10
) -> BulkCancellation:
    """Cancel the running ones of these sessions: here at once, at the API for at most so many seconds.

    Raises:
        InvalidRequest: the reason is too long.
        StorageUnavailable: the database failed; those it has ended stay so.
    """
    _check_reason(reason)
    until = time.monotonic() + seconds
    with _recording():
        ended = [session for session in sessions.running() if end_here(session, by=by, reason=reason)]
    for session in ended:
        announce_end(session)
    for session in ended:
        end_at_the_api(session, seconds=until - time.monotonic())
    return BulkCancellation(len(ended), sum(row.cancel_requested_at is not None for row in ended))


async def acancel_session(session: ChatSession, *, by: Any = None, reason: str = "") -> ChatSession:
    """Do as ``cancel_session``."""
    return await sync_to_async(cancel_session)(session, by=by, reason=reason)


def end_here(session: ChatSession, *, by: Any, reason: str) -> bool:
    """Cancel the row if it is running, and return whether it was.

    Raises:
        StorageError: the database failed.
    """
    now = timezone.now()
    values = {
        "status": Status.CANCELLED,
        "ended_at": now,
        "ended_by": by if getattr(by, "pk", None) is not None else None,  # a visitor is no account
        "end_reason": reason,
        # Without an id the API cannot be told; the session runs out by itself.
        "cancel_requested_at": now if session.upstream_id else None,
    }
    if not ChatSession.objects.filter(pk=session.pk).running(now).update(**values):
        session.refresh_from_db(using=database())
        return False
    for name, value in values.items():
        setattr(session, name, value)
    return True


def announce_end(session: ChatSession) -> None:
    """Tell the receivers that a session was cancelled here."""
    signals.session_cancelled.send_robust(
        sender=ChatSession, session=session, by=session.ended_by, reason=session.end_reason
    )


def end_at_the_api(session: ChatSession, *, seconds: float | None = None) -> bool:
    """Tell the API of a session that was cancelled here, unless it knows; return whether it was told now.

    Args:
        seconds: how long this may take, where that is less than DEADLINE.
    """
    if session.cancel_requested_at is None:
        return False
    if not withdraw(session, session.upstream_id, seconds=seconds):
        return False
    try:
        ChatSession.objects.filter(pk=session.pk).update(cancel_requested_at=None)
    except StorageError:
        logger.exception("Session %s: that the API was told could not be recorded.", session.reference)
        return False
    session.cancel_requested_at = None
    return True


def withdraw(session: ChatSession, upstream_id: str, *, seconds: float | None = None) -> bool:
    """End a session at the API, for at most so many seconds, and return whether it is ended there."""
    if seconds is not None and seconds <= 0:
        return False
    try:
        settings = get_settings()
        if seconds is not None:
            settings = dataclasses.replace(settings, deadline=min(settings.deadline, seconds))
        OpenAIIssuer(settings, session.policy["credentials"]["value"]).cancel(upstream_id)
    except (APIError, NotConfigured, ParameterError) as error:
        logger.warning("The API was not told of the end of session %s: %s", session.reference, error)
        return False
    return True


@contextmanager
def _recording(reference: str | None = None) -> Iterator[None]:
    try:
        yield
    except StorageError as err:
        logger.exception("The end of a session could not be recorded.")
        message = _("The end of the chat could not be recorded. Try again in a moment.")
        raise StorageUnavailable(message, reference=reference) from err


def _check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON_LENGTH:
        raise InvalidRequest(
            {"reason": [f"must be at most {MAX_REASON_LENGTH} characters, not {len(reason)}."]}
        )
