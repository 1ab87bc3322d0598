"""The limits, counted exactly: everything here runs in the transaction that holds the identity's lock."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils.translation import ngettext

from chatkit_sessions import rules
from chatkit_sessions.exceptions import SessionLimitReached, Throttled
from chatkit_sessions.layers import Layer
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, LimitLock, Status

from .order import Order

HOUR = timedelta(hours=1)
# The layers that speak of one workflow: their limits count that workflow's sessions, others count all.
_WORKFLOW_LAYERS = (Layer.WORKFLOW_SETTING, Layer.WORKFLOW)
REPLACED = "replaced by a newer session"


def lock(order: Order, now: datetime) -> None:
    """Wait for whoever is counting the same identity or address, and keep others waiting until the commit."""
    LimitLock.objects.take({order.identity.key, order.address_digest} - {""}, now)


def check(order: Order, now: datetime) -> list[ChatSession]:
    """Check every limit, and return the running sessions that have to make room.

    Raises:
        SessionLimitReached: the person has as many sessions as the policy allows.
        Throttled: the visitor's address has.
    """
    _check_rate(order, now)
    _check_hour(order, now)
    return _check_active(order, now)


def replace(order: Order, sessions: list[ChatSession], now: datetime) -> None:
    """Cancel sessions here, in favour of the one that is about to be reserved."""
    if not sessions:
        return
    values = {
        "status": Status.CANCELLED,
        "ended_at": now,
        "ended_by": order.identity.user,
        "end_reason": REPLACED,
        "cancel_requested_at": now,
    }
    ChatSession.objects.filter(pk__in=[session.pk for session in sessions]).running(now).update(**values)
    for session in sessions:
        for name, value in values.items():
            setattr(session, name, value)


def _check_rate(order: Order, now: datetime) -> None:
    if not order.address_digest:
        return
    limit, period = rules.parse_rate(order.settings.anonymous_rate)
    started = ChatSession.objects.filter(address_digest=order.address_digest)
    free_at = _free_at(started.started_since(now - period, now), limit, period)
    if free_at:
        raise Throttled(retry_after=(free_at - now).total_seconds())


def _check_hour(order: Order, now: datetime) -> None:
    limit = order.policy["max_sessions_per_hour"]
    if limit is None:
        return
    started = _counted(order, "max_sessions_per_hour").started_since(now - HOUR, now)
    free_at = _free_at(started, limit, HOUR)
    if free_at:
        text = ngettext(
            "You may start %(n)d chat an hour. Try again later.",
            "You may start %(n)d chats an hour. Try again later.",
            limit,
        )
        raise SessionLimitReached(text % {"n": limit}, retry_after=(free_at - now).total_seconds())


def _free_at(started: ChatSessionQuerySet, limit: int, period: timedelta) -> datetime | None:
    """Return when the newest ``limit`` sessions become fewer, or None where they are already."""
    # The one whose leaving makes room: the limit-th newest, in one statement however many there are.
    oldest = started.order_by("-created_at").values_list("created_at", flat=True)[limit - 1 : limit]
    return next((created_at + period for created_at in oldest), None)


def _check_active(order: Order, now: datetime) -> list[ChatSession]:
    limit = order.policy["max_active_sessions"]
    if limit is None:
        return []
    occupying = list(_counted(order, "max_active_sessions").occupying(now).order_by("expires_at", "pk"))
    surplus = len(occupying) - limit + 1
    if surplus <= 0:
        return []
    # A pending one is never cancelled: nobody knows yet whether there is anything to cancel.
    running = sorted((row for row in occupying if row.status == Status.ACTIVE), key=lambda row: row.pk)
    if order.settings.on_max_active == "cancel_oldest" and len(running) >= surplus:
        return running[:surplus]
    text = ngettext(
        "You may have %(n)d chat open at a time. Close another one, or try again later.",
        "You may have %(n)d chats open at a time. Close another one, or try again later.",
        limit,
    )
    free_at = occupying[surplus - 1].expires_at
    raise SessionLimitReached(text % {"n": limit}, retry_after=(free_at - now).total_seconds())


def _counted(order: Order, name: str) -> ChatSessionQuerySet:
    """Return the person's sessions that a limit counts."""
    sessions = ChatSession.objects.filter(identity_key=order.identity.key)
    resolved = order.policy.values[name]
    if resolved.layer in _WORKFLOW_LAYERS or "workflow" in resolved.source:
        sessions = sessions.filter(workflow_slug=order.policy.workflow.slug)
    return sessions
