"""The limits, counted exactly: everything here runs in the transaction that holds the identity's lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Subquery
from django.utils.translation import ngettext

from chatkit_sessions import rules
from chatkit_sessions.exceptions import SessionLimitReached, SessionRefused, Throttled
from chatkit_sessions.layers import Layer
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, LimitLock, Status

from .order import Order
from .storage import database

HOUR = timedelta(hours=1)
# The layers that speak of one workflow: their limits count that workflow's sessions, others count all.
_WORKFLOW_LAYERS = (Layer.WORKFLOW_SETTING, Layer.WORKFLOW)


@dataclass(frozen=True, kw_only=True)
class _Limit:
    """So many sessions at most.

    Attributes:
        sessions: those that count.
        until: the field that says when one ceases to count, ``period`` later.
        refusal: what to raise when it is reached; without it the oldest session makes room.
    """

    sessions: ChatSessionQuerySet
    number: int
    until: str
    period: timedelta = timedelta(0)
    refusal: Callable[[int, float], SessionRefused] | None = None


def lock(order: Order, now: datetime) -> None:
    """Wait for whoever is counting the same identity or address, and keep others waiting until the commit."""
    locks = LimitLock.objects.using(database())
    locks.take({order.identity.key, order.address_digest} - {""}, now)


def check(order: Order, now: datetime) -> list[ChatSession]:
    """Check every limit, and return the running sessions that have to make room.

    Raises:
        SessionLimitReached: the person has as many sessions as the policy allows.
        Throttled: the visitor's address has.
    """
    limits = [*_rate(order, now), *_hour(order, now), *_active(order, now)]
    refusals, surplus = [], None
    for limit, moment in zip(limits, _moments_of_room(limits), strict=True):
        if moment is None:
            continue
        if limit.refusal is None:
            surplus = limit
        else:
            refusals.append(limit.refusal(limit.number, (moment + limit.period - now).total_seconds()))
    if refusals:
        # Before the last of them has room, trying again is in vain.
        raise max(refusals, key=lambda refusal: refusal.retry_after or 0)
    return [] if surplus is None else _oldest(surplus)


def _moments_of_room(limits: list[_Limit]) -> list[datetime | None]:
    """Return for each limit when the session leaves that makes room, or None where there is room."""
    if not limits:
        return []
    # The one that makes room is the last but so many to leave. One statement for all of them, hung on the
    # newest row, whosever it is: without any row there is nothing to count.
    moments = {
        f"limit_{index}": Subquery(
            limit.sessions.order_by(f"-{limit.until}").values(limit.until)[limit.number - 1 : limit.number]
        )
        for index, limit in enumerate(limits)
    }
    newest = ChatSession.objects.using(database()).order_by("-pk")
    row = newest.values_list(*moments.values()).first()
    return [None] * len(limits) if row is None else list(row)


def _rate(order: Order, now: datetime) -> list[_Limit]:
    if not order.address_digest:
        return []
    number, period = rules.parse_rate(order.settings.anonymous_rate)
    sessions = ChatSession.objects.using(database()).filter(address_digest=order.address_digest)
    return [
        _Limit(
            # Failed ones too: whoever makes the API refuse is not to go on for nothing.
            sessions=sessions.filter(created_at__gt=now - period),
            number=number,
            until="created_at",
            period=period,
            refusal=lambda number, seconds: Throttled(retry_after=seconds),
        )
    ]


def _hour(order: Order, now: datetime) -> list[_Limit]:
    number = order.policy["max_sessions_per_hour"]
    if number is None:
        return []
    sessions = _counted(order, "max_sessions_per_hour").started_since(now - HOUR, now)
    return [
        _Limit(sessions=sessions, number=number, until="created_at", period=HOUR, refusal=_too_many_an_hour)
    ]


def _active(order: Order, now: datetime) -> list[_Limit]:
    number = order.policy["max_active_sessions"]
    if number is None:
        return []
    sessions = _counted(order, "max_active_sessions").occupying(now)
    if order.settings.on_max_active == "reject":
        return [_Limit(sessions=sessions, number=number, until="expires_at", refusal=_too_many_at_a_time)]
    # A pending one is never cancelled: nobody knows yet whether there is anything to cancel.
    pending = sessions.filter(status=Status.PENDING)
    return [
        _Limit(sessions=pending, number=number, until="expires_at", refusal=_too_many_at_a_time),
        _Limit(sessions=sessions, number=number, until="expires_at"),
    ]


def _oldest(limit: _Limit) -> list[ChatSession]:
    """Return the running sessions without which there is room for another one."""
    sessions = list(limit.sessions.order_by("pk"))
    surplus = max(len(sessions) - limit.number + 1, 0)
    return [session for session in sessions if session.status == Status.ACTIVE][:surplus]


def _counted(order: Order, name: str) -> ChatSessionQuerySet:
    """Return the person's sessions that a limit counts."""
    sessions = ChatSession.objects.using(database()).filter(identity_key=order.identity.key)
    resolved = order.policy.values[name]
    if resolved.layer in _WORKFLOW_LAYERS or "workflow" in resolved.source:
        sessions = sessions.filter(workflow_slug=order.policy.workflow.slug)
    return sessions


def _too_many_an_hour(number: int, seconds: float) -> SessionLimitReached:
    text = ngettext(
        "You may start %(n)d chat an hour. Try again later.",
        "You may start %(n)d chats an hour. Try again later.",
        number,
    )
    return SessionLimitReached(text % {"n": number}, retry_after=seconds)


def _too_many_at_a_time(number: int, seconds: float) -> SessionLimitReached:
    text = ngettext(
        "You may have %(n)d chat open at a time. Close another one, or try again later.",
        "You may have %(n)d chats open at a time. Close another one, or try again later.",
        number,
    )
    return SessionLimitReached(text % {"n": number}, retry_after=seconds)
