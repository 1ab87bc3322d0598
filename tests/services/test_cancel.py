import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError, connection
from django.forms.models import model_to_dict
from django.test.utils import CaptureQueriesContext

from chatkit_sessions.exceptions import InvalidRequest, StorageUnavailable
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import IssuedSession, cancel, cancel_session, cancel_sessions
from chatkit_sessions.services.withdrawal import AT_A_TIME, tell
from chatkit_sessions.standin import Fault
from chatkit_sessions.standin.exchange import RecordedRequest

from .conftest import Api, Clock, Heard, database_fails_at

Issue = Callable[..., IssuedSession]
Configure = Callable[..., None]

UNRECORDED = "The end of the chat could not be recorded. Try again in a moment."


@pytest.fixture
def session(issue: Issue, api: Api) -> ChatSession:
    """A running session; the requests that made it are forgotten."""
    session = issue().session
    api.requests.clear()
    return session


def stored(session: ChatSession) -> ChatSession:
    return ChatSession.objects.get(pk=session.pk)


def cancel_path(session: ChatSession) -> str:
    return f"/chatkit/sessions/{session.upstream_id}/cancel"


def test_a_cancelled_session_is_ended_here_and_at_the_api(
    session: ChatSession, user: User, other: User, api: Api, clock: Clock, heard: Heard
) -> None:
    clock.advance(10)
    answer = cancel_session(session, by=other, reason="left the page")
    row = stored(session)
    assert answer is session
    assert model_to_dict(session) == model_to_dict(row)
    assert (row.status, row.ended_at, row.ended_by, row.end_reason) == (
        "cancelled",
        clock.now,
        other,
        "left the page",
    )
    assert (row.cancel_requested_at, row.user) == (None, user)
    assert api.paths == [cancel_path(session)]
    assert api.sessions[session.upstream_id]["status"] == "cancelled"
    assert heard.calls == [("session_cancelled", {"session": row, "by": other, "reason": "left the page"})]


@pytest.mark.parametrize("by", [None, AnonymousUser(), User(username="unsaved")])
def test_whoever_has_no_account_ends_it_as_nobody(session: ChatSession, by: Any, heard: Heard) -> None:
    cancel_session(session, by=by)
    row = stored(session)
    assert (row.status, row.ended_by, row.end_reason) == ("cancelled", None, "")
    assert heard.calls == [("session_cancelled", {"session": row, "by": None, "reason": ""})]


def test_repeating_is_harmless(session: ChatSession, api: Api, clock: Clock, heard: Heard) -> None:
    cancel_session(session, reason="first")
    before = model_to_dict(stored(session))
    clock.advance(10)
    cancel_session(stored(session), reason="second")
    cancel_session(session, reason="third")
    assert model_to_dict(stored(session)) == before
    assert (len(api.requests), heard.names) == (1, ["session_cancelled"])


DOWN: dict[str, Fault] = {
    "500": Fault(status=500),
    "401": Fault(status=401),
    "429": Fault(status=429),
    "dropped": Fault(drop=True),
    "late": Fault(delay=3),
    "not JSON": Fault(body="<html>"),
}


@pytest.mark.parametrize("case", DOWN)
def test_while_the_api_is_down_the_request_is_remembered(
    session: ChatSession, api: Api, clock: Clock, configure: Configure, heard: Heard, case: str
) -> None:
    configure(TIMEOUT=(1, 1))
    api.misbehave(DOWN[case])
    cancel_session(session, reason="left")
    due = stored(session)
    assert (due.status, due.ended_at, due.cancel_requested_at) == ("cancelled", clock.now, clock.now)
    assert session.cancel_requested_at == clock.now
    assert heard.names == ["session_cancelled"]
    clock.advance(60)
    cancel_session(session, reason="again")
    told = stored(session)
    assert (told.cancel_requested_at, told.ended_at, told.end_reason) == (None, due.ended_at, "left")
    assert api.sessions[session.upstream_id]["status"] == "cancelled"
    assert api.paths == [cancel_path(session)] * 2
    assert heard.names == ["session_cancelled"]


