"""Tell the API of sessions that were cancelled here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue

from asgiref.sync import sync_to_async
from django.db import Error as StorageError
from django.db import connections

from chatkit_sessions.client import APIError, ParameterError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import ChatKitSessionsError, StorageUnavailable, UpstreamUnavailable
from chatkit_sessions.issuers.openai import OpenAIIssuer
from chatkit_sessions.models import ChatSession

from . import gate
from .storage import database

logger = logging.getLogger("chatkit_sessions")

_OURS = (APIError, ChatKitSessionsError, ParameterError)
# Of how many sessions the API is told at a time.
AT_A_TIME = 4


def tell(session: ChatSession, *, seconds: float | None = None, wait: float = gate.PATIENCE) -> bool:
    """Tell the API of a session that was cancelled here, unless it knows; return whether it was told now.

    Args:
        seconds: how long this may take, where that is less than DEADLINE.
        wait: how many seconds of them for a place: see ``gate.passing``.
    """
    if not session.is_due:
        return False
    return withdraw(session, session.upstream_id, seconds=seconds, wait=wait) and _note(session)


async def atell(session: ChatSession, *, seconds: float | None = None, wait: float = gate.PATIENCE) -> bool:
    """Do as ``tell``; the wait for the API blocks neither the event loop nor its database."""
    if not session.is_due:
        return False
    telling = sync_to_async(withdraw, thread_sensitive=False)
    was_told = await telling(session, session.upstream_id, seconds=seconds, wait=wait)
    return was_told and await sync_to_async(_note)(session)


def tell_all(sessions: Iterable[ChatSession], *, seconds: float) -> int:
    """Tell the API of many sessions, some at a time, for at most so many seconds; return of how many.

    What the threads that tell have told is recorded here, not by them. One that hangs is not waited for: what
    it has told is then told once more, which is harmless.
    """
    until = time.monotonic() + seconds
    due: Iterator[ChatSession] = (session for session in sessions if session.is_due)
    results: SimpleQueue[tuple[ChatSession, bool]] = SimpleQueue()
    under_way = told = 0
    while True:
        while under_way < AT_A_TIME and (left := until - time.monotonic()) > 0:
            session = next(due, None)
            if session is None:
                break
            # No pool: Python would wait for its threads at the end of the process, however long they hang.
            telling = threading.Thread(target=_tell_in_thread, args=(session, left, results), daemon=True)
            try:
                telling.start()
            except RuntimeError as error:  # no thread is to be had
                logger.warning("The API is not told of the end of any session now: %s", error)
                due = iter(())
                break
            under_way += 1
        if not under_way:
            return told
        try:
            session, was_told = results.get(timeout=max(until - time.monotonic(), 0))
        except Empty:
            return told
        under_way -= 1
        told += was_told and _note(session)


def _tell_in_thread(
    session: ChatSession, seconds: float, results: SimpleQueue[tuple[ChatSession, bool]]
) -> None:
    was_told = withdraw(session, session.upstream_id, seconds=seconds, wait=None)
    # A cache in the database, or a callable API_KEY, may have opened one for this thread.
    connections.close_all()
    results.put((session, was_told))


def withdraw(
    session: ChatSession,
    upstream_id: str,
    *,
    seconds: float | None = None,
    wait: float | None = gate.PATIENCE,
) -> bool:
    """End a session at the API as ``end_at_api`` does, and return whether it is ended there."""
    if seconds is not None and seconds <= 0:
        return False
    try:
        end_at_api(session, upstream_id, seconds=seconds, wait=wait)
    except UpstreamUnavailable:
        logger.debug("The API is not asked now: the end of session %s is still due.", session.reference)
        return False
    # Whatever is wrong with one row or its settings, the others' ends are told.
    except Exception as error:
        # The words of an error that is not ours may be private.
        reason = error if isinstance(error, _OURS) else type(error).__name__
        # The row has the id; one that has none yet may still repeat the secret.
        logger.warning("The API was not told of the end of session %s: %s", session.reference, reason)
        return False
    return True


def end_at_api(
    session: ChatSession,
    upstream_id: str,
    *,
    seconds: float | None = None,
    wait: float | None = gate.PATIENCE,
) -> None:
    """End a session at the API.

    Args:
        seconds: how long this may take, where that is less than DEADLINE.
        wait: how many seconds of them for a place: see ``gate.passing``.

    Raises:
        APIError: the API did not confirm it.
        UpstreamUnavailable: the API is not asked now.
        NotConfigured: the key or the settings are gone.
    """
    settings = get_settings()
    seconds = settings.deadline if seconds is None else seconds
    ends = time.monotonic() + seconds
    issuer = OpenAIIssuer(settings, session.policy["credentials"]["value"])
    with gate.passing(settings, issuer.base_url, wait=None if wait is None else min(wait, seconds)):
        issuer.cancel(upstream_id, seconds=ends - time.monotonic())


def insist(session: ChatSession) -> None:
    """Tell the API of a session that was cancelled here, and where that fails, raise why.

    Raises:
        APIError, ParameterError, UpstreamUnavailable, NotConfigured: as ``end_at_api`` does.
        StorageUnavailable: the API was told, but that could not be recorded.
    """
    end_at_api(session, session.upstream_id)
    if not _note(session):
        raise StorageUnavailable(reference=str(session.reference))


def _note(session: ChatSession) -> bool:
    """Record that the API was told, and return whether that could be done."""
    try:
        ChatSession.objects.using(database()).filter(pk=session.pk).update(cancel_requested_at=None)
    except StorageError:
        logger.exception("Session %s: that the API was told could not be recorded.", session.reference)
        return False
    session.cancel_requested_at = None
    return True
