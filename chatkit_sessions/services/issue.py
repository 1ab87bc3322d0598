"""Issue a session: allow, reserve (a pending row, committed), call (no lock held), settle, signal, return."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

from asgiref.sync import sync_to_async
from django.http import HttpRequest

from chatkit_sessions import signals
from chatkit_sessions.client import APIError, ChatKitSession
from chatkit_sessions.exceptions import NotConfigured, SessionRefused, StorageUnavailable, UpstreamUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.secret import Secret, redact

from .gate import IssuingPass, enter
from .order import Order, OrderArguments, place_order
from .reserve import reserve
from .reuse import hand_out_again
from .settle import disown, fail, settle
from .withdrawal import atell, tell, withdraw

logger = logging.getLogger("chatkit_sessions")

# Seconds for ending a session whose secret nobody will get, however little of DEADLINE is left; and at most,
# since somebody waits, for this and for ending those that made room.
MIN_WITHDRAW_SECONDS, MAX_WITHDRAW_SECONDS = 1.0, 2.0


@dataclass(frozen=True, kw_only=True)
class IssuedSession:
    """What issuing gives: the secret, once, and the audit row.

    Attributes:
        reused: whether a running session was handed out again instead of a new one.
    """

    client_secret: Secret = field(repr=False)
    session: ChatSession
    reused: bool = False


def issue_session(
    *,
    user: Any = None,
    identifier: str | None = None,
    request: HttpRequest | None = None,
    workflow: str | None = None,
    state_variables: Mapping[str, Any] | None = None,
    current_client_secret: str | None = None,
    expires_after: int | None = None,
    max_requests_per_1_minute: int | None = None,
    chatkit_configuration: Mapping[str, Any] | None = None,
    client_state_variables: Mapping[str, Any] | None = None,
) -> IssuedSession:
    """Issue a session and return its client secret together with its audit row.

    Args:
        user: the account; its identifier is USER_IDENTIFIER's or its primary key.
        identifier: what the API shall know the person by, without an account or instead of the account's own.
        request: handed to the callables of the settings.
        workflow: slug or configured workflow id; by default DEFAULT_WORKFLOW.
        state_variables: win over those of the settings and the workflow.
        current_client_secret: the secret that the browser holds.
        expires_after: seconds, 1 to MAX_EXPIRES_AFTER.
        max_requests_per_1_minute: at least 1.
        chatkit_configuration: in the API's shape.
        client_state_variables: what the browser itself sent; only names in CLIENT_STATE_VARIABLES pass, and
            every other source wins over them.

    Raises:
        SessionRefused: the request is not allowed or not valid; nothing was written or sent.
        NotConfigured: the site lacks a key, a valid setting or its default workflow.
        UpstreamError: the API did not issue it; the row says why.
        StorageUnavailable: the row could not be written or settled, or a transaction is open around the call.
    """
    # At once, so that debug pages do not show it.
    current_client_secret = _hidden(current_client_secret)
    opened = _open(
        user=user,
        identifier=identifier,
        request=request,
        workflow=workflow,
        state_variables=state_variables,
        current_client_secret=current_client_secret,
        client_state_variables=client_state_variables,
        expires_after=expires_after,
        max_requests_per_1_minute=max_requests_per_1_minute,
        chatkit_configuration=chatkit_configuration,
    )
    if isinstance(opened, IssuedSession):
        return opened
    try:
        return _close(opened, _call(opened))
    finally:
        # Those that made room are ended here already; what the API is not told now, chatkit_reconcile tells.
        ends = time.monotonic() + opened.seconds_to_withdraw
        for old in opened.replaced:
            tell(old, seconds=ends - time.monotonic(), wait=0)


async def aissue_session(**arguments: Unpack[OrderArguments]) -> IssuedSession:
    """Do as ``issue_session``; the wait for a new session blocks neither the event loop nor its database."""
    if unknown := sorted(arguments.keys() - OrderArguments.__annotations__.keys()):
        raise TypeError(f"aissue_session() got an unexpected keyword argument {unknown[0]!r}")
    arguments["current_client_secret"] = _hidden(arguments.get("current_client_secret"))
    # Whoever goes away cancels this task. What was begun by then is brought to its end all the same.
    return await asyncio.shield(_aissue(arguments))


async def _aissue(arguments: OrderArguments) -> IssuedSession:
    opened = await sync_to_async(_open)(**arguments)
    if isinstance(opened, IssuedSession):
        return opened
    try:
        outcome = await sync_to_async(_call, thread_sensitive=False)(opened)
        return await sync_to_async(_close)(opened, outcome)
    finally:
        ends = time.monotonic() + opened.seconds_to_withdraw
        for old in opened.replaced:
            await atell(old, seconds=ends - time.monotonic(), wait=0)


def _hidden(client_secret: str | None) -> Secret | None:
    """Return the secret as one that no traceback shows."""
    return None if client_secret is None else Secret(client_secret)


@dataclass(frozen=True, kw_only=True)
class _Reservation:
    """What is asked for, and the row that stands for it.

    Attributes:
        leave: to make the one call.
        replaced: the sessions that made room, which the API does not know yet.
        ends: when DEADLINE is over, on the monotonic clock.
    """

    order: Order
    leave: IssuingPass
    session: ChatSession
    replaced: list[ChatSession]
    ends: float

    @property
    def seconds_left(self) -> float:
        return self.ends - time.monotonic()

    @property
    def seconds_to_withdraw(self) -> float:
        return min(self.seconds_left, MAX_WITHDRAW_SECONDS)


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """How the call ended: with an answer or an error."""

    latency_ms: int
    result: ChatKitSession | APIError


def _open(**arguments: Unpack[OrderArguments]) -> IssuedSession | _Reservation:
    """Allow, and hand a running session out again or reserve a new one."""
    try:
        order = place_order(**arguments)
        if current := arguments.get("current_client_secret"):
            session = hand_out_again(order, current)
            if session is not None:
                signals.session_reused.send_robust(sender=ChatSession, session=session)
                return IssuedSession(client_secret=Secret(current), session=session, reused=True)
        return _reserve(order)
    except (SessionRefused, NotConfigured, UpstreamUnavailable) as error:
        # A line and no row, so that nobody can fill the table. What a browser sent may stand in the message:
        # it is kept from being long and from looking like another line.
        account = getattr(arguments.get("user"), "pk", None)
        reason = redact(" ".join(str(error).split()))[:500]
        logger.info("Session refused (%s) for account %s: %s", error.code, account, reason)
        raise


def _reserve(order: Order) -> _Reservation:
    """Get the leave to ask the API, and only then write the row."""
    leave = enter(order.settings, order.issuer.base_url)
    try:
        session, replaced = reserve(order)
    except BaseException:
        leave.give_back()
        raise
    # From here on: however long the database took, the API has its time.
    ends = time.monotonic() + order.settings.deadline
    return _Reservation(order=order, leave=leave, session=session, replaced=replaced, ends=ends)


def _call(reservation: _Reservation) -> _Outcome:
    """Ask the API. No transaction is open and no lock is held."""
    order, started = reservation.order, time.monotonic()
    result: ChatKitSession | APIError
    try:
        result = reservation.leave.call(
            lambda: order.issuer.issue(order.parameters, seconds=reservation.seconds_left)
        )
    except APIError as error:
        result = error
    return _Outcome(latency_ms=round((time.monotonic() - started) * 1000), result=result)


def _close(reservation: _Reservation, outcome: _Outcome) -> IssuedSession:
    """Settle the row, tell the receivers, and return the secret or raise."""
    session, answer = reservation.session, outcome.result
    if isinstance(answer, APIError):
        raise fail(session, answer, outcome.latency_ms) from answer
    _settle_or_withdraw(reservation, answer, outcome.latency_ms)
    signals.session_issued.send_robust(sender=ChatSession, session=session)
    return IssuedSession(client_secret=answer.client_secret, session=session)


def _settle_or_withdraw(reservation: _Reservation, answer: ChatKitSession, latency_ms: int) -> None:
    session = reservation.session
    try:
        settle(session, answer, latency_ms)
    except StorageUnavailable:
        seconds = max(reservation.seconds_to_withdraw, MIN_WITHDRAW_SECONDS)
        is_told = not answer.id or withdraw(session, answer.id, seconds=seconds, wait=None)
        disown(session, is_told=is_told)
        raise
