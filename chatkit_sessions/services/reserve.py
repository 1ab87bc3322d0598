"""Reserve a place: a pending row, committed before the API is asked."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial

from django.db import Error as StorageError
from django.utils import timezone

from chatkit_sessions.exceptions import StorageUnavailable
from chatkit_sessions.models import ChatSession

from . import limits
from .audit import client_of
from .cancel import announce_end, end_here
from .order import Order
from .storage import committed, past_deadlocks

logger = logging.getLogger("chatkit_sessions")

# How long after DEADLINE a pending row still keeps its place: time to settle it.
SETTLE_GRACE = timedelta(seconds=30)
REPLACED = "replaced by a newer session"


def reserve(order: Order) -> tuple[ChatSession, list[ChatSession]]:
    """Write the pending row and commit it: from here on the audit knows of the session, whatever happens.

    Returns:
        The row, and the sessions that were cancelled here to make room for it.

    Raises:
        SessionLimitReached: the person has as many sessions as the policy allows.
        Throttled: the visitor's address has.
        StorageUnavailable: the row could not be written, or a transaction is open around the call.
    """
    try:
        session, replaced = past_deadlocks(partial(_try_to_reserve, order))
    except StorageError as err:
        logger.exception("The row of a session could not be written; the API was not asked.")
        raise StorageUnavailable from err
    for old in replaced:
        announce_end(old)
    return session, replaced


def _try_to_reserve(order: Order) -> tuple[ChatSession, list[ChatSession]]:
    """Lock, count, cancel what has to make room, insert and commit."""
    with committed():
        limits.lock(order, timezone.now())
        # Read the clock behind the lock: who waited longer comes later.
        now = timezone.now()
        surplus = limits.check(order, now)
        replaced = [old for old in surplus if end_here(old, by=order.identity.user, reason=REPLACED)]
        session = _pending_row(order, now)
        session.save(force_insert=True)
    return session, replaced


def _pending_row(order: Order, now: datetime) -> ChatSession:
    policy, settings = order.policy, order.settings
    return ChatSession(
        user=order.identity.user,
        identity_key=order.identity.key,
        identifier=order.identifier,
        workflow_slug=policy.workflow.slug,
        workflow_id=policy["workflow_id"],
        workflow_version=policy["version"] or "",
        max_requests_per_1_minute=policy["max_requests_per_1_minute"],
        policy=policy.as_json(),
        created_at=now,
        expires_at=now + timedelta(seconds=settings.deadline) + SETTLE_GRACE,
        attempts=1,
        address_digest=order.address_digest,
        **(client_of(order.request) if settings.record_client else {}),
    )
