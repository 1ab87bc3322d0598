"""Settle the pending row once the call has ended: active, or failed with the reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.db import Error as StorageError
from django.utils import timezone

from chatkit_sessions import signals
from chatkit_sessions.client import APIError, ChatKitSession
from chatkit_sessions.digests import digest
from chatkit_sessions.exceptions import ChatKitSessionsError, StorageUnavailable
from chatkit_sessions.identity import has_is_active
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, Status

from .audit import bounded_response, granted_rate, storable, without_secret
from .storage import database, past_deadlocks, renew_connection
from .upstream import translate

WITHHELD = "its secret was withheld"
ACCOUNT_GONE = "the account was deactivated or deleted"

logger = logging.getLogger("chatkit_sessions")


def settle(session: ChatSession, answer: ChatKitSession, latency_ms: int) -> None:
    """Make the row active.

    Raises:
        StorageUnavailable: the database failed, or the row is no longer waited for.
    """
    now = timezone.now()
    upstream_id = without_secret(answer.id, answer)
    request_id = without_secret(answer.request_id, answer)
    values: dict[str, Any] = {
        "status": Status.ACTIVE,
        "upstream_id": upstream_id[:255],
        "secret_digest": digest(answer.client_secret),
        "expires_at": datetime.fromtimestamp(answer.expires_at, UTC),
        "max_requests_per_1_minute": granted_rate(answer) or session.max_requests_per_1_minute,
        "response": bounded_response(answer),
        "issued_at": now,
        "handed_out_count": 1,
        "last_handed_out_at": now,
        "upstream_request_id": request_id,
        "upstream_status": 200,
        "attempts": answer.attempts,
        "latency_ms": latency_ms,
    }
    pending = _pending(session)
    # After its time its place was given up, and somebody else may have it.
    waited_for = pending.filter(expires_at__gt=now, cancel_requested_at=None)
    try:
        if _account_stands(session) and _update(session, waited_for.filter(user=session.user_id), values):
            return
        # Whoever ended the account's sessions may not have seen this one yet.
        waited_for.update(cancel_requested_at=now, end_reason=ACCOUNT_GONE)
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
            upstream_id,
            request_id,
        )
        raise StorageUnavailable(reference=str(session.reference)) from err


def _account_stands(session: ChatSession) -> bool:
    """Return whether the account, where there is one, is neither deleted nor deactivated."""
    if session.user_id is None:
        return True
    users = get_user_model()._base_manager.using(database()).filter(pk=session.user_id)
    return (users.filter(is_active=True) if has_is_active() else users).exists()


def disown(session: ChatSession, *, is_told: bool) -> None:
    """Say in the row, if the database lets us, that its secret was withheld, and whether the API was told.

    The database may have carried out what it then could not answer.
    """
    now = timezone.now()
    row = ChatSession.objects.using(database()).filter(pk=session.pk)
    withheld = {
        "ended_at": now,
        "end_reason": WITHHELD,
        "handed_out_count": 0,
        "last_handed_out_at": None,
        "cancel_requested_at": now,
    }
    with suppress(StorageError):
        renew_connection()
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
        # Whoever stopped it meanwhile: there is nothing to cancel, and it did not end by that.
        "cancel_requested_at": None,
        "ended_by": None,
        "end_reason": "",
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
    if not past_deadlocks(partial(row.update, **values)):
        return False
    for name, value in values.items():
        setattr(session, name, value)
    return True
