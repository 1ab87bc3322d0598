import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command, load_command_class
from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse

from chatkit_sessions.models import ChatSession, PolicyOverride
from chatkit_sessions.services import issue_session
from chatkit_sessions.standin import Fault, StandIn
from chatkit_sessions.testing import standin as pointed_at

pytestmark = pytest.mark.django_db

SENTINEL = "sk-" + "sentinel" * 4 + "wxyz"
FILES, DUMMY = "django.core.cache.backends.filebased", "django.core.cache.backends.dummy"


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


def as_json(**options: Any) -> tuple[Any, int]:
    """Return the one object that is printed, and the exit code."""
    out = io.StringIO()
    code = 0
    try:
        call_command("chatkit_doctor", json=True, stdout=out, no_color=True, **options)
    except CommandError as error:
        code = error.returncode
    (line,) = out.getvalue().splitlines()
    return json.loads(line), code


class Terminal(io.StringIO):
    """A terminal of eighty columns."""

    def isatty(self) -> bool:
        return True


def test_it_says_that_a_session_can_be_had(standin: StandIn) -> None:
    text = said()
    row = ChatSession.objects.get()
    assert "ok       settings    They are valid.\n" in text
    assert f"ok       session     {row} was created in {row.latency_ms} ms, and cancelled.\n" in text
    assert [session["status"] for session in standin.sessions.values()] == ["cancelled"]


def test_the_verdict_comes_last_with_the_row(standin: StandIn, settings: Any, tmp_path: Path) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{FILES}.FileBasedCache", "LOCATION": str(tmp_path)}}
    last = said().splitlines()[-1]
    row = ChatSession.objects.get()
    assert last == f"Sessions can be created and cancelled. The audit row is {row.reference}."
    settings.CACHES = {"default": {"BACKEND": f"{DUMMY}.DummyCache"}}
    last = said().splitlines()[-1]
    row = ChatSession.objects.latest("pk")
    assert last == f"Sessions can be created and cancelled; 1 warning. The audit row is {row.reference}."


def blanks_the_frame(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Send a header that leaves the chat blank."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Cross-Origin-Embedder-Policy"] = "require-corp"
        return response

    return respond


def test_where_sessions_can_be_had_and_something_else_is_wrong_the_verdict_says_both(
    standin: StandIn, settings: Any
) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{DUMMY}.DummyCache"}}
    settings.MIDDLEWARE = [f"{__name__}.blanks_the_frame"]
    _text, error = complaint()
    reference = ChatSession.objects.get().reference
    assert error == (
        f"Sessions can be created and cancelled; 1 error, 1 warning. The audit row is {reference}."
    )


