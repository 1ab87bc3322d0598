"""Cancelling what is being issued at this moment, and what is cancelled inside a transaction."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import OperationalError, transaction

from chatkit_sessions.client import transport
from chatkit_sessions.exceptions import StorageUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import (
    IssuedSession,
    cancel_session,
    cancel_sessions,
    reconcile,
    settle,
    withdrawal,
)
from chatkit_sessions.services import issue as issuing
from chatkit_sessions.services.reserve import reserve
from chatkit_sessions.services.withdrawal import tell
from chatkit_sessions.standin import Fault
from chatkit_sessions.standin.exchange import RecordedRequest

from .conftest import Api, Clock, Heard, database_fails_at

pytestmark = pytest.mark.django_db(transaction=True)

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]


def deactivate(user: User) -> None:
    user.is_active = False
    user.save()


WAYS: dict[str, Callable[[User], Any]] = {
    "deactivation": deactivate,
    "deletion": lambda user: user.delete(),
    "the command": lambda user: call_command("chatkit_cancel", all=True, noinput=True),
    "the service": lambda user: cancel_sessions(ChatSession.objects.all(), by=user, reason="A leak."),
}


@pytest.mark.parametrize("way", WAYS)
def test_nobody_gets_the_secret_of_a_session_that_was_cancelled_while_it_was_issued(
    issue: Issue, user: User, api: Api, heard: Heard, way: str
) -> None:
    def meanwhile(request: RecordedRequest) -> None:
        api.watch = None
        WAYS[way](User.objects.get(pk=user.pk))

    api.watch = meanwhile
    with pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    # It was issued, went to nobody, and is over on both sides.
    assert (row.status, row.handed_out_count, row.cancel_requested_at) == ("cancelled", 0, None)
    assert (row.ended_at is None, row.last_handed_out_at) == (False, None)
    assert api.sessions[row.upstream_id]["status"] == "cancelled"
    assert "session_issued" not in heard.names


def test_it_is_counted_and_its_end_remembered(issue: Issue, api: Api, user: User) -> None:
    counted: list[str] = []

    def meanwhile(request: RecordedRequest) -> None:
        api.watch = None
        counted.append(cancel_sessions(ChatSession.objects.all(), by=user, reason="A leak.").summary)
        counted.append(cancel_sessions(ChatSession.objects.all(), reason="Once more.").summary)

    api.watch = meanwhile
    api.misbehave(Fault(status=400), path="*/cancel")
    with pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    assert counted == ["0 ended, 1 queued", "0 ended, 0 queued"]
    assert (row.status, row.ended_by, row.end_reason) == ("cancelled", user, "A leak.")
    assert row.cancel_requested_at is not None
    assert reconcile().told == 1
    assert api.sessions[row.upstream_id]["status"] == "cancelled"


def test_one_that_then_fails_has_nothing_to_cancel(issue: Issue, api: Api, user: User) -> None:
    everything = ChatSession.objects.all()
    api.watch = lambda request: cancel_sessions(everything, by=user, reason="A leak.", seconds=0)
    api.misbehave(Fault(status=400))
    with pytest.raises(Exception, match="refused"):
        issue()
    row = ChatSession.objects.get()
    assert (row.status, row.cancel_requested_at) == ("failed", None)
    # It did not end by being cancelled.
    assert (row.ended_by, row.end_reason) == (None, "")


CANCELLING: dict[str, Callable[[ChatSession], Any]] = {
    "one": lambda session: cancel_session(session),
    "many": lambda session: cancel_sessions(ChatSession.objects.all()),
}


@pytest.mark.parametrize("end", CANCELLING.values(), ids=CANCELLING)
def test_inside_a_transaction_the_api_is_told_when_it_is_committed(
    issue: Issue, api: Api, heard: Heard, end: Callable[[ChatSession], Any]
) -> None:
    session = issue().session
    heard.calls.clear()
    with transaction.atomic():
        end(session)
        assert (len(api.requests), heard.names) == (1, [])
    assert (len(api.requests), heard.names) == (2, ["session_cancelled"])
    row = ChatSession.objects.get()
    assert (row.status, row.cancel_requested_at) == ("cancelled", None)


@pytest.mark.parametrize("end", CANCELLING.values(), ids=CANCELLING)
def test_what_is_rolled_back_is_heard_of_nowhere(
    issue: Issue, api: Api, heard: Heard, end: Callable[[ChatSession], Any]
) -> None:
    issued = issue()
    heard.calls.clear()
    with transaction.atomic():
        end(ChatSession.objects.get())
        transaction.set_rollback(True)
    assert (len(api.requests), heard.names) == (1, [])
    assert issue(current_client_secret=issued.client_secret).reused


def test_a_site_that_commits_by_hand_leaves_the_telling_to_the_reconciliation(
    issue: Issue, api: Api, clock: Clock
) -> None:
    session = issue().session
    transaction.set_autocommit(False)
    try:
        cancel_session(session)
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert len(api.requests) == 1
    assert reconcile().told == 1


def test_a_secret_whose_row_was_written_unheard_of_is_withheld_in_the_row(
    issue: Issue, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database carries out the update, and cannot say so any more."""
    update = settle._update

    def lost(session: ChatSession, row: Any, values: Any) -> bool:
        update(session, row, values)
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(settle, "_update", lost)
    with pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    assert (row.status, row.end_reason) == ("cancelled", settle.WITHHELD)
    assert (row.handed_out_count, row.last_handed_out_at) == (0, None)
    assert (row.cancel_requested_at, api.sessions[row.upstream_id]["status"]) == (None, "cancelled")


