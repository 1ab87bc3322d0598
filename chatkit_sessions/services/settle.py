"""Settle the pending row once the call has ended: active, or failed with the reason."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from django.db import Error as StorageError
from django.utils import timezone

from chatkit_sessions import signals
from chatkit_sessions.client import APIError, ChatKitSession
from chatkit_sessions.digests import digest
from chatkit_sessions.exceptions import ChatKitSessionsError, StorageUnavailable
from chatkit_sessions.models import ChatSession, Status
from chatkit_sessions.secret import redact

from .audit import bounded_response, granted_rate, storable
from .upstream import translate

logger = logging.getLogger("chatkit_sessions")


def settle(session: ChatSession, answer: ChatKitSession, latency_ms: int) -> None:
    """Make the row active.

    Raises:
        StorageUnavailable: the database failed, or the row is no longer waited for.
    """
    now = timezone.now()
    try:
        _update_pending(
            session,
            status=Status.ACTIVE,
            upstream_id=redact(storable(answer.id), answer.client_secret)[:255],
            secret_digest=digest(answer.client_secret),
            expires_at=datetime.fromtimestamp(answer.expires_at, UTC),
            max_requests_per_1_minute=granted_rate(answer) or session.max_requests_per_1_minute,
            response=bounded_response(answer),
            issued_at=now,
            handed_out_count=1,
            last_handed_out_at=now,
            upstream_request_id=redact(answer.request_id, answer.client_secret),
            upstream_status=200,
            attempts=answer.attempts,
            latency_ms=latency_ms,
        )
    except StorageError as err:
        logger.exception(
            "Session %s was issued but could not be settled; its secret is withheld.", session.reference
        )
        raise StorageUnavailable(reference=str(session.reference)) from err


def fail(session: ChatSession, cause: APIError, latency_ms: int) -> ChatKitSessionsError:
    """Make the row failed, tell the receivers, and return the error to raise."""
    reference = str(session.reference)
    error = translate(cause, reference)
    message = storable(cause.message)
    logger.warning(
        "Session %s failed (%s, HTTP %s, request id %r): %s",
        reference,
        error.code,
        cause.status_code,
        cause.request_id,
        message,
    )
    try:
        _update_pending(
            session,
            status=Status.FAILED,
            ended_at=timezone.now(),
            upstream_request_id=cause.request_id,
            upstream_status=cause.status_code,
            error_code=error.code,
            error_message=message,
            attempts=cause.attempts,
            latency_ms=latency_ms,
        )
    except StorageError:
        logger.exception("The failure of session %s could not be recorded; its row stays pending.", reference)
        return StorageUnavailable(reference=reference)
    signals.session_failed.send_robust(sender=ChatSession, session=session, error=error)
    return error


def _update_pending(session: ChatSession, **values: Any) -> None:
    """Change the row, if it is still the pending one that was reserved.

    Raises:
        StorageError: the database failed, or the row was settled or given up meanwhile.
    """
    pending = ChatSession.objects.filter(pk=session.pk, status=Status.PENDING)
    if values["status"] == Status.ACTIVE:
        # Its place was given up by now, and somebody else may have it.
        pending = pending.filter(expires_at__gt=timezone.now())
    changed = pending.update(**values)
    if not changed:
        raise StorageError(f"Session {session.reference} is no longer waited for.")
    for name, value in values.items():
        setattr(session, name, value)