def test_where_a_session_could_not_be_cancelled_the_verdict_says_so(standin: StandIn, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{DUMMY}.DummyCache"}}
    standin.misbehave(Fault(status=403), times=2, path="/chatkit/sessions/*/cancel")
    text, error = complaint()
    row = ChatSession.objects.get()
    margin = " " * len("error    permission  ")
    assert (
        f"note     session     The session {row} was created, but the API could not be told of its end.\n"
        f"{margin}-> It ends by itself, and chatkit_reconcile tries to tell the API until then.\n"
        "error    permission  The API does not permit this (403): The stand-in was told to answer 403.\n"
        f"{margin}-> Let the key write ChatKit sessions at "
    ) in text
    assert error == (
        "A session could be created, but not cancelled; 1 error, 1 warning. "
        f"The audit row is {row.reference}."
    )


def test_it_tries_the_workflow_that_is_named() -> None:
    with pointed_at(WORKFLOWS={"support": {"id": "wf_support"}}) as api:
        said(workflow="support")
        assert api.requests[0].json["workflow"] == {"id": "wf_support"}


def test_it_names_cause_cure_and_row(standin: StandIn, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": f"{DUMMY}.DummyCache"}}
    standin.misbehave(Fault(status=403))
    text, error = complaint()
    assert (
        "error    permission  The API does not permit this (403): The stand-in was told to answer 403.\n"
        "                     -> Let the key write ChatKit sessions at "
    ) in text
    reference = ChatSession.objects.get().reference
    assert error == f"No session could be had; 1 error, 1 warning. The audit row is {reference}."


def test_without_an_attempt_there_is_no_row_to_name() -> None:
    with pointed_at(API_KEY=None, TIMEOUTS=1):
        _text, error = complaint()
    assert error.startswith("No session was tried; 1 error, ")
    assert "row" not in error


def test_a_session_that_was_refused_here_has_no_row_to_name() -> None:
    with pointed_at(MAX_SESSIONS_PER_HOUR=1):
        said()
        _text, error = complaint()
    assert error.startswith("No session could be had; 1 error")
    assert "row" not in error


def test_on_a_terminal_lines_are_wrapped_and_coloured(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    standin.misbehave(Fault(status=404))
    out = Terminal()
    with pytest.raises(CommandError):
        call_command("chatkit_doctor", stdout=out, force_color=True)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.getvalue().splitlines()]
    assert "\x1b[31;1merror  \x1b[0m" in out.getvalue()
    assert max(len(line) for line in lines if "https://" not in line) <= 80
    start = lines.index("error    workflow    The API does not find the workflow or the address (404):")
    assert lines[start + 1] == "                     The stand-in was told to answer 404."
    assert lines[start + 2].startswith("                     -> If the workflow was made in another project ")
    assert lines[start + 3].startswith("                        key, put a key of that project")


def test_elsewhere_a_finding_is_one_line(standin: StandIn) -> None:
    assert len(said().splitlines()) <= 2 * len(as_json()[0]["findings"]) + 1


def test_for_programs_it_is_one_object_and_nothing_else(standin: StandIn) -> None:
    told, code = as_json()
    row = ChatSession.objects.get()
    assert code == 0
    assert list(told) == ["ok", "session", "reference", "findings"]
    assert (told["ok"], told["session"], told["reference"]) == (True, row.upstream_id, str(row.reference))
    assert [set(finding) for finding in told["findings"]] == [
        {"check", "level", "message", "cure"} for _finding in told["findings"]
    ]


@pytest.mark.parametrize(
    ("settings", "check"),
    [
        ({"TIMEOUTS": 1}, "settings"),
        ({"API_KEY": None}, "key"),
        ({"BASE_URL": "http://127.0.0.1:9/v1", "MAX_RETRIES": 0}, "network"),
    ],
)
def test_for_programs_a_failure_is_told_as_whole(settings: dict[str, Any], check: str) -> None:
    with pointed_at(**settings):
        told, code = as_json()
    assert (told["ok"], told["session"], code) == (False, None, 1)
    assert [finding["check"] for finding in told["findings"] if finding["level"] == "error"] == [check]


def test_for_programs_a_database_that_is_away_is_told_as_whole(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OperationalError("the server is away")

    monkeypatch.setattr(connection, "cursor", fail)
    told, code = as_json()
    assert (told["ok"], told["reference"], code) == (False, None, 1)
    (error,) = (finding for finding in told["findings"] if finding["level"] == "error")
    assert (error["check"], error["message"]) == ("database", "The database failed: the server is away")


def test_an_examination_is_of_no_user(user: User) -> None:
    assert complaint(user="ada", json=True) == ("", "--json cannot be used with --user.")


def test_broken_settings_do_not_keep_it_from_starting() -> None:
    assert load_command_class("chatkit_sessions", "chatkit_doctor").requires_system_checks == []


def run_as_program(**settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "django", "chatkit_doctor", "--json"]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "DATABASE_URL": "", **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_as_a_program_it_exits_with_1_and_prints_one_object() -> None:
    ended = run_as_program(CHATKIT_EXPIRES_AFTER="soon")
    assert ended.returncode == 1
    told = json.loads(ended.stdout)
    errors = [finding["check"] for finding in told["findings"] if finding["level"] == "error"]
    assert errors == ["settings", "migrations"]
    assert re.fullmatch(r"CommandError: No session was tried; 2 errors(, 1 warning)?\.\n", ended.stderr)


def test_where_the_site_has_no_place_for_the_log_it_is_not_shown(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    standin.misbehave(Fault(status=403))
    complaint()
    assert capsys.readouterr().err == ""
    logging.getLogger("chatkit_sessions").warning("as before")
    assert capsys.readouterr().err == "as before\n"


def test_where_the_site_has_a_log_it_is_written(standin: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    standin.misbehave(Fault(status=403))
    complaint()
    assert "The stand-in was told to answer 403." in caplog.text


def tell_the_key() -> str:
    raise RuntimeError(f"the vault keeps {SENTINEL} back")


@pytest.mark.parametrize("options", [{}, {"json": True}, {"workflow": "eu", "verbosity": 3}])
@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"API_KEY": SENTINEL}, None),
        ({"API_KEY": SENTINEL}, Fault(status=401, body={"error": {"message": f"Wrong key: {SENTINEL}"}})),
        ({"API_KEY": SENTINEL}, Fault(status=400, body={"error": {"message": SENTINEL, "code": SENTINEL}})),
        ({"API_KEY": SENTINEL}, Fault(body=f"<html>{SENTINEL}")),
        ({"API_KEY": SENTINEL, "BASE_URL": f"http://ada:{SENTINEL}@127.0.0.1:9/v1", "MAX_RETRIES": 0}, None),
        ({"API_KEY": f"{SENTINEL} "}, None),
        ({"API_KEY": lambda: f"{SENTINEL}\n"}, None),
        ({"API_KEY": tell_the_key}, None),
        ({"API_KEY": [SENTINEL]}, None),
        ({"CREDENTIALS": {"eu": {"API_KEY": SENTINEL, "API_KEYS": SENTINEL}}}, None),
    ],
)
def test_nothing_it_prints_or_logs_shows_a_key(
    settings: dict[str, Any],
    fault: Fault | None,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    credentials = {"eu": {"API_KEY": SENTINEL}}
    workflows = {"eu": {"id": "wf_eu", "credentials": "eu"}}
    with (
        pointed_at(**{"CREDENTIALS": credentials, "WORKFLOWS": workflows, **settings}) as api,
        caplog.at_level(logging.DEBUG),
    ):
        if fault is not None:
            api.misbehave(fault)
        out = io.StringIO()
        error = ""
        try:
            call_command("chatkit_doctor", stdout=out, **options)
        except CommandError as err:
            error = str(err)
        secrets = [session["client_secret"] for session in api.sessions.values()]
    captured = capsys.readouterr()
    shown = "\n".join([out.getvalue(), error, captured.out, captured.err, caplog.text])
    assert "settings" in out.getvalue()
    assert "sentinel" not in shown.lower()
    assert not any(secret in shown for secret in secrets if secret)


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


def test_an_explanation_without_a_database_says_so(user: User) -> None:
    def run(*args: Any) -> Any:
        raise OperationalError("no such table")

    with connection.execute_wrapper(run):
        said, error = complaint(user="ada")
    assert (said, error) == ("", "The database failed: no such table\nRun migrate, and check the database.")
