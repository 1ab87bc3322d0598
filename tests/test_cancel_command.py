import builtins
import io
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import override_settings

from chatkit_sessions.management.commands import chatkit_cancel
from chatkit_sessions.models import ChatSession
from chatkit_sessions.services import issue_session
from chatkit_sessions.standin import Fault, StandIn
from tests.services.conftest import database_fails_at

pytestmark = pytest.mark.django_db

QUEUED = (
    "The queued ones are over here as well, but the API has not been told of them yet: "
    "chatkit_reconcile tries again, and chatkit_doctor says what is in the way.\n"
)


@pytest.fixture(autouse=True)
def running(standin: StandIn) -> Iterator[list[ChatSession]]:
    """Two sessions of ada, one of them of another workflow, and one of bob."""
    workflows = {"default": {"id": "wf_1"}, "support": {"id": "wf_2"}}
    changes = {"MAX_RETRIES": 0, "WORKFLOWS": workflows, "USER_IDENTIFIER_PREFIX": "demo-"}
    with override_settings(CHATKIT_SESSIONS={**settings.CHATKIT_SESSIONS, **changes}):
        ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
        asked: list[dict[str, Any]] = [
            {"user": ada},
            {"user": ada, "workflow": "support"},
            {"user": bob, "identifier": "bob's"},
        ]
        yield [issue_session(**arguments).session for arguments in asked]


def said(**options: Any) -> str:
    out = io.StringIO()
    call_command("chatkit_cancel", stdout=out, no_color=True, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("whose", "ended"),
    [
        ({"user": "ada"}, [0, 1]),
        ({"identifier": "demo-bob's"}, [2]),
        ({"workflow": "support"}, [1]),
        ({"all": True}, [0, 1, 2]),
    ],
)
def test_the_sessions_that_are_meant_end_here_and_at_the_api(
    running: list[ChatSession], standin: StandIn, whose: dict[str, Any], ended: list[int]
) -> None:
    assert said(**whose, reason="A leak.") == f"{len(ended)} ended, 0 queued.\n"
    for index, session in enumerate(running):
        session.refresh_from_db()
        status = "cancelled" if index in ended else "active"
        assert (session.status, standin.sessions[session.upstream_id]["status"]) == (status, status)
        assert session.end_reason == ("A leak." if index in ended else "")


def test_what_the_api_could_not_be_told_of_is_queued(standin: StandIn) -> None:
    standin.misbehave(Fault(status=503), times=2)
    assert said(all=True) == "1 ended, 2 queued.\n" + QUEUED
    assert ChatSession.objects.due().count() == 2


def test_no_seconds_queue_them_all(standin: StandIn) -> None:
    assert said(all=True, seconds=0) == "0 ended, 3 queued.\n" + QUEUED
    assert len(standin.requests) == 3


def test_the_seconds_are_read_from_the_command_line() -> None:
    out = io.StringIO()
    call_command("chatkit_cancel", "--all", "--seconds", "0", stdout=out)
    assert out.getvalue().startswith("0 ended, 3 queued.")


def test_a_dry_run_only_counts(standin: StandIn) -> None:
    assert said(user="ada", dry_run=True) == "2 sessions are running.\n"
    assert ChatSession.objects.running().count() == 3


def test_when_nothing_is_running_it_says_so() -> None:
    said(all=True)
    assert said(all=True) == "0 sessions are running.\n"


