"""Issue a session: allow, reserve (a pending row, committed), call (no lock held), settle, signal, return."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack

from asgiref.sync import sync_to_async
from django.db import Error as StorageError
from django.db import router, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from chatkit_sessions import signals
from chatkit_sessions.client import APIError, ChatKitSession
from chatkit_sessions.digests import digest
from chatkit_sessions.exceptions import (
    ChatKitSessionsError,
    NotConfigured,
    SessionRefused,
    StorageUnavailable,
)
from chatkit_sessions.models import ChatSession, Status
from chatkit_sessions.secret import Secret

from . import limits
from .audit import bounded_response, client_of
from .cancel import announce_end
from .order import Order, OrderArguments, place_order
from .reuse import hand_out_again
from .storage import is_deadlock
from .upstream import translate

logger = logging.getLogger("chatkit_sessions")

# How long after DEADLINE a pending row still keeps its place: time to settle it.
SETTLE_GRACE = timedelta(seconds=30)
RESERVE_ATTEMPTS = 3


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
    order, session = opened
    return _close(order, session, _call(order))


async def aissue_session(**arguments: Unpack[OrderArguments]) -> IssuedSession:
    """Do as ``issue_session``; waiting for the API blocks neither the event loop nor its database thread."""
    opened = await sync_to_async(_open)(**arguments)
    if isinstance(opened, IssuedSession):
        return opened
    order, session = opened
    outcome = await sync_to_async(_call, thread_sensitive=False)(order)
    return await sync_to_async(_close)(order, session, outcome)


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """How the call ended: an answer or an error."""

    latency_ms: int
    result: ChatKitSession | APIError


def _open(**arguments: Unpack[OrderArguments]) -> IssuedSession | tuple[Order, ChatSession]:
    """Allow, and hand a running session out again or reserve a new one."""
    try:
        order = place_order(**arguments)
        if current := arguments.get("current_client_secret"):
            session = hand_out_again(order, current)
            if session is not None:
                signals.session_reused.send_robust(sender=ChatSession, session=session)
                return IssuedSession(client_secret=Secret(current), session=session, reused=True)
        return order, _reserve(order)
    except (SessionRefused, NotConfigured) as error:
        # A line and no row, so that nobody can fill the table.
        logger.info("Session refused (%s) for user %r: %s", error.code, arguments.get("user"), error)
        raise


def _reserve(order: Order) -> ChatSession:
    """Write the pending row and commit it: from here on the audit knows of the session, whatever happens."""
    for attempt in range(1, RESERVE_ATTEMPTS + 1):
        try:
            session, replaced = _try_to_reserve(order)
            break
        except StorageError as err:
            if is_deadlock(err) and attempt < RESERVE_ATTEMPTS:
                continue
            logger.exception("The row of a session could not be written; the API was not asked.")
            raise StorageUnavailable from err
        except RuntimeError as err:  # atomic(durable=True) inside another atomic block
            raise StorageUnavailable(
                _(
                    "A session cannot be issued inside transaction.atomic(): a rollback would erase its "
                    "audit row. Call issue_session() outside the block; for a view under ATOMIC_REQUESTS, "
                    "decorate it with transaction.non_atomic_requests."
                )
            ) from err
    for old in replaced:
        announce_end(old, by=order.identity.user, reason=old.end_reason)
    return session


def _try_to_reserve(order: Order) -> tuple[ChatSession, list[ChatSession]]:
    """Lock, count, cancel what has to make room, insert and commit."""
    with transaction.atomic(using=router.db_for_write(ChatSession), durable=True):
        limits.lock(order, timezone.now())
        # Read the clock behind the lock: who waited longer comes later.
        now = timezone.now()
        replaced = limits.check(order, now)
        limits.replace(order, replaced, now)
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


def _call(order: Order) -> _Outcome:
    """Ask the API. No transaction is open and no lock is held."""
    started = time.monotonic()
    result: ChatKitSession | APIError
    try:
        result = order.issuer.issue(order.parameters)
    except APIError as error:
        result = error
    return _Outcome(latency_ms=round((time.monotonic() - started) * 1000), result=result)


def _close(order: Order, session: ChatSession, outcome: _Outcome) -> IssuedSession:
    """Settle the row, tell the receivers, and return the secret or raise."""
    if isinstance(outcome.result, APIError):
        raise _fail(session, outcome.result, outcome.latency_ms) from outcome.result
    answer = outcome.result
    try:
        _settle(session, answer, outcome.latency_ms)
    except StorageError as err:
        logger.exception(
            "Session %s was issued but could not be settled; its secret is withheld.", session.reference
        )
        _withdraw(order, answer)
        raise StorageUnavailable(reference=str(session.reference)) from err
    signals.session_issued.send_robust(sender=ChatSession, session=session)
    return IssuedSession(client_secret=answer.client_secret, session=session)


def _settle(session: ChatSession, answer: ChatKitSession, latency_ms: int) -> None:
    now = timezone.now()
    limit = answer.max_requests_per_1_minute or answer.rate_limits.get("max_requests_per_1_minute")
    _update_pending(
        session,
        status=Status.ACTIVE,
        upstream_id=answer.id[:255],
        secret_digest=digest(answer.client_secret),
        expires_at=datetime.fromtimestamp(answer.expires_at, UTC),
        max_requests_per_1_minute=limit or session.max_requests_per_1_minute,
        response=bounded_response(answer),
        issued_at=now,
        handed_out_count=1,
        last_handed_out_at=now,
        upstream_request_id=answer.request_id,
        upstream_status=200,
        attempts=answer.attempts,
        latency_ms=latency_ms,
    )


def _fail(session: ChatSession, cause: APIError, latency_ms: int) -> ChatKitSessionsError:
    """Settle the row as failed and return the error to raise."""
    reference = str(session.reference)
    error = translate(cause, reference)
    logger.warning(
        "Session %s failed (%s, HTTP %s, request id %r): %s",
        reference,
        error.code,
        cause.status_code,
        cause.request_id,
        cause.message,
    )
    try:
        _update_pending(
            session,
            status=Status.FAILED,
            ended_at=timezone.now(),
            upstream_request_id=cause.request_id,
            upstream_status=cause.status_code,
            error_code=error.code,
            error_message=cause.message,
            attempts=cause.attempts,
            latency_ms=latency_ms,
        )
    except StorageError:
        logger.exception("The failure of session %s could not be recorded; its row stays pending.", reference)
        return StorageUnavailable(reference=reference)
    signals.session_failed.send_robust(sender=ChatSession, session=session, error=error)
    return error


def _update_pending(session: ChatSession, **values: Any) -> None:
    """Change the row, if it is still the pending one that was reserved.

    Raises:
        StorageError: the database failed, or the row was settled or given up meanwhile.
    """
    pending = ChatSession.objects.filter(pk=session.pk, status=Status.PENDING)
    if values["status"] == Status.ACTIVE:
        # Its place was given up by now, and somebody else may have it.
        pending = pending.filter(expires_at__gt=timezone.now())
    changed = pending.update(**values)
    if not changed:
        raise StorageError(f"Session {session.reference} is no longer waited for.")
    for name, value in values.items():
        setattr(session, name, value)


def _withdraw(order: Order, answer: ChatKitSession) -> None:
    """Try to end a session whose secret nobody will get."""
    if not answer.id:
        return
    try:
        order.issuer.cancel(answer.id)
    except APIError as error:
        logger.warning("Session %s could not be cancelled at the API: %s", answer.id, error)
