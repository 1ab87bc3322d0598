"""Hand a running session out again, when the browser still holds its secret."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db import Error as StorageError
from django.db.models import F
from django.utils import timezone

from chatkit_sessions.digests import digests
from chatkit_sessions.exceptions import StorageUnavailable
from chatkit_sessions.models import ChatSession, Status

from .order import Order
from .storage import committed

logger = logging.getLogger("chatkit_sessions")


def hand_out_again(order: Order, client_secret: str) -> ChatSession | None:
    """Return the session of this secret, if it is this person's, of this workflow, fresh and unchanged.

    Raises:
        StorageUnavailable: the database failed, or a transaction is open around the call.
    """
    try:
        session = ChatSession.objects.filter(secret_digest__in=digests(client_secret)).first()
        if session is None or not _is_theirs(session, order) or not _is_unchanged(session, order):
            return None
        return session if _is_fresh(session, order) and _count(session, order) else None
    except StorageError as err:
        logger.exception("A session could not be looked up.")
        raise StorageUnavailable from err


def _is_theirs(session: ChatSession, order: Order) -> bool:
    account = order.identity.user
    if session.identity_key == order.identity.key and session.user_id == (account.pk if account else None):
        return True
    logger.warning(
        "Session %s was asked for with its secret by somebody else: %r.",
        session.reference,
        order.identity.identifier,
    )
    return False


def _is_unchanged(session: ChatSession, order: Order) -> bool:
    return (
        session.workflow_slug == order.policy.workflow.slug
        and session.identifier == order.identifier
        and order.policy.is_same_as(session.policy)
    )


def _is_fresh(session: ChatSession, order: Order) -> bool:
    return session.status == Status.ACTIVE and session.expires_at >= _with_margin(timezone.now(), order)


def _count(session: ChatSession, order: Order) -> bool:
    """Count the handing out, if the session is running with time to spare at this very moment still."""
    now = timezone.now()
    running = ChatSession.objects.filter(pk=session.pk, expires_at__gte=_with_margin(now, order)).running(now)
    with committed():
        if not running.update(handed_out_count=F("handed_out_count") + 1, last_handed_out_at=now):
            return False
    session.handed_out_count += 1
    session.last_handed_out_at = now
    return True


def _with_margin(now: datetime, order: Order) -> datetime:
    return now + timedelta(seconds=order.settings.reuse_margin)