def test_a_warning_says_that_the_api_was_not_told(
    session: ChatSession, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.misbehave(Fault(status=503))
    cancel_session(session)
    assert [record.getMessage() for record in caplog.records] == [
        f"The API was not told of the end of session {session.reference}: "
        "The stand-in was told to answer 503."
    ]


def test_a_session_that_the_api_does_not_know_is_gone(session: ChatSession, api: Api) -> None:
    api.misbehave(Fault(status=404))
    cancel_session(session)
    assert stored(session).cancel_requested_at is None


def test_a_key_that_was_taken_away_does_not_keep_a_session_alive(
    session: ChatSession, api: Api, configure: Configure
) -> None:
    configure(API_KEY=None)
    cancel_session(session)
    row = stored(session)
    assert (row.status, api.requests) == ("cancelled", [])
    assert row.cancel_requested_at is not None


def test_the_credentials_are_those_that_it_was_issued_with(
    issue: Issue, api: Api, configure: Configure
) -> None:
    configure(
        WORKFLOWS={"default": {"id": "wf_1", "credentials": "eu"}},
        CREDENTIALS={"eu": {"API_KEY": "sk-eu", "BASE_URL": api.base_url}},
    )
    session = issue().session
    configure(WORKFLOWS={"default": {"id": "wf_1"}})
    cancel_session(session)
    assert [request.bearer for request in api.requests] == ["sk-eu", "sk-eu"]


def test_an_id_that_cannot_stand_in_an_address_is_no_crash(
    session: ChatSession, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    ChatSession.objects.update(upstream_id="..")
    cancel_session(stored(session))
    row = stored(session)
    assert (row.status, api.requests) == ("cancelled", [])
    assert row.cancel_requested_at is not None
    assert caplog.records[-1].getMessage().endswith("id must not consist of dots.")


def test_a_session_without_an_id_runs_out_by_itself(session: ChatSession, api: Api) -> None:
    ChatSession.objects.update(upstream_id="")
    cancel_session(stored(session))
    row = stored(session)
    assert (row.status, row.cancel_requested_at, api.requests) == ("cancelled", None, [])


@pytest.mark.parametrize(
    ("status", "seconds"), [("active", 600), ("expired", 600), ("failed", 0), ("pending", 0), ("lost", 0)]
)
def test_what_is_not_running_stays_as_it_is(
    session: ChatSession, api: Api, clock: Clock, heard: Heard, status: str, seconds: float
) -> None:
    ChatSession.objects.update(status=status)
    clock.advance(seconds)
    before = model_to_dict(stored(session))
    # What the caller holds may be out of date.
    cancel_session(session, reason="too late")
    assert session.status == status
    assert model_to_dict(stored(session)) == before == model_to_dict(session)
    assert (api.requests, heard.calls) == ([], [])


def test_a_session_can_be_cancelled_until_just_before_it_expires(session: ChatSession, clock: Clock) -> None:
    clock.advance(599.999)
    assert cancel_session(session).status == "cancelled"


def test_a_reason_has_its_bound(session: ChatSession, api: Api) -> None:
    reason = "x" * 256
    for end in (
        lambda: cancel_session(session, reason=reason),
        lambda: cancel_sessions(ChatSession.objects.all(), reason=reason),
    ):
        with pytest.raises(InvalidRequest) as caught:
            end()
        assert caught.value.errors == {"reason": ["must be at most 255 characters, not 256."]}
    assert (stored(session).status, api.requests) == ("active", [])
    cancel_session(session, reason="x" * 255)
    assert stored(session).end_reason == "x" * 255


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_keeps_the_session_running(
    session: ChatSession, api: Api, heard: Heard
) -> None:
    heard.calls.clear()
    with database_fails_at("UPDATE", "end_reason"):
        with pytest.raises(StorageUnavailable) as one:
            cancel_session(session)
        with pytest.raises(StorageUnavailable) as many:
            cancel_sessions(ChatSession.objects.all())
    assert (str(one.value), one.value.reference) == (UNRECORDED, str(session.reference))
    assert (str(many.value), many.value.reference) == (UNRECORDED, None)
    assert (stored(session).status, session.status, api.requests, heard.calls) == ("active", "active", [], [])


@pytest.mark.django_db(transaction=True)
def test_those_ended_before_the_database_failed_are_announced(
    issue: Issue, api: Api, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        issue()
    heard.calls.clear()
    monkeypatch.setattr(cancel, "BATCH", 2)
    with database_fails_at("UPDATE", "ended_at", after=1), pytest.raises(StorageUnavailable):
        cancel_sessions(ChatSession.objects.all())
    assert heard.names == ["session_cancelled"] * 2
    assert ChatSession.objects.due().count() == 2


@pytest.mark.django_db(transaction=True)
def test_that_the_api_was_told_may_be_recorded_later(
    session: ChatSession, user: User, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with database_fails_at(f"SET {connection.ops.quote_name('cancel_requested_at')}"):
        cancel_session(session, by=user)
    row = stored(session)
    assert (row.status, api.sessions[session.upstream_id]["status"]) == ("cancelled", "cancelled")
    assert row.cancel_requested_at == session.cancel_requested_at is not None
    assert caplog.records[-1].getMessage() == (
        f"Session {session.reference}: that the API was told could not be recorded."
    )
    assert tell(session) is True
    assert stored(session).cancel_requested_at is None
    assert tell(session) is False


@pytest.mark.django_db(transaction=True)
def test_one_that_was_read_before_it_had_its_id_is_told_of(
    issue: Issue, user: User, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is cancelled is the row, however old the object is that stands for it."""
    stale: list[ChatSession] = []

    def meanwhile(request: RecordedRequest) -> None:
        api.watch = None
        stale.append(ChatSession.objects.get())

    api.watch = meanwhile
    session = issue().session
    assert stale[0].upstream_id == ""
    assert cancel_session(stale[0]).upstream_id == session.upstream_id
    assert (stored(session).status, stored(session).cancel_requested_at) == ("cancelled", None)
    assert api.sessions[session.upstream_id]["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_one_that_is_being_issued_is_cancelled_too(issue: Issue, user: User, api: Api) -> None:
    def meanwhile(request: RecordedRequest) -> None:
        api.watch = None
        cancel_session(ChatSession.objects.get(), by=User.objects.get(), reason="A leak.")

    api.watch = meanwhile
    with pytest.raises(StorageUnavailable):
        issue()
    row = ChatSession.objects.get()
    assert (row.status, row.ended_by, row.end_reason) == ("cancelled", user, "A leak.")
    assert api.sessions[row.upstream_id]["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_past_a_deadlock_many_are_cancelled_all_the_same(issue: Issue, api: Api) -> None:
    issue()
    deadlock = OperationalError(1213, "Deadlock found when trying to get lock")
    with (
        database_fails_at("UPDATE", "ended_at", error=deadlock, times=2),
        database_fails_at("UPDATE", "end_reason", error=deadlock, times=1),
    ):
        assert len(cancel_sessions(ChatSession.objects.all()).sessions) == 1


def test_those_that_somebody_else_ended_meanwhile_are_theirs(
    issue: Issue, api: Api, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue()
    end = cancel._end_values

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        ChatSession.objects.update(status="cancelled", end_reason="theirs")
        return end(*arguments, **named)

    monkeypatch.setattr(cancel, "_end_values", meanwhile)
    assert cancel_sessions(ChatSession.objects.all(), reason="ours").ended == 0
    assert ChatSession.objects.get().end_reason == "theirs"
    assert heard.names == ["session_issued"]


def test_what_the_api_answered_is_not_read_to_cancel_many(issue: Issue, api: Api) -> None:
    """It may be large: 64 KiB of each of ten thousand sessions."""
    issue()
    with CaptureQueriesContext(connection) as statements:
        result = cancel_sessions(ChatSession.objects.all())
    assert len(result.sessions) == 1
    assert not [query["sql"] for query in statements if "response" in query["sql"]]


def test_a_statement_ends_a_batch(
    issue: Issue, user: User, api: Api, heard: Heard, django_assert_num_queries: Any
) -> None:
    for _ in range(5):
        issue()
    # What is being issued, what is running, its end, what was ended.
    with django_assert_num_queries(4):
        cancel_sessions(ChatSession.objects.all(), by=user, seconds=0)
    assert [arguments["by"] for name, arguments in heard.calls if name == "session_cancelled"] == [user] * 5


def test_the_running_ones_of_many_are_cancelled(
    issue: Issue, user: User, other: User, api: Api, heard: Heard
) -> None:
    mine = [issue().session for _ in range(3)]
    theirs = issue(user=other).session
    cancel_session(mine[0])
    api.requests.clear()
    heard.calls.clear()
    done = cancel_sessions(ChatSession.objects.filter(user=user), by=other, reason="account closed")
    assert (done.ended, done.due) == (2, 0)
    assert {row.status for row in ChatSession.objects.filter(user=user)} == {"cancelled"}
    assert stored(theirs).status == "active"
    assert {(row.ended_by, row.end_reason) for row in map(stored, mine[1:])} == {(other, "account closed")}
    assert sorted(api.paths) == sorted(map(cancel_path, mine[1:]))
    assert heard.names == ["session_cancelled"] * 2
    assert cancel_sessions(ChatSession.objects.filter(user=user)).ended == 0


def test_many_are_cancelled_within_the_seconds_given(
    issue: Issue, api: Api, configure: Configure, heard: Heard
) -> None:
    configure(MAX_RETRIES=2, TIMEOUT=(5, 5), DEADLINE=15)
    for _ in range(6):
        issue()
    api.requests.clear()
    heard.calls.clear()
    api.misbehave(Fault(delay=5), times=99)
    started = time.monotonic()
    done = cancel_sessions(ChatSession.objects.all(), seconds=0.6)
    assert time.monotonic() - started < 1.5
    assert (done.ended, done.due, done.summary) == (6, 6, "0 ended, 6 queued")
    assert len(api.requests) == AT_A_TIME
    assert heard.names == ["session_cancelled"] * 6
    assert set(ChatSession.objects.values_list("status", flat=True)) == {"cancelled"}


def test_no_seconds_leave_it_all_to_the_reconciliation(issue: Issue, api: Api) -> None:
    issue()
    api.requests.clear()
    done = cancel_sessions(ChatSession.objects.all(), seconds=0)
    assert (done.ended, done.due, api.requests) == (1, 1, [])


def test_more_seconds_than_deadline_do_not_prolong_a_call(
    session: ChatSession, api: Api, configure: Configure
) -> None:
    configure(DEADLINE=0.3)
    api.misbehave(Fault(delay=5))
    started = time.monotonic()
    cancel_sessions(ChatSession.objects.all(), seconds=60)
    assert time.monotonic() - started < 1.5


def test_a_row_that_was_cancelled_meanwhile_is_left_alone(session: ChatSession, clock: Clock) -> None:
    stale = stored(session)
    cancel_session(session, reason="first")
    clock.advance(1)
    assert cancel_session(stale, reason="second").end_reason == "first"
    assert stale.ended_at == clock.now - timedelta(seconds=1)
