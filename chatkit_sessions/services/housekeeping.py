"""Write down what time has decided, and tell the API what it has not heard. Nothing depends on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import Error as StorageError
from django.db.models import F
from django.utils import timezone

from chatkit_sessions.exceptions import StorageUnavailable
from chatkit_sessions.models import OVERDUE, ChatSession, ChatSessionQuerySet, Status

from .storage import database
from .withdrawal import tell_all

# Rows that one statement changes: nobody waits long for the locks.
BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """What was settled.

    Attributes:
        lost: pending rows that nobody settled in time.
        expired: sessions whose time is over.
        told: cancellations that the API was told of.
        due: those of which it has yet to be told.
    """

    lost: int
    expired: int
    told: int
    due: int


def reconcile(*, seconds: float = 60) -> Reconciliation:
    """Settle pending, expired and cancel-requested rows; the API is talked to for at most so many seconds.

    It may run at any time, in several processes at once, and be interrupted at any moment.

    Raises:
        StorageUnavailable: the database failed; what was settled until then stays so.
    """
    now = timezone.now()
    sessions = ChatSession.objects.using(database())
    try:
        ended = {
            shown: _settle(sessions.overdue(status, now), status=shown, ended_at=F("expires_at"))
            for status, shown in OVERDUE.items()
        }
        told = tell_all(_claimed(now), seconds=seconds)
        due = sessions.due(now).count()
    except StorageError as err:
        raise StorageUnavailable from err
    return Reconciliation(lost=ended[Status.LOST], expired=ended[Status.EXPIRED], told=told, due=due)


def _settle(sessions: ChatSessionQuerySet, **values: object) -> int:
    """Change these rows, some at a time, and return how many were changed."""
    settled = 0
    while keys := list(sessions.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        # Filtered once more: somebody else may have settled some of them meanwhile.
        changed = sessions.filter(pk__in=keys).update(**values)
        if not changed:
            break
        settled += changed
    return settled


def _claimed(now: datetime) -> Iterator[ChatSession]:
    """Yield the sessions of whose end the API is to be told; of several who ask at once, one gets each.

    Whoever begins later may get one again that is being told: telling the API twice is harmless.
    """
    due = ChatSession.objects.using(database()).due(now)
    # What the API answered is of no use here, and may be large.
    for session in list(due.order_by("expires_at", "pk").defer("response")):
        claim = due.filter(pk=session.pk, cancel_requested_at=session.cancel_requested_at)
        if claim.update(cancel_requested_at=timezone.now()):
            yield session