def test_one_row_that_is_broken_keeps_no_other_from_being_told(issue: Issue, api: Api) -> None:
    sessions = [issue().session for _ in range(3)]
    cancel_sessions(ChatSession.objects.all(), seconds=0)
    ChatSession.objects.filter(pk=sessions[1].pk).update(policy={})
    result = reconcile()
    assert (result.told, result.due) == (2, 1)


def test_where_no_thread_is_to_be_had_the_telling_waits(
    issue: Issue, api: Api, monkeypatch: pytest.MonkeyPatch, configure: Configure
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    session = issue().session
    transport.shared_session().close()  # a new connection has to be made
    monkeypatch.setattr(threading.Thread, "start", fail)
    cancel_session(session)
    assert ChatSession.objects.get().cancel_requested_at is not None


def test_without_any_time_left_nothing_is_asked(issue: Issue, api: Api) -> None:
    session = issue().session
    cancel_sessions(ChatSession.objects.all(), seconds=0)
    session.refresh_from_db()
    assert (tell(session, seconds=0), len(api.requests)) == (False, 1)


def test_the_end_of_a_session_that_has_run_out_is_told_to_nobody(
    issue: Issue, api: Api, clock: Clock
) -> None:
    session = issue().session
    cancel_sessions(ChatSession.objects.all(), seconds=0)
    clock.advance(601)
    cancel_session(ChatSession.objects.get(pk=session.pk))
    assert len(api.requests) == 1


def test_those_of_a_statement_that_fails_go_on(issue: Issue, api: Api, heard: Heard) -> None:
    for _ in range(3):
        issue()
    heard.calls.clear()
    with database_fails_at("UPDATE", "ended_at"), pytest.raises(StorageUnavailable):
        cancel_sessions(ChatSession.objects.all())
    assert ChatSession.objects.running().count() == 3
    assert (heard.names, len(api.requests)) == ([], 3)


def test_the_words_of_an_error_that_is_not_ours_stay_out_of_the_log(
    issue: Issue, api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any) -> None:
        raise LookupError("the vault says hush")

    session = issue().session
    monkeypatch.setattr(withdrawal, "OpenAIIssuer", fail)
    cancel_session(session)
    assert caplog.records[-1].getMessage().endswith(f"{session.reference}: LookupError")
    assert "hush" not in caplog.text


def test_however_long_the_row_took_the_api_has_its_time(
    issue: Issue, api: Api, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*args: Any) -> Any:
        time.sleep(1.1)
        return reserve(*args)

    configure(DEADLINE=1)
    monkeypatch.setattr(issuing, "reserve", slow)
    assert issue().session.status == "active"


def test_with_no_time_left_a_session_that_nobody_gets_is_withdrawn_all_the_same(
    issue: Issue, api: Api, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*args: Any) -> None:
        time.sleep(1.1)
        raise StorageUnavailable

    configure(DEADLINE=1)
    monkeypatch.setattr(issuing, "settle", slow)
    with pytest.raises(StorageUnavailable):
        issue()
    assert [session["status"] for session in api.sessions.values()] == ["cancelled"]
