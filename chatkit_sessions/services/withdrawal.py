"""Tell the API of sessions that were cancelled here."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from django.db import Error as StorageError
from django.db import connections

from chatkit_sessions.client import APIError, ParameterError
from chatkit_sessions.conf import get_settings
from chatkit_sessions.exceptions import NotConfigured, UpstreamUnavailable
from chatkit_sessions.issuers.openai import OpenAIIssuer
from chatkit_sessions.models import ChatSession

from . import gate

logger = logging.getLogger("chatkit_sessions")

# Of how many sessions the API is told at a time.
AT_A_TIME = 4


def tell(session: ChatSession, *, seconds: float | None = None) -> bool:
    """Tell the API of a session that was cancelled here, unless it knows; return whether it was told now.

    Args:
        seconds: how long this may take, where that is less than DEADLINE.
    """
    if session.cancel_requested_at is None:
        return False
    return withdraw(session, session.upstream_id, seconds=seconds) and _note(session)


def tell_all(sessions: Iterable[ChatSession], *, seconds: float) -> int:
    """Tell the API of many sessions, some at a time, for at most so many seconds; return of how many.

    What the threads that tell have told is recorded here, not by them. One that hangs is not waited for: what
    it has told is then told once more, which is harmless.
    """
    until = time.monotonic() + seconds
    due = (session for session in sessions if session.cancel_requested_at is not None)
    under_way: dict[Future[bool], ChatSession] = {}
    told = 0
    pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="chatkit-withdrawal")
    try:
        while True:
            while len(under_way) < AT_A_TIME and (left := until - time.monotonic()) > 0:
                session = next(due, None)
                if session is None:
                    break
                telling = pool.submit(_withdraw_in_thread, session, seconds=left)
                under_way[telling] = session
            left = max(until - time.monotonic(), 0)
            ended = wait(under_way, timeout=left, return_when=FIRST_COMPLETED).done
            if not ended:
                return told
            for telling in ended:
                session = under_way.pop(telling)
                told += telling.result() and _note(session)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _withdraw_in_thread(session: ChatSession, *, seconds: float) -> bool:
    try:
        return withdraw(session, session.upstream_id, seconds=seconds, takes_place=False)
    finally:
        # A cache in the database, or a callable API_KEY, may have opened one for this thread.
        connections.close_all()


def withdraw(
    session: ChatSession, upstream_id: str, *, seconds: float | None = None, takes_place: bool = True
) -> bool:
    """End a session at the API, for at most so many seconds, and return whether it is ended there.

    Args:
        takes_place: whether a worker of the site waits for it: see ``gate.enter``.
    """
    if seconds is not None and seconds <= 0:
        return False
    try:
        settings = get_settings()
        seconds = settings.deadline if seconds is None else seconds
        issuer = OpenAIIssuer(settings, session.policy["credentials"]["value"])
        gate.enter(settings, issuer.base_url, takes_place=takes_place).call(
            lambda: issuer.cancel(upstream_id, seconds=seconds),
            is_patient=seconds >= min(sum(settings.timeout), settings.deadline),
        )
    except UpstreamUnavailable:
        logger.debug("The API is not asked now: the end of session %s is still due.", session.reference)
        return False
    except (APIError, NotConfigured, ParameterError) as error:
        logger.warning("The API was not told of the end of session %s: %s", session.reference, error)
        return False
    return True


def _note(session: ChatSession) -> bool:
    """Record that the API was told, and return whether that could be done."""
    try:
        ChatSession.objects.filter(pk=session.pk).update(cancel_requested_at=None)
    except StorageError:
        logger.exception("Session %s: that the API was told could not be recorded.", session.reference)
        return False
    session.cancel_requested_at = None
    return True
