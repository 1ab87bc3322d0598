"""End a session: here at once, at the API as soon as it can be reached."""

from __future__ import annotations

import logging
from typing import Any

from asgiref.sync import sync_to_async
from django.utils import timezone

from chatkit_sessions import signals
from chatkit_sessions.client import APIError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import InvalidRequest, NotConfigured
from chatkit_sessions.issuers.openai import OpenAIIssuer
from chatkit_sessions.models import ChatSession, Status

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
    if len(reason) > MAX_REASON_LENGTH:
        raise InvalidRequest(
            {"reason": [f"must be at most {MAX_REASON_LENGTH} characters, not {len(reason)}."]}
        )
    if _end_here(session, by, reason):
        signals.session_cancelled.send_robust(sender=ChatSession, session=session, by=by, reason=reason)
    if session.cancel_requested_at is not None:
        _end_at_the_api(session)
    return session


async def acancel_session(session: ChatSession, *, by: Any = None, reason: str = "") -> ChatSession:
    """Do as ``cancel_session``."""
    return await sync_to_async(cancel_session)(session, by=by, reason=reason)


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
