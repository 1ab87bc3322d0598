from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.dispatch import Signal

from chatkit_sessions import signals
from chatkit_sessions.exceptions import UpstreamError
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import cancel_session, issue_session
from chatkit_sessions.standin import Fault, StandIn

pytestmark = pytest.mark.django_db


def issued(standin: StandIn) -> ChatSession:
    return issue_session(identifier="ada").session


def reused(standin: StandIn) -> ChatSession:
    secret = issue_session(identifier="ada").client_secret
    return issue_session(identifier="ada", current_client_secret=secret).session


def failed(standin: StandIn) -> ChatSession:
    standin.misbehave(Fault(status=400))
    with pytest.raises(UpstreamError):
        issue_session(identifier="ada")
    return ChatSession.objects.get()


def cancelled(standin: StandIn) -> ChatSession:
    return cancel_session(issue_session(identifier="ada").session, reason="left")


EVENTS: list[tuple[Signal, Callable[[StandIn], ChatSession], str, set[str]]] = [
    (signals.session_issued, issued, "active", {"session"}),
    (signals.session_reused, reused, "active", {"session"}),
    (signals.session_failed, failed, "failed", {"session", "error"}),
    (signals.session_cancelled, cancelled, "cancelled", {"session", "by", "reason"}),
]
every_event = pytest.mark.parametrize(
    ("signal", "event", "status", "arguments"), EVENTS, ids=[event.__name__ for _, event, *_ in EVENTS]
)


@every_event
def test_a_receiver_gets_the_session_and_never_a_secret(
    standin: StandIn,
    signal: Signal,
    event: Callable[[StandIn], ChatSession],
    status: str,
    arguments: set[str],
) -> None:
    heard: list[dict[str, Any]] = []

    def receiver(sender: Any, **given: Any) -> None:
        heard.append(given)
        # Settled already when the receivers hear of it.
        assert ChatSession.objects.get(pk=given["session"].pk).status == status

    signal.connect(receiver)
    try:
        session = event(standin)
    finally:
        signal.disconnect(receiver)
    [given] = heard
    assert given.pop("signal") is signal
    assert set(given) == arguments
    assert given["session"] == session
    shown = repr(given) + repr(vars(given["session"]))
    for remote in standin.sessions.values():
        assert not remote["client_secret"] or remote["client_secret"] not in shown
    assert "ek_" not in shown


@every_event
def test_a_receiver_that_fails_is_logged_and_changes_nothing(
    standin: StandIn,
    caplog: pytest.LogCaptureFixture,
    signal: Signal,
    event: Callable[[StandIn], ChatSession],
    status: str,
    arguments: set[str],
) -> None:
    heard: list[str] = []

    def fails(sender: Any, **given: Any) -> None:
        raise RuntimeError("a mistake in the site")

    def works(sender: Any, **given: Any) -> None:
        heard.append("works")

    signal.connect(fails)
    signal.connect(works)
    try:
        session = event(standin)
    finally:
        signal.disconnect(fails)
        signal.disconnect(works)
    assert ChatSession.objects.get(pk=session.pk).status == status
    assert heard == ["works"]
    records = [record for record in caplog.records if record.name == "django.dispatch"]
    assert [str(record.exc_info and record.exc_info[1]) for record in records] == ["a mistake in the site"]


def test_a_bulk_cancellation_tells_of_each_session(standin: StandIn, django_user_model: type[User]) -> None:
    from chatkit_sessions.services import cancel_sessions

    heard: list[tuple[Any, Any, str]] = []

    def receiver(sender: Any, session: ChatSession, by: Any, reason: str, **given: Any) -> None:
        heard.append((session.pk, by, reason))

    operator = django_user_model.objects.create_user("operator")
    rows = [issued(standin) for _ in range(2)]
    signals.session_cancelled.connect(receiver)
    try:
        cancel_sessions(ChatSession.objects.all(), by=operator, reason="closed")
    finally:
        signals.session_cancelled.disconnect(receiver)
    assert sorted(heard) == [(row.pk, operator, "closed") for row in rows]
