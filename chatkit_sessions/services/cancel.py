"""End a session: here at once, at the API as soon as it can be reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error as StorageError
from django.db.models import Case, Value, When
from django.utils import timezone
from django.utils.translation import gettext as _

from chatkit_sessions import signals
from chatkit_sessions.exceptions import InvalidRequest, StorageUnavailable
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet, Status

from .storage import after_commit, database, past_deadlocks
from .withdrawal import atell, tell, tell_all

logger = logging.getLogger("chatkit_sessions")

MAX_REASON_LENGTH = 255
# Sessions that one statement ends: many are ended quickly so, and nobody waits long for the locks.
BATCH = 100


def cancel_session(session: ChatSession, *, by: Any = None, reason: str = "") -> ChatSession:
    """Cancel a session; one that has ended stays as it is, so that repeating is harmless.

    Of one that is being issued at this moment nobody gets the secret.

    From here on it is not handed out again, even if the API cannot be told now: ``cancel_requested_at`` is
    set until the API has been told. Inside a transaction it is told when that is committed.

    Args:
        by: the account that ends it, for the audit.
        reason: for the audit, at most 255 characters.

    Raises:
        InvalidRequest: the reason is too long.
        StorageUnavailable: the database failed, and the session goes on.
    """
    ended = _end_one(session, by=by, reason=reason)
    after_commit(partial(_let_know, session, ended))
    return session


def _let_know(session: ChatSession, ended: bool) -> None:
    if ended:
        announce_end(session)
    tell(session)


@dataclass(frozen=True)
class BulkCancellation:
    """What came of cancelling many sessions.

    Attributes:
        sessions: those that were running and are cancelled here.
        pending: how many were being issued: nobody gets their secrets any more, and they are withdrawn.
    """

    sessions: Sequence[ChatSession]
    pending: int = 0

    @property
    def ended(self) -> int:
        """Return how many are ended here."""
        return len(self.sessions) + self.pending

    @property
    def due(self) -> int:
        """Return of how many of them the API has yet to be told."""
        return sum(session.cancel_requested_at is not None for session in self.sessions) + self.pending

    @property
    def summary(self) -> str:
        """Return in words how many are ended for good, and how many the API has yet to be told of."""
        return _("%(told)d ended, %(due)d queued") % {"told": self.ended - self.due, "due": self.due}


def cancel_sessions(
    sessions: ChatSessionQuerySet, *, by: Any = None, reason: str = "", seconds: float = 10
) -> BulkCancellation:
    """Cancel the running ones of these sessions: here at once, at the API for at most so many seconds.

    Those that are being issued at this moment are stopped as well. Inside a transaction the API is told when
    that is committed.

    Raises:
        InvalidRequest: the reason is too long.
        StorageUnavailable: the database failed; those it has ended stay so.
    """
    _check_reason(reason)
    ended: list[ChatSession] = []
    try:
        with _recording():
            pending = stop_pending(sessions, by=by, reason=reason)
            for batch in end_all_here(sessions, by=by, reason=reason):
                ended += batch
    finally:
        after_commit(partial(announce_all, ended))
    after_commit(partial(tell_all, ended, seconds=seconds))
    return BulkCancellation(ended, pending)


async def acancel_session(session: ChatSession, *, by: Any = None, reason: str = "") -> ChatSession:
    """Do as ``cancel_session``; the wait for the API blocks neither the event loop nor its database."""
    # As in issuing: what was begun is brought to its end.
    return await asyncio.shield(_acancel(session, by=by, reason=reason))


async def _acancel(session: ChatSession, *, by: Any, reason: str) -> ChatSession:
    if await sync_to_async(_end_one)(session, by=by, reason=reason):
        await sync_to_async(announce_end)(session)
    await atell(session)
    return session


def _end_one(session: ChatSession, *, by: Any, reason: str) -> bool:
    _check_reason(reason)
    with _recording(str(session.reference)):
        if session.status == Status.PENDING:
            stop_pending(ChatSession.objects.filter(pk=session.pk), by=by, reason=reason)
        return end_here(session, by=by, reason=reason)


def end_here(session: ChatSession, *, by: Any, reason: str) -> bool:
    """Cancel the row if it is running, and return whether it was.

    Raises:
        StorageError: the database failed.
    """
    now = timezone.now()
    row = ChatSession.objects.using(database()).filter(pk=session.pk)
    values = _end_values(now, by=by, reason=reason)
    ended = bool(row.running(now).update(**values))
    if not ended or not session.upstream_id:  # it may have been read before the row had one
        session.refresh_from_db(using=database())
    if not ended:
        return False
    # What the row alone knows has just been read.
    values["cancel_requested_at"] = now if session.upstream_id else None
    for name, value in values.items():
        setattr(session, name, value)
    return True


def _end_values(now: datetime, *, by: Any, reason: str) -> dict[str, Any]:
    return {
        "status": Status.CANCELLED,
        "ended_at": now,
        **_by_whom(by, reason),
        # Without an id the API cannot be told; the session runs out by itself. The row knows it best.
        "cancel_requested_at": Case(When(upstream_id="", then=None), default=Value(now)),
    }


def end_all_here(
    sessions: ChatSessionQuerySet, *, by: Any = None, reason: str = ""
) -> Iterator[list[ChatSession]]:
    """Cancel the running ones of these sessions here, some at a time, and yield those of each time.

    Raises:
        StorageError: the database failed; those yielded before stay cancelled.
    """
    running = sessions.using(database()).running()
    keys = list(running.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(keys), BATCH):
        now = timezone.now()
        batch = ChatSession.objects.using(database()).filter(pk__in=keys[start : start + BATCH])
        values = _end_values(now, by=by, reason=reason)
        if past_deadlocks(partial(batch.running(now).update, **values)):
            # Somebody else may have ended some of them meanwhile: theirs have another moment. What the API
            # answered is of no use here, and may be large.
            ended = list(batch.filter(status=Status.CANCELLED, ended_at=now).defer("response"))
            for session in ended:
                session.ended_by = values["ended_by"]  # or each would be looked up
            yield ended


def stop_pending(sessions: ChatSessionQuerySet, *, by: Any, reason: str) -> int:
    """Keep those of these sessions that are being issued from becoming active, and return how many there are.

    Whoever waits for their answers finds it here, withholds the secrets and withdraws them.

    Raises:
        StorageError: the database failed.
    """
    now = timezone.now()
    pending = sessions.using(database()).filter(status=Status.PENDING, expires_at__gt=now)
    stop = partial(pending.filter(cancel_requested_at=None).update, cancel_requested_at=now)
    return past_deadlocks(partial(stop, **_by_whom(by, reason)))


def _by_whom(by: Any, reason: str) -> dict[str, Any]:
    # A visitor is no account.
    return {"ended_by": by if getattr(by, "pk", None) is not None else None, "end_reason": reason}


def announce_all(sessions: Iterable[ChatSession]) -> None:
    """Tell the receivers of each."""
    for session in sessions:
        announce_end(session)


def announce_end(session: ChatSession) -> None:
    """Tell the receivers that a session was cancelled here."""
    signals.session_cancelled.send_robust(
        sender=ChatSession, session=session, by=session.ended_by, reason=session.end_reason
    )


@contextmanager
def _recording(reference: str | None = None) -> Iterator[None]:
    try:
        yield
    except StorageError as err:
        logger.exception("The end of a session could not be recorded.")
        message = _("The end of the chat could not be recorded. Try again in a moment.")
        raise StorageUnavailable(message, reference=reference) from err


def _check_reason(reason: str) -> None:
    if len(reason) > MAX_REASON_LENGTH:
        raise InvalidRequest(
            {"reason": [f"must be at most {MAX_REASON_LENGTH} characters, not {len(reason)}."]}
        )
