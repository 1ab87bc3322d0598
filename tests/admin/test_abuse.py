"""What another site's page can make an operator's browser do in the admin: nothing."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from chatkit_sessions.models import ChatSession, PolicyOverride, Workflow
from chatkit_sessions.standin import StandIn
from tests.api.conftest import session_of

from .conftest import SESSIONS, WORKFLOWS, Desk

OVERRIDES = "/admin/chatkit_sessions/policyoverride/"
ELSEWHERE = "//evil.example/"


@pytest.fixture
def session(ada: User) -> ChatSession:
    return session_of(ada)


def actions(session: ChatSession) -> list[tuple[str, dict[str, Any]]]:
    """The actions that end sessions, with what their forms send."""
    workflow = Workflow.objects.create(slug="default", workflow_id="wf_tests")
    override = PolicyOverride.objects.create(user=session.user, is_blocked=True)
    return [
        (SESSIONS, {"action": "cancel_sessions", "_selected_action": session.pk}),
        (WORKFLOWS, {"action": "end_running_sessions", "_selected_action": workflow.pk}),
        (OVERRIDES, {"action": "end_running_sessions", "_selected_action": override.pk}),
    ]


def test_no_page_of_an_action_can_stand_in_a_frame(operator: Desk, session: ChatSession) -> None:
    for path, form in actions(session):
        for answer in (operator.get(path), operator.http.post(path, form)):
            assert answer.status_code == 200
            assert answer.headers["X-Frame-Options"] == "DENY"


def test_no_page_that_asks_can_stand_in_a_frame_of_a_site_that_allows_others(
    operator: Desk, session: ChatSession, settings: Any
) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "clickjacking" not in name]
    for path, form in actions(session):
        assert "X-Frame-Options" not in operator.get(path).headers
        answer = operator.http.post(path, form)
        assert 'name="confirmed"' in answer.content.decode()
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_following_a_link_ends_nothing(operator: Desk, session: ChatSession, standin: StandIn) -> None:
    for path, form in actions(session):
        for confirmed in ({}, {"confirmed": "yes"}):
            operator.http.get(path, {**form, **confirmed}, follow=True)
    assert ChatSession.objects.running().count() == 1
    assert standin.requests == []


def test_a_form_of_another_site_ends_nothing(operator: Desk, session: ChatSession, standin: StandIn) -> None:
    stranger = Client(enforce_csrf_checks=True)
    stranger.force_login(operator.user)
    for path, form in actions(session):
        stranger.get(path)  # the cookie is there, and the token is not
        for confirmed in ({}, {"confirmed": "yes"}):
            assert stranger.post(path, {**form, **confirmed}).status_code == 403
    assert ChatSession.objects.running().count() == 1
    assert standin.requests == []


def test_an_action_leads_back_to_its_list_and_nowhere_else(
    operator: Desk, session: ChatSession, standin: StandIn
) -> None:
    for path, form in actions(session):
        sent = {**form, "confirmed": "yes", "next": ELSEWHERE, "_popup": "1", "return_to": ELSEWHERE}
        answer = operator.http.post(path, sent, headers={"Referer": f"https:{ELSEWHERE}"})
        assert answer.status_code == 302
        assert answer.headers["Location"] == path
    assert ChatSession.objects.running().count() == 0
