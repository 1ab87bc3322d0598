from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from chatkit_sessions.models import ChatSession, Status, Workflow
from chatkit_sessions.signals import session_cancelled
from chatkit_sessions.standin import Fault, StandIn
from tests.api.conftest import Browser, session_of
from tests.services.conftest import database_fails_at

from .conftest import QUEUED, SESSIONS, WORKFLOWS, Desk, Page, messages, staff

NOTHING = "None of these sessions is running, so there is nothing to cancel."


@pytest.fixture
def canceller(db: None) -> Desk:
    return staff("canceller", "view_chatsession", "cancel_chatsession")


@pytest.fixture(autouse=True)
def _no_retries(standin: StandIn) -> Iterator[None]:
    with override_settings(CHATKIT_SESSIONS={**settings.CHATKIT_SESSIONS, "MAX_RETRIES": 0}):
        yield


@pytest.fixture
def running(ada: User, bob: User) -> list[ChatSession]:
    """One running session of each of two people."""
    for user in (ada, bob):
        Browser(user).issue()
    return list(ChatSession.objects.order_by("pk"))


def ask(desk: Desk, *sessions: ChatSession, **data: Any) -> Any:
    return desk.post(
        SESSIONS, action="cancel_sessions", _selected_action=[session.pk for session in sessions], **data
    )


def confirm(desk: Desk, *sessions: ChatSession, reason: str = "", **data: Any) -> Any:
    """Send the form of the page that asks, as it stands there."""
    page = Page(ask(desk, *sessions, **data))
    fields: dict[str, Any] = {}
    for field in page.inputs:
        if name := field.get("name"):
            fields.setdefault(name, []).append(field.get("value") or "")
    return desk.post(SESSIONS, **{**fields, "reason": reason})


def test_the_operator_is_asked_first(canceller: Desk, running: list[ChatSession], standin: StandIn) -> None:
    past = timezone.now() - timedelta(seconds=1)
    over = session_of(running[0].user, upstream_id="cksess_over", expires_at=past)
    page = Page(ask(canceller, *running, over))
    assert "These 2 sessions end at once, and the people have to start other ones:" in page.text
    for session, name in zip(running, ("ada", "bob"), strict=True):
        assert f"{session.upstream_id}: {name}, default" in page.text
    assert over.upstream_id not in page.text
    assert ChatSession.objects.running().count() == 2
    assert len(standin.requests) == 2


@pytest.mark.parametrize("action", ["cancel_sessions", "end_running_sessions"])
def test_the_page_that_asks_says_where_it_belongs(
    operator: Desk, running: list[ChatSession], action: str
) -> None:
    workflow = Workflow.objects.create(slug="default", workflow_id="wf_tests")
    place, row = (SESSIONS, running[0].pk) if action == "cancel_sessions" else (WORKFLOWS, workflow.pk)
    page = Page(operator.post(place, action=action, _selected_action=row))
    assert page.trail == ["/admin/", "/admin/chatkit_sessions/", place]


def test_one_that_is_being_issued_is_asked_about_and_stopped_too(canceller: Desk, ada: User) -> None:
    ends = timezone.now() + timedelta(seconds=30)
    pending = session_of(ada, status=Status.PENDING, upstream_id="", issued_at=None, expires_at=ends)
    assert str(pending.reference) in Page(ask(canceller, pending)).text
    assert messages(confirm(canceller, pending, reason="A leak.")) == [
        ("warning", f"0 ended, 1 queued. {QUEUED}")
    ]
    pending.refresh_from_db()
    assert pending.cancel_requested_at is not None
    assert (pending.ended_by, pending.end_reason) == (canceller.user, "A leak.")


def test_one_session_is_spoken_of_as_one(canceller: Desk, running: list[ChatSession]) -> None:
    text = Page(ask(canceller, running[0])).text
    assert "This session ends at once, and the person has to start another one:" in text


def test_confirmed_sessions_end_here_and_at_the_api(
    canceller: Desk, running: list[ChatSession], standin: StandIn
) -> None:
    answer = confirm(canceller, *running, reason="Left the company.")
    assert messages(answer) == [("success", "2 sessions were cancelled.")]
    for session in ChatSession.objects.all():
        assert session.status == Status.CANCELLED
        assert (session.ended_by, session.end_reason) == (canceller.user, "Left the company.")
        assert session.cancel_requested_at is None
        assert standin.sessions[session.upstream_id]["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", [SESSIONS, WORKFLOWS])
