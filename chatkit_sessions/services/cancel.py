"""End a session: here at once, at the API as soon as it can be reached."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from chatkit_sessions import signals
from chatkit_sessions.client import APIError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import InvalidRequest, NotConfigured
from chatkit_sessions.issuers.openai import OpenAIIssuer
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, Status

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
    """
    _check_reason(reason)
    if _end_here(session, by, reason):
        announce_end(session, by=by, reason=reason)
    elif session.cancel_requested_at is not None:
        _end_at_the_api(session)
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
    """Cancel the running ones of these sessions: here at once, at the API for at most so many seconds."""
    _check_reason(reason)
    until = time.monotonic() + seconds
    ended = [session for session in sessions.running() if _end_here(session, by, reason)]
    for session in ended:
        signals.session_cancelled.send_robust(sender=ChatSession, session=session, by=by, reason=reason)
    for session in ended:
        if time.monotonic() < until and session.cancel_requested_at is not None:
            _end_at_the_api(session)
    return BulkCancellation(len(ended), sum(row.cancel_requested_at is not None for row in ended))


async def acancel_session(session: ChatSession, *, by: Any = None, reason: str = "") -> ChatSession:
    """Do as ``cancel_session``."""
    return await sync_to_async(cancel_session)(session, by=by, reason=reason)


def _check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON_LENGTH:
        raise InvalidRequest(
            {"reason": [f"must be at most {MAX_REASON_LENGTH} characters, not {len(reason)}."]}
        )


def announce_end(session: ChatSession, *, by: Any, reason: str) -> None:
    """Tell the receivers, and the API, that a session was cancelled here."""
    signals.session_cancelled.send_robust(sender=ChatSession, session=session, by=by, reason=reason)
    if session.cancel_requested_at is not None:
        _end_at_the_api(session)


def _end_here(session: ChatSession, by: Any, reason: str) -> bool:
    """Cancel the row if it is running, and return whether it was."""
    now = timezone.now()
    changed = (
        ChatSession.objects.filter(pk=session.pk)
        .running(now)
        .update(
            status=Status.CANCELLED,
            ended_at=now,
            ended_by=by,
            end_reason=reason,
            # Without an id the API cannot be told; the session runs out by itself.
            cancel_requested_at=now if session.upstream_id else None,
        )
    )
    session.refresh_from_db()
    return bool(changed)


def _end_at_the_api(session: ChatSession) -> None:
    try:
        OpenAIIssuer(get_settings(), session.policy["credentials"]["value"]).cancel(session.upstream_id)
    except (APIError, NotConfigured) as error:
        logger.warning("Session %s is cancelled here, but the API was not told: %s", session.reference, error)
        return
    ChatSession.objects.filter(pk=session.pk).update(cancel_requested_at=None)
    session.cancel_requested_at = None
