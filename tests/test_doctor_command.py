import io
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import OperationalError

from chatkit_sessions.models import ChatSession, PolicyOverride
from chatkit_sessions.services import doctor, issue_session
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.testing import standin as pointed_at

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada")


def said(**options: Any) -> str:
    out = io.StringIO()
    call_command("chatkit_doctor", stdout=out, no_color=True, **options)
    return out.getvalue()


def complaint(**options: Any) -> tuple[str, str]:
    """Return what was said before the error, and the error."""
    out = io.StringIO()
    with pytest.raises(CommandError) as failed:
        call_command("chatkit_doctor", stdout=out, no_color=True, **options)
    assert failed.value.returncode == 1
    return out.getvalue(), str(failed.value)


def test_it_says_that_a_session_can_be_had(standin: StandIn) -> None:
    text = said()
    assert text == f"A session was created and cancelled: {ChatSession.objects.get()}.\n"
    assert [session["status"] for session in standin.sessions.values()] == ["cancelled"]


def test_it_tries_the_workflow_that_is_named() -> None:
    with pointed_at(WORKFLOWS={"support": {"id": "wf_support"}}) as api:
        said(workflow="support")
        assert api.requests[0].json["workflow"] == {"id": "wf_support"}


def test_it_names_cause_cure_and_row(standin: StandIn) -> None:
    standin.misbehave(Fault(status=401))
    _text, error = complaint()
    row = ChatSession.objects.get()
    assert error == (
        "The chat service refused the request. The site's operator has to look at this.\n"
        f"The API answered 401: {row.error_message} (audit row {row.reference})\n"
        "Look at the answer: 401 means the key is wrong, 403 that its project may not use ChatKit, "
        "404 that the workflow belongs to another project than the key (see CREDENTIALS)."
    )
    assert "The stand-in was told to answer 401." in error


def test_without_an_answer_there_is_no_status() -> None:
    with pointed_at(BASE_URL="http://127.0.0.1:9/v1", MAX_RETRIES=0):
        _text, error = complaint()
    assert "\nThe API answered -: " in error
    assert error.endswith("\nCheck BASE_URL, the network, the proxy and OpenAI's status page.")


def test_a_message_that_names_its_cure_stands_alone() -> None:
    with pointed_at(API_KEY=None):
        assert complaint() == (
            "",
            "There is no API key: set OPENAI_API_KEY in the environment, or API_KEY in CHATKIT_SESSIONS.",
        )


def test_a_session_that_could_not_be_cancelled_is_no_success(standin: StandIn) -> None:
    standin.misbehave(Fault(status=404), path="/chatkit/sessions/*/cancel")
    said()  # already gone there: done
    standin.misbehave(Fault(status=401), path="/chatkit/sessions/*/cancel")
    _text, error = complaint()
    assert error == (
        f"A session was created, but the API could not be told of its end: {ChatSession.objects.first()}.\n"
        "It ends by itself; the log says what the API answered."
    )


def test_a_database_without_tables_has_a_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OperationalError("no such table: chatkit_sessions_workflow")

    monkeypatch.setattr(doctor, "issue_session", fail)
    assert complaint()[1] == (
        "The database failed: no such table: chatkit_sessions_workflow\nRun migrate, and check the database."
    )


def test_it_explains_what_a_user_would_get(standin: StandIn, user: User) -> None:
    group = Group.objects.create(name="Trial")
    group.user_set.add(user)
    PolicyOverride.objects.create(user=user, expires_after=60, reason="a slow month")
    PolicyOverride.objects.create(group=group, is_blocked=True, valid_until="2020-01-01T00:00Z")
    assert said(user="ada", workflow="default").splitlines() == [
        "ada / default",
        f"known to the API as {user.pk}",
        "  tracing: yes (the default)",
        "  automatic thread titling: yes (the default)",
        "  file upload: no (the default)",
        "  largest file: 512 MB (the default)",
        "  most files: 10 (the default)",
        "  history: yes (the default)",
        "  recent threads: unlimited (the default)",
        "  lifetime: 60 s (override for user ada)",
        "  requests a minute: 10 (the default)",
        "  active sessions: unlimited (the default)",
        "  sessions an hour: 60 (the default)",
        "  issuer: openai (the default)",
        "  credentials: the site's own (the default)",
        "  workflow id: wf_tests (the workflow in the settings)",
        "  version: the latest deployment (the default)",
        "  isolate history: no (the default)",
        "override: user ada / *: a slow month",
        "override: group Trial / * (over)",
        "A session would be granted now.",
    ]
    assert standin.requests == []
    assert not ChatSession.objects.exists()


def test_it_explains_the_default_workflow_unless_another_is_named(standin: StandIn, user: User) -> None:
    assert said(user="ada").splitlines()[0] == "ada / default"


def test_a_refusal_is_a_failure_with_its_reason_and_wait(user: User) -> None:
    with pointed_at(MAX_SESSIONS_PER_HOUR=1):
        issue_session(user=user)
        text, error = complaint(user="ada")
    assert "  sessions an hour: 1 (the settings)\n" in text
    assert error.startswith(
        "A session would be refused now (session_limit_reached): "
        "You may start 1 chat an hour. Try again later. A place becomes free in "
    )


def test_a_broken_site_is_explained_too(user: User) -> None:
    with pointed_at(EXPIRES_AFTER=0):
        text, error = complaint(user="ada")
    assert text == "ada / \n"
    assert error == (
        "A session would be refused now (not_configured): "
        'CHATKIT_SESSIONS["EXPIRES_AFTER"] must be an integer of at least 1, not 0.'
    )


@pytest.mark.parametrize("name", ["bob", "", "'; --"])
def test_a_user_who_does_not_exist_is_named(standin: StandIn, name: str) -> None:
    assert complaint(user=name) == ("", f"There is no user {name!r}.")