def test_a_workflow_that_was_removed_is_found_by_its_sessions(running: list[ChatSession]) -> None:
    ChatSession.objects.filter(pk=running[0].pk).update(workflow_slug="removed")
    assert said(workflow="removed") == "1 ended, 0 queued.\n"


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("YES ", 0), ("", 3), ("n", 3)])
def test_on_a_terminal_it_asks_first(monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    asked: list[str] = []

    def reply(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(builtins, "input", reply)
    if left:
        with pytest.raises(CommandError, match=r"^Nothing was cancelled\.$"):
            said(all=True)
    else:
        said(all=True)
    assert asked == ["Cancel 3 running sessions? [y/N] "]
    assert ChatSession.objects.running().count() == left


@pytest.mark.parametrize(("answer", "left"), [("J", 0), ("ja", 0), ("y", 0), ("yes", 0), ("n", 3)])
def test_a_terminal_may_be_answered_in_its_language_or_in_english(
    monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr(chatkit_cancel, "_", lambda text: {"y yes": "j ja"}.get(text, text))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(builtins, "input", lambda question: answer)
    with nullcontext() if not left else pytest.raises(CommandError):
        said(all=True)
    assert ChatSession.objects.running().count() == left


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, EOFError])
def test_whoever_leaves_the_question_cancels_nothing(
    monkeypatch: pytest.MonkeyPatch, leaving: type[BaseException]
) -> None:
    def leave(question: str) -> str:
        raise leaving

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(builtins, "input", leave)
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"^Nothing was cancelled\.$"):
        call_command("chatkit_cancel", all=True, stdout=out)
    assert out.getvalue() == "\n"  # the complaint does not stand behind the question
    assert ChatSession.objects.running().count() == 3


@pytest.mark.parametrize(("terminal", "noinput"), [(False, False), (True, True)])
def test_elsewhere_or_when_told_it_asks_nothing(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, noinput: bool
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal)
    monkeypatch.setattr(builtins, "input", None)
    assert said(all=True, noinput=noinput) == "3 ended, 0 queued.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --user --identifier --workflow --all is required"),
        (["--all", "--user", "ada"], "argument --user: not allowed with argument --all"),
        (["--user", "eve"], "There is no user 'eve'."),
        (["--workflow", "suport"], "There is no workflow 'suport'. There are: default, support."),
        (["--all", "--seconds", "soon"], "argument --seconds: must be a number from 0 to 86400, not 'soon'."),
        (["--all", "--seconds", "-1"], "argument --seconds: must be a number from 0 to 86400, not '-1'."),
        (
            ["--identifier", "bob's"],
            'There is no session of "bob\'s". Write it as it is stored, prefix included.',
        ),
        (["--all", "--reason", "x" * 256], "argument --reason: must be at most 255 characters, not 256."),
    ],
)
def test_what_is_not_understood_ends_nothing(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("chatkit_cancel", *arguments)
    assert str(caught.value).removeprefix("Error: ") == message
    assert ChatSession.objects.running().count() == 3


def test_the_longest_reason_is_kept() -> None:
    call_command("chatkit_cancel", "--user", "bob", "--reason", "x" * 255, stdout=io.StringIO())
    assert ChatSession.objects.filter(end_reason="x" * 255).count() == 1


def test_a_reason_that_no_parser_has_seen_is_refused_too() -> None:
    with pytest.raises(CommandError, match=r"^reason: must be at most 255 characters, not 256\.$"):
        said(all=True, reason="x" * 256)
    assert ChatSession.objects.running().count() == 3


def test_an_identifier_whose_sessions_are_over_is_not_unknown() -> None:
    said(all=True)
    assert said(identifier="demo-bob's") == "0 sessions are running.\n"


def test_without_any_input_it_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert said(all=True) == "3 ended, 0 queued.\n"


def test_a_database_without_tables_is_told() -> None:
    def run(*args: Any) -> Any:
        raise OperationalError("no such table")

    with connection.execute_wrapper(run), pytest.raises(CommandError) as caught:
        said(all=True)
    assert str(caught.value) == "The database failed: no such table\nRun migrate, and check the database."


def test_a_failing_database_is_told() -> None:
    with database_fails_at("UPDATE", "ended_at"), pytest.raises(CommandError) as caught:
        said(all=True)
    assert str(caught.value) == (
        "The end of the chat could not be recorded. Try again in a moment. Those ended by then stay so."
    )
