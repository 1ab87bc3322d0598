"""Settle the pending row once the call has ended: active, or failed with the reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from django.db import Error as StorageError
from django.utils import timezone

from chatkit_sessions import signals
from chatkit_sessions.client import APIError, ChatKitSession
from chatkit_sessions.digests import digest
from chatkit_sessions.exceptions import ChatKitSessionsError, StorageUnavailable
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, Status
from chatkit_sessions.secret import redact

from .audit import bounded_response, granted_rate, storable
from .storage import database
from .upstream import translate

WITHHELD = "its secret was withheld"

logger = logging.getLogger("chatkit_sessions")


def settle(session: ChatSession, answer: ChatKitSession, latency_ms: int) -> None:
    """Make the row active.

    Raises:
        StorageUnavailable: the database failed, or the row is no longer waited for.
    """
    now = timezone.now()
    values: dict[str, Any] = {
        "status": Status.ACTIVE,
        "upstream_id": redact(storable(answer.id), answer.client_secret)[:255],
        "secret_digest": digest(answer.client_secret),
        "expires_at": datetime.fromtimestamp(answer.expires_at, UTC),
        "max_requests_per_1_minute": granted_rate(answer) or session.max_requests_per_1_minute,
        "response": bounded_response(answer),
        "issued_at": now,
        "handed_out_count": 1,
        "last_handed_out_at": now,
        "upstream_request_id": redact(answer.request_id, answer.client_secret),
        "upstream_status": 200,
        "attempts": answer.attempts,
        "latency_ms": latency_ms,
    }
    pending = _pending(session)
    # After its time its place was given up, and somebody else may have it.
    waited_for = pending.filter(expires_at__gt=now, cancel_requested_at=None)
    try:
        if _update(session, waited_for, values):
            return
        # It was cancelled while it was being issued: nobody gets its secret.
        withheld = {
            "status": Status.CANCELLED,
            "ended_at": now,
            "handed_out_count": 0,
            "last_handed_out_at": None,
        }
        _update(session, pending.exclude(cancel_requested_at=None), values | withheld)
        raise StorageError(f"Session {session.reference} is no longer waited for.")
    except StorageError as err:
        logger.exception(
            "Session %s was issued (%s, request id %r) but could not be settled; its secret is withheld.",
            session.reference,
            redact(storable(answer.id), answer.client_secret),
            answer.request_id,
        )
        raise StorageUnavailable(reference=str(session.reference)) from err


def disown(session: ChatSession, *, is_told: bool) -> None:
    """Say in the row, if the database lets us, that its secret was withheld, and whether the API was told.

    The database may have carried out what it then could not answer.
    """
    now = timezone.now()
    row = ChatSession.objects.using(database()).filter(pk=session.pk)
    withheld = {"ended_at": now, "end_reason": WITHHELD, "handed_out_count": 0, "cancel_requested_at": now}
    with suppress(StorageError):
        row.filter(status=Status.ACTIVE).update(status=Status.CANCELLED, **withheld)
        if is_told:
            row.filter(status=Status.CANCELLED).update(cancel_requested_at=None)


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
    values = {
        "status": Status.FAILED,
        "ended_at": timezone.now(),
        "cancel_requested_at": None,  # there is nothing to cancel
        "upstream_request_id": cause.request_id,
        "upstream_status": cause.status_code,
        "error_code": error.code,
        "error_message": message,
        "attempts": cause.attempts,
        "latency_ms": latency_ms,
    }
    try:
        if not _update(session, _pending(session), values):
            raise StorageError(f"Session {reference} is no longer waited for.")
    except StorageError:
        logger.exception("The failure of session %s could not be recorded; its row stays pending.", reference)
        return StorageUnavailable(reference=reference)
    signals.session_failed.send_robust(sender=ChatSession, session=session, error=error)
    return error


def _pending(session: ChatSession) -> ChatSessionQuerySet:
    return ChatSession.objects.using(database()).filter(pk=session.pk, status=Status.PENDING)


def _update(session: ChatSession, row: ChatSessionQuerySet, values: Mapping[str, Any]) -> bool:
    """Change the row where it is still what it is filtered for, and return whether it was."""
    if not row.update(**values):
        return False
    for name, value in values.items():
        setattr(session, name, value)
    return True
