from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.forms.models import model_to_dict
from django.test.utils import CaptureQueriesContext

from chatkit_sessions.exceptions import StorageUnavailable
from chatkit_sessions.models import ChatSession, ChatSessionQuerySet
from chatkit_sessions.services import IssuedSession, Reconciliation, cancel_session, housekeeping, reconcile
from chatkit_sessions.standin import Fault
from chatkit_sessions.standin.exchange import RecordedRequest

from .conftest import Api, Clock, database_fails_at, settling_fails

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]

NOTHING = Reconciliation(lost=0, expired=0, told=0, due=0)
# DEADLINE and the time that settling may take after it.
GIVEN_UP_AFTER = 45


def stored(session: ChatSession) -> ChatSession:
    return ChatSession.objects.get(pk=session.pk)


@pytest.fixture
def due(issue: Issue, api: Api) -> ChatSession:
    """A session that was cancelled while the API was down."""
    session = issue().session
    api.misbehave(Fault(status=503))
    cancel_session(session, reason="left")
    api.requests.clear()
    return session


@pytest.mark.django_db(transaction=True)
def test_a_pending_row_becomes_lost_when_its_time_is_over(api: Api, issue: Issue, clock: Clock) -> None:
    with settling_fails(), pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    clock.advance(GIVEN_UP_AFTER - 0.001)
    assert reconcile() == NOTHING
    assert stored(row).status == "pending"
    clock.advance(0.001)
    assert reconcile() == Reconciliation(lost=1, expired=0, told=0, due=0)
    assert (stored(row).status, stored(row).ended_at) == ("lost", row.expires_at)
    assert reconcile() == NOTHING


def test_an_active_row_becomes_expired_when_its_time_is_over(issue: Issue, clock: Clock) -> None:
    session = issue().session
    clock.advance(599)
    assert reconcile() == NOTHING
    clock.advance(2)
    assert reconcile() == Reconciliation(lost=0, expired=1, told=0, due=0)
    row = stored(session)
    assert (row.status, row.ended_at, row.end_reason, row.ended_by) == ("expired", row.expires_at, "", None)
    assert reconcile() == NOTHING


def test_the_api_is_told_of_what_it_has_not_heard(due: ChatSession, api: Api, clock: Clock) -> None:
    clock.advance(60)
    before = model_to_dict(stored(due))
    assert reconcile() == Reconciliation(lost=0, expired=0, told=1, due=0)
    assert api.sessions[due.upstream_id]["status"] == "cancelled"
    assert model_to_dict(stored(due)) == {**before, "cancel_requested_at": None}
    assert reconcile() == NOTHING


def test_while_the_api_is_down_it_is_told_later(due: ChatSession, api: Api, clock: Clock) -> None:
    api.misbehave(Fault(status=503), times=2)
    for _ in range(2):
        assert reconcile() == Reconciliation(lost=0, expired=0, told=0, due=1)
    assert reconcile().told == 1


def test_once_the_session_is_over_the_api_need_not_hear_of_it(
    due: ChatSession, api: Api, clock: Clock
) -> None:
    clock.advance(601)
    assert reconcile() == NOTHING
    row = stored(due)
    assert (row.status, api.requests) == ("cancelled", [])
    # The audit can tell that it was never told.
    assert row.cancel_requested_at is not None


def test_no_seconds_ask_nothing_of_the_api(due: ChatSession, api: Api) -> None:
    assert reconcile(seconds=0) == Reconciliation(lost=0, expired=0, told=0, due=1)
    assert api.requests == []


def test_what_has_ended_stays_as_it_is(issue: Issue, api: Api, clock: Clock) -> None:
    cancel_session(issue().session)
    api.misbehave(Fault(status=400))
    with pytest.raises(Exception, match="refused"):
        issue()
    clock.advance(7200)
    before = list(ChatSession.objects.values())
    assert reconcile() == NOTHING
    assert list(ChatSession.objects.values()) == before


def test_another_that_settles_at_the_same_time_tells_of_the_rest(
    issue: Issue, api: Api, clock: Clock, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [issue().session for _ in range(3)]
    api.misbehave(Fault(status=503), times=3)
    configure(COOLDOWN=None)
    for session in sessions:
        cancel_session(session)
    api.requests.clear()
    claimed = housekeeping._claimed(clock.now)
    clock.advance(1)
    assert next(claimed) == sessions[0]
    # It has read all of them, and another one is quicker with the second.
    ChatSession.objects.filter(pk=sessions[1].pk).update(cancel_requested_at=clock.now)
    assert list(claimed) == [sessions[2]]


def test_many_rows_are_settled_some_at_a_time(
    issue: Issue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    for _ in range(5):
        issue()
    clock.advance(601)
    with CaptureQueriesContext(connection) as statements:
        assert reconcile().expired == 5
    assert sum("SET" in query["sql"] and "expired" in query["sql"] for query in statements) == 3


def test_the_statements_do_not_grow_with_the_sessions(issue: Issue, clock: Clock) -> None:
    counts = []
    for number in (1, 5):
        for _ in range(number):
            issue()
        clock.advance(601)
        with CaptureQueriesContext(connection) as statements:
            reconcile()
        counts.append(len(statements))
    assert counts == [6, 6]


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_is_told(issue: Issue, clock: Clock) -> None:
    session = issue().session
    clock.advance(601)
    with database_fails_at("UPDATE", "ended_at"), pytest.raises(StorageUnavailable) as caught:
        reconcile()
    assert isinstance(caught.value.__cause__, OperationalError)
    assert stored(session).status == "active"
    assert reconcile().expired == 1


def test_nothing_depends_on_it_having_run(issue: Issue, api: Api, clock: Clock, configure: Configure) -> None:
    """Limits, handing out, listings and cancelling see what time has decided without it."""
    configure(MAX_ACTIVE_SESSIONS=1)
    first = issue()
    clock.advance(601)
    assert ChatSession.objects.shown_as("expired").get() == first.session
    assert not ChatSession.objects.running().exists()
    second = issue(current_client_secret=first.client_secret)
    assert not second.reused
    cancel_session(first.session)
    assert stored(first.session).status == "active"
    assert reconcile().expired == 1
    assert stored(first.session).ended_at == clock.now - timedelta(seconds=1)


@pytest.mark.django_db(transaction=True)
def test_a_late_answer_finds_its_row_given_up(api: Api, issue: Issue, clock: Clock) -> None:
    def settle_meanwhile(request: RecordedRequest) -> None:
        api.watch = None
        clock.advance(GIVEN_UP_AFTER)
        assert reconcile(seconds=0).lost == 1

    api.watch = settle_meanwhile
    with pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    assert (row.status, row.secret_digest) == ("lost", "")
    # Its secret reaches nobody, and the session is withdrawn.
    assert [session["status"] for session in api.sessions.values()] == ["cancelled"]


def test_it_comes_to_an_end_where_nothing_can_be_changed(
    issue: Issue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue()
    clock.advance(601)
    monkeypatch.setattr(ChatSessionQuerySet, "update", lambda self, **values: 0)
    assert reconcile() == NOTHING


@pytest.mark.django_db(transaction=True)
def test_a_late_failure_finds_its_row_given_up(api: Api, issue: Issue, clock: Clock) -> None:
    def settle_meanwhile(request: RecordedRequest) -> None:
        clock.advance(GIVEN_UP_AFTER)
        assert reconcile(seconds=0).lost == 1

    api.watch = settle_meanwhile
    api.misbehave(Fault(status=400))
    with pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    assert (row.status, row.error_code) == ("lost", "")
