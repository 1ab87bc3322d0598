"""Issue a session: allow, reserve (a pending row, committed), call (no lock held), settle, signal, return."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Unpack

from asgiref.sync import sync_to_async
from django.http import HttpRequest

from chatkit_sessions import signals
from chatkit_sessions.client import APIError, ChatKitSession
from chatkit_sessions.exceptions import NotConfigured, SessionRefused, StorageUnavailable, UpstreamUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.secret import Secret

from .gate import Pass, enter
from .order import Order, OrderArguments, place_order
from .reserve import reserve
from .reuse import hand_out_again
from .settle import fail, settle
from .withdrawal import tell, withdraw

logger = logging.getLogger("chatkit_sessions")

# For ending a session whose secret nobody will get, however little of DEADLINE is left.
MIN_WITHDRAW_SECONDS = 1.0


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
    prepared = _prepare(
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
    if isinstance(prepared, IssuedSession):
        return prepared
    reservation = _reserve(prepared, _enter(prepared))
    return _close(reservation, _call(reservation))


async def aissue_session(**arguments: Unpack[OrderArguments]) -> IssuedSession:
    """Do as ``issue_session``; the wait for a new session blocks neither the event loop nor its database."""
    if unknown := sorted(arguments.keys() - OrderArguments.__annotations__.keys()):
        raise TypeError(f"aissue_session() got an unexpected keyword argument {unknown[0]!r}")
    arguments["current_client_secret"] = _hidden(arguments.get("current_client_secret"))
    prepared = await sync_to_async(_prepare)(**arguments)
    if isinstance(prepared, IssuedSession):
        return prepared
    # Whoever goes away cancels this task. What was begun by then is brought to its end all the same.
    return await asyncio.shield(_issue_prepared(prepared))


async def _issue_prepared(order: Order) -> IssuedSession:
    leave = await sync_to_async(_enter, thread_sensitive=False)(order)
    reservation = await sync_to_async(_reserve)(order, leave)
    outcome = await sync_to_async(_call, thread_sensitive=False)(reservation)
    return await sync_to_async(_close)(reservation, outcome)


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
    leave: Pass
    session: ChatSession
    replaced: list[ChatSession]
    ends: float

    @property
    def seconds_left(self) -> float:
        return self.ends - time.monotonic()


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """How the call ended: with an answer or an error."""

    latency_ms: int
    result: ChatKitSession | APIError


def _prepare(**arguments: Unpack[OrderArguments]) -> IssuedSession | Order:
    """Allow, and hand a running session out again where there is one."""
    with _refusals_logged(getattr(arguments.get("user"), "pk", None)):
        order = place_order(**arguments)
        current = arguments.get("current_client_secret")
        session = hand_out_again(order, current) if current else None
    if not current or session is None:
        return order
    signals.session_reused.send_robust(sender=ChatSession, session=session)
    return IssuedSession(client_secret=Secret(current), session=session, reused=True)


def _enter(order: Order) -> Pass:
    """Wait for the leave to ask the API, before anything is written."""
    with _refusals_logged(order.account):
        return enter(order.settings, order.issuer.base_url)


def _reserve(order: Order, leave: Pass) -> _Reservation:
    ends = time.monotonic() + order.settings.deadline
    try:
        with _refusals_logged(order.account):
            session, replaced = reserve(order)
    except BaseException:
        leave.give_back()
        raise
    return _Reservation(order=order, leave=leave, session=session, replaced=replaced, ends=ends)


@contextmanager
def _refusals_logged(account: Any) -> Iterator[None]:
    """Write a line for a refused request, and no row, so that nobody can fill the table."""
    try:
        yield
    except (SessionRefused, NotConfigured, UpstreamUnavailable) as error:
        # What a browser sent may stand in the message: kept from being long or looking like another line.
        reason = " ".join(str(error).split())[:500]
        logger.info("Session refused (%s) for account %s: %s", error.code, account, reason)
        raise


def _call(reservation: _Reservation) -> _Outcome:
    """Ask the API. No transaction is open and no lock is held."""
    order, started = reservation.order, time.monotonic()
    result: ChatKitSession | APIError
    try:
        result = reservation.leave.call(lambda: order.issuer.issue(order.parameters))
    except APIError as error:
        result = error
    return _Outcome(latency_ms=round((time.monotonic() - started) * 1000), result=result)


def _close(reservation: _Reservation, outcome: _Outcome) -> IssuedSession:
    """Settle the row, tell the receivers, and return the secret or raise."""
    session, answer = reservation.session, outcome.result
    try:
        if isinstance(answer, APIError):
            raise fail(session, answer, outcome.latency_ms) from answer
        _settle_or_withdraw(reservation, answer, outcome.latency_ms)
        signals.session_issued.send_robust(sender=ChatSession, session=session)
        return IssuedSession(client_secret=answer.client_secret, session=session)
    finally:
        # Those that made room are ended here already; what the API is not told now, chatkit_reconcile tells.
        for old in reservation.replaced:
            tell(old, seconds=reservation.seconds_left)


def _settle_or_withdraw(reservation: _Reservation, answer: ChatKitSession, latency_ms: int) -> None:
    try:
        settle(reservation.session, answer, latency_ms)
    except StorageUnavailable:
        if answer.id:
            seconds = max(reservation.seconds_left, MIN_WITHDRAW_SECONDS)
            withdraw(reservation.session, answer.id, seconds=seconds, takes_place=False)
        raise