def test_a_transaction_around_each_request_changes_nothing(
    operator: Desk, running: list[ChatSession], standin: StandIn, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    """In one, everybody's rows would be locked to the end, and nobody would know whom the API was told of."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    told: list[bool] = []
    session_cancelled.connect(
        lambda **_: told.append(connection.in_atomic_block), weak=False, dispatch_uid="told"
    )
    try:
        if page == SESSIONS:
            answer = confirm(operator, *running)
        else:
            row = Workflow.objects.create(slug="default", workflow_id="wf_tests").pk
            action = {"action": "end_running_sessions", "confirmed": "yes"}
            answer = operator.post(page, **action, _selected_action=row)
    finally:
        session_cancelled.disconnect(dispatch_uid="told")
    assert messages(answer) == [("success", "2 sessions were cancelled.")]
    assert told == [False, False]


def test_only_the_selected_sessions_end(canceller: Desk, running: list[ChatSession]) -> None:
    assert messages(confirm(canceller, running[0])) == [("success", "1 session was cancelled.")]
    assert ChatSession.objects.running().get() == running[1]


def test_all_sessions_of_a_list_can_be_selected_at_once(canceller: Desk, running: list[ChatSession]) -> None:
    assert "These 2 sessions end at once" in Page(ask(canceller, running[0], select_across=1)).text
    answer = confirm(canceller, running[0], select_across=1)
    assert messages(answer) == [("success", "2 sessions were cancelled.")]


def test_the_log_of_the_admin_keeps_it(canceller: Desk, running: list[ChatSession]) -> None:
    confirm(canceller, running[0])
    (entry,) = LogEntry.objects.all()
    assert entry.user == canceller.user
    assert entry.object_id == str(running[0].pk)
    assert entry.object_repr == running[0].upstream_id
    assert entry.get_change_message() == "Cancelled."
    history = canceller.page(f"{SESSIONS}{running[0].pk}/history/")
    assert "Cancelled." in history.text


def test_while_the_api_is_down_it_is_told_later(
    canceller: Desk, running: list[ChatSession], standin: StandIn
) -> None:
    standin.misbehave(Fault(status=500))
    answer = confirm(canceller, *running)
    assert messages(answer) == [
        ("warning", f"1 ended, 1 queued. {QUEUED}"),
    ]
    assert ChatSession.objects.running().count() == 0
    assert ChatSession.objects.filter(cancel_requested_at__isnull=False).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_database_that_fails_is_told_and_nothing_is_logged_as_done(
    canceller: Desk, running: list[ChatSession]
) -> None:
    with database_fails_at("UPDATE", "ended_at"):
        answer = confirm(canceller, *running)
    assert messages(answer) == [
        ("error", "The end of the chat could not be recorded. Try again in a moment.")
    ]
    assert not LogEntry.objects.exists()
    assert ChatSession.objects.running().count() == 2


def test_the_page_that_asks_stands_in_no_frame_whatever_the_site_allows(
    canceller: Desk, running: list[ChatSession]
) -> None:
    with override_settings(X_FRAME_OPTIONS="SAMEORIGIN"):
        assert ask(canceller, *running).headers["X-Frame-Options"] == "DENY"


def test_a_key_that_is_gone_stops_no_operator(canceller: Desk, running: list[ChatSession]) -> None:
    with override_settings(CHATKIT_SESSIONS={**settings.CHATKIT_SESSIONS, "API_KEY": None}):
        answer = confirm(canceller, *running)
    assert messages(answer) == [("warning", f"0 ended, 2 queued. {QUEUED}")]


@pytest.mark.parametrize("confirmed", [True, False])
def test_sessions_that_have_ended_stay_as_they_are(
    canceller: Desk, ada: User, standin: StandIn, confirmed: bool
) -> None:
    over = session_of(ada, expires_at=timezone.now() - timedelta(seconds=1))
    before = ChatSession.objects.values().get()
    if confirmed:  # it ran out while the page that asks was open
        assert messages(ask(canceller, over, confirmed="yes")) == [("info", NOTHING)]
    else:
        page = Page(ask(canceller, over))
        assert NOTHING in page.text
        assert not [field for field in page.inputs if field.get("name") == "confirmed"]
    assert ChatSession.objects.values().get() == before
    assert not LogEntry.objects.exists()
    assert standin.requests == []


def test_a_reason_is_kept_up_to_its_bound(canceller: Desk, running: list[ChatSession]) -> None:
    confirm(canceller, running[0], reason="r" * 300)
    assert ChatSession.objects.get(pk=running[0].pk).end_reason == "r" * 255


@pytest.mark.parametrize("confirmed", [{}, {"confirmed": "yes"}])
def test_cancelling_has_a_permission_of_its_own(
    auditor: Desk, running: list[ChatSession], standin: StandIn, confirmed: dict[str, str]
) -> None:
    assert "cancel_sessions" not in auditor.page(SESSIONS).options
    ask(auditor, *running, **confirmed)
    assert ChatSession.objects.running().count() == 2
    assert len(standin.requests) == 2


def test_the_action_is_offered_to_those_who_may(canceller: Desk, running: list[ChatSession]) -> None:
    assert canceller.page(SESSIONS).options == ["", "cancel_sessions"]


def test_a_stranger_gets_nowhere(running: list[ChatSession], ada: User) -> None:
    answer = Desk(ada).http.post(SESSIONS, {"action": "cancel_sessions", "confirmed": "yes"})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/admin/login/")
    assert ChatSession.objects.running().count() == 2


def test_the_sessions_of_a_workflow_can_be_ended(
    operator: Desk, running: list[ChatSession], standin: StandIn, ada: User
) -> None:
    workflow = Workflow.objects.create(slug="default", workflow_id="wf_tests")
    other = Workflow.objects.create(slug="other", workflow_id="wf_other")
    kept = session_of(ada, workflow_slug="other")
    data: dict[str, Any] = {"action": "end_running_sessions", "_selected_action": workflow.pk}
    assert "These 2 sessions end at once" in Page(operator.post(WORKFLOWS, **data)).text
    answer = operator.post(WORKFLOWS, **data, confirmed="yes", reason="Closed.")
    assert messages(answer) == [("success", "2 sessions were cancelled.")]
    assert list(ChatSession.objects.running()) == [kept]
    assert Workflow.objects.filter(is_active=True).count() == 2
    assert other.is_active


def test_ending_a_workflows_sessions_needs_the_permission_to_cancel(running: list[ChatSession]) -> None:
    workflow = Workflow.objects.create(slug="default", workflow_id="wf_tests")
    keeper = staff("keeper", "view_workflow", "change_workflow")
    keeper.post(
        WORKFLOWS, action="end_running_sessions", _selected_action=workflow.pk, confirmed="yes", reason=""
    )
    assert ChatSession.objects.running().count() == 2
