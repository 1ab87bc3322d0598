import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import override_settings
from openai.types.beta.chatkit import ChatSession as PublishedSession
from pytest_django import DjangoAssertNumQueries

from chatkit_sessions.api.serializers import IssueSerializer
from chatkit_sessions.models import ChatSession, Status, Workflow
from chatkit_sessions.standin import Fault, StandIn

from .conftest import JSON, Browser, assert_error, assert_invalid

NO_SUCH_WORKFLOW = "There is no such workflow for you. Ask the site's operator if there should be."
# What the API is asked for where nothing but the settings of the tests decides.
PLAIN = {"workflow": {"id": "wf_tests"}}


def sent(standin: StandIn) -> Any:
    """Return the one request that the API got."""
    (request,) = standin.requests
    assert (request.method, request.endpoint) == ("POST", "/chatkit/sessions")
    return request.json


def test_a_session_is_issued(ada: User, browser: Browser, standin: StandIn) -> None:
    answer = browser.post("sessions/", {})
    row = ChatSession.objects.get()
    (upstream,) = standin.sessions.values()
    assert answer.status_code == 201
    assert answer.json() == {
        "id": upstream["id"],
        "object": "chatkit.session",
        "status": "active",
        "client_secret": upstream["client_secret"],
        "expires_at": upstream["expires_at"],
        "user": str(ada.pk),
        "workflow": {
            "id": "wf_tests",
            "version": None,
            "state_variables": None,
            "tracing": {"enabled": True},
        },
        "rate_limits": {"max_requests_per_1_minute": 10},
        "max_requests_per_1_minute": 10,
        "chatkit_configuration": {
            "automatic_thread_titling": {"enabled": True},
            "file_upload": {"enabled": False, "max_file_size": 512, "max_files": 10},
            "history": {"enabled": True, "recent_threads": None},
        },
        "created_at": int(row.created_at.timestamp()),
        "workflow_slug": "default",
        "reused": False,
    }
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["Content-Type"] == JSON
    assert sent(standin) == {"user": str(ada.pk), **PLAIN}
    assert (row.user, row.status, row.upstream_id) == (ada, Status.ACTIVE, upstream["id"])


def test_a_type_of_the_official_sdk_reads_it(browser: Browser, standin: StandIn) -> None:
    issued = browser.issue()
    published = PublishedSession.model_validate(issued, strict=True)
    assert published.model_dump(exclude_unset=True) == issued
    assert published.model_extra == {
        "created_at": issued["created_at"],
        "workflow_slug": "default",
        "reused": False,
    }
    shown = browser.get(f"sessions/{issued['id']}/").json()
    assert PublishedSession.model_validate(shown, strict=True).client_secret == ""


def test_the_policy_of_the_site_is_sent_and_shown(
    browser: Browser, standin: StandIn, configure: Callable[..., None]
) -> None:
    workflow = {"id": "wf_s", "version": "7", "tracing_enabled": False, "history_recent_threads": 3}
    configure(
        WORKFLOWS={"default": workflow},
        EXPIRES_AFTER=300,
        MAX_REQUESTS_PER_1_MINUTE=5,
        CHATKIT_CONFIGURATION={"file_upload": {"enabled": True, "max_files": 2}},
    )
    issued = browser.issue()
    asked = sent(standin)
    assert asked["workflow"] == {"id": "wf_s", "version": "7", "tracing": {"enabled": False}}
    assert asked["expires_after"] == {"anchor": "created_at", "seconds": 300}
    assert issued["workflow"] == {**asked["workflow"], "state_variables": None}
    assert issued["rate_limits"] == asked["rate_limits"] == {"max_requests_per_1_minute": 5}
    assert issued["chatkit_configuration"] == {
        "automatic_thread_titling": {"enabled": True},
        "file_upload": {"enabled": True, "max_file_size": 512, "max_files": 2},
        "history": {"enabled": True, "recent_threads": 3},
    }


@pytest.mark.parametrize("limit", [{"max_requests_per_1_minute": 60}, {}])
def test_an_answer_of_the_older_shape_is_completed(
    ada: User, browser: Browser, standin: StandIn, limit: dict[str, int]
) -> None:
    older = {
        "client_secret": "chatkit_token_123",
        "expires_at": 4_102_444_800,
        "workflow": {"id": "workflow_alpha", "version": "2024-10-01"},
        "scope": {"project": "alpha", "environment": "staging"},
        "max_requests_per_session": 500,
        "status": "active",
        **limit,
    }
    standin.misbehave(Fault(body=older))
    issued = browser.issue()
    reference = str(ChatSession.objects.get().reference)
    per_minute = limit.get("max_requests_per_1_minute", 10)
    assert PublishedSession.model_validate(issued, strict=True).id == reference
    assert issued["client_secret"] == "chatkit_token_123"
    assert issued["user"] == str(ada.pk)
    assert issued["workflow"] == {
        "id": "wf_tests",
        "version": "2024-10-01",
        "state_variables": None,
        "tracing": {"enabled": True},
    }
    assert issued["rate_limits"] == {"max_requests_per_1_minute": per_minute}
    assert issued["chatkit_configuration"]["file_upload"]["max_file_size"] == 512
    assert browser.get(f"sessions/{reference}/").json() == {**issued, "client_secret": ""}
    cancelled = browser.post(f"sessions/{reference}/cancel/").json()
    assert (cancelled["id"], cancelled["status"]) == (reference, "cancelled")
    assert len(standin.requests) == 1  # the API cannot be told without an id


def test_what_the_api_answered_is_shown_before_what_it_was_asked_for(
    browser: Browser, standin: StandIn
) -> None:
    answered = {
        "id": "cksess_1",
        "client_secret": "ek_1",
        "expires_at": 4_102_444_800,
        "workflow": {"id": "wf_tests", "version": "9", "tracing": {"enabled": False}},
        "rate_limits": {"max_requests_per_1_minute": 3},
        "chatkit_configuration": {"file_upload": {"enabled": True, "max_file_size": 20}},
    }
    standin.misbehave(Fault(body=answered))
    issued = browser.issue()
    assert issued["workflow"]["version"] == "9"
    assert issued["workflow"]["tracing"] == {"enabled": False}
    assert issued["max_requests_per_1_minute"] == 3
    assert issued["rate_limits"] == {"max_requests_per_1_minute": 3}
    assert issued["chatkit_configuration"] == {
        "automatic_thread_titling": {"enabled": True},
        "file_upload": {"enabled": True, "max_file_size": 20, "max_files": 10},
        "history": {"enabled": True, "recent_threads": None},
    }


def test_the_secret_is_kept_nowhere(
    browser: Browser, standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        secret = browser.issue()["client_secret"]
    (row,) = ChatSession.objects.values()
    assert secret.startswith("ek_")
    assert secret not in str(row)
    assert secret not in caplog.text
    for path in ("sessions/", f"sessions/{row['upstream_id']}/"):
        assert secret not in browser.get(path).content.decode()


@override_settings(DEBUG=True)
def test_the_secret_that_a_browser_sends_is_in_no_traceback(
    browser: Browser, standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**values: Any) -> None:
        raise RuntimeError("A defect.")

    monkeypatch.setattr("chatkit_sessions.api.views.issue_session", fail)
    browser.http.raise_request_exception = False
    secret = "".join(("ek_", "held_by_the_browser"))  # in two parts, since the page quotes this source too
    for name in ("current_client_secret", "currentClientSecret"):
        answer = browser.post("sessions/", {name: secret})
        assert answer.status_code == 500
        assert "A defect." in answer.content.decode()
        assert secret not in answer.content.decode()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", JSON),
        (b"", "text/plain"),
        (b"", "application/x-www-form-urlencoded"),
        (b"", ""),
        (b"{}", JSON),
        (b"{}", "application/json; charset=utf-8"),
        (b'{"workflow": null, "current_client_secret": null, "state_variables": null}', JSON),
        (b'{"workflow": "default", "current_client_secret": "", "state_variables": {}}', JSON),
    ],
)
def test_everything_in_the_body_is_optional(
    ada: User, browser: Browser, standin: StandIn, body: bytes, content_type: str
) -> None:
    answer = browser("POST", "sessions/", body, content_type=content_type)
    assert answer.status_code == 201, answer.content
    assert sent(standin) == {"user": str(ada.pk), **PLAIN}


@pytest.mark.parametrize(
    "body",
    [
        {"workflow": {"id": "wf_tests"}},
        {"workflow": {"id": "default"}},
        {"workflow": {"id": None}},
        {"workflow": {"id": "wf_tests"}, "chatkit_configuration": {"file_upload": {"enabled": True}}},
        {"currentClientSecret": None},
        {"currentClientSecret": "ek_of_yesterday"},
        {"current_client_secret": "ek_of_yesterday"},
    ],
)
def test_front_ends_of_the_starter_projects_are_served(
    ada: User, browser: Browser, standin: StandIn, body: dict[str, Any]
) -> None:
    assert browser.issue(**body)["client_secret"]
    assert sent(standin) == {"user": str(ada.pk), **PLAIN}


@pytest.mark.parametrize(
    "body",
    [
        {"user": "root"},
        {"user_id": "root", "identifier": "root"},
        {"expires_after": {"anchor": "created_at", "seconds": 1}},
        {"expires_after": 1},
        {"rate_limits": {"max_requests_per_1_minute": 1000}},
        {"max_requests_per_1_minute": 1000},
        {"version": "6"},
        {"workflow": {"id": "wf_tests", "version": "6"}},
        {"workflow": {"id": "wf_tests", "state_variables": {"admin": True}}},
        {"workflow": {"id": "wf_tests", "tracing": {"enabled": False}}},
        {"chatkit_configuration": {"history": {"enabled": False}}},
        {"client_state_variables": {"admin": True}},
        {"credentials": "other", "issuer": "local", "isolate_history": True},
        {"nobody": "knows", "this": ["field", None]},
    ],
)
def test_nothing_else_is_taken_from_the_browser(
    ada: User, browser: Browser, standin: StandIn, body: dict[str, Any]
) -> None:
    assert browser.issue(**body)["user"] == str(ada.pk)
    assert sent(standin) == {"user": str(ada.pk), **PLAIN}


def test_a_session_that_is_still_good_is_handed_out_again(browser: Browser, standin: StandIn) -> None:
    issued = browser.issue()
    for name in ("current_client_secret", "currentClientSecret"):
        answer = browser.post("sessions/", {name: issued["client_secret"]})
        assert (answer.status_code, answer.json()) == (200, {**issued, "reused": True})
        assert answer.headers["Cache-Control"] == "private, no-store"
    assert len(standin.requests) == 1


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        ({"current_client_secret": "ek_1"}, {"current_client_secret": "ek_1"}),
        ({"currentClientSecret": "ek_1"}, {"current_client_secret": "ek_1"}),
        (
            {"currentClientSecret": "ek_1", "current_client_secret": "ek_2"},
            {"current_client_secret": "ek_2"},
        ),
        ({"currentClientSecret": None}, {"current_client_secret": None}),
        ({"workflow": {"id": "wf_1", "more": 1}}, {"workflow": "wf_1"}),
    ],
)
def test_both_spellings_of_a_field_are_read(body: dict[str, Any], taken: dict[str, Any]) -> None:
    serializer = IssueSerializer(data=body)
    assert serializer.is_valid()
    assert serializer.validated_data == taken


def test_the_state_variables_that_a_browser_may_send_are_passed_on(
    ada: User, browser: Browser, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(CLIENT_STATE_VARIABLES=["page", "tier"], STATE_VARIABLES={"tier": "gold"})
    issued = browser.issue(state_variables={"page": "/pricing/", "tier": "platinum"})
    assert sent(standin)["workflow"]["state_variables"] == {"page": "/pricing/", "tier": "gold"}
    assert issued["workflow"]["state_variables"] is None


MANY = {f"key{number}": number for number in range(65)}
LONG_KEY = "k" * 65


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"admin": 1}, "must not have 'admin': CLIENT_STATE_VARIABLES does not list it."),
        (MANY, "must have at most 64 entries, not 65."),
        ({LONG_KEY: 1}, f"{'k' * 64} its name must be a string of 1 to 64 characters, not 65 characters."),
        ({"": 1}, "its name must be a string of 1 to 64 characters, not 0 characters."),
        ({"page": {"a": 1}}, "page must be a string, a number or a boolean, not dict."),
        ({"page": [1]}, "page must be a string, a number or a boolean, not list."),
        ({"page": None}, "page must be a string, a number or a boolean, not NoneType."),
        ({"page": "\ud800"}, "page must be valid text without null characters."),
        ({"page": "a\x00b"}, "page must be valid text without null characters."),
        ({"\ud800\x1b": 1}, "?? its name must be valid text without null characters."),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_state_variables_out_of_their_bounds_are_refused(
    browser: Browser,
    standin: StandIn,
    configure: Callable[..., None],
    variables: dict[str, Any],
    reason: str,
) -> None:
    configure(CLIENT_STATE_VARIABLES=["page"])
    assert_invalid(browser.post("sessions/", {"state_variables": variables}), state_variables=[reason])
    assert_nothing_happened(standin)


def test_the_site_and_the_browser_together_keep_to_the_bounds(
    browser: Browser, standin: StandIn, configure: Callable[..., None]
) -> None:
    configure(CLIENT_STATE_VARIABLES=["page"], STATE_VARIABLES={f"key{number}": 1 for number in range(64)})
    answer = browser.post("sessions/", {"state_variables": {"page": "/"}})
    assert_invalid(answer, state_variables=["must have at most 64 entries, not 65."])
    assert_nothing_happened(standin)


TEXT = "Not a valid string."
BLANK = "This field may not be blank."
NULL_CHARACTER = "Null characters are not allowed."


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"workflow": ""}, {"workflow": [BLANK]}),
        ({"workflow": "w" * 256}, {"workflow": ["Ensure this field has no more than 255 characters."]}),
        ({"workflow": "a\x00b"}, {"workflow": [NULL_CHARACTER]}),
        ({"workflow": "\ud800"}, {"workflow": ["Surrogate characters are not allowed: U+D800."]}),
        ({"workflow": True}, {"workflow": [TEXT]}),
        ({"workflow": ["default"]}, {"workflow": [TEXT]}),
        ({"workflow": {}}, {"workflow": ["An object must have an 'id'."]}),
        ({"workflow": {"slug": "default"}}, {"workflow": ["An object must have an 'id'."]}),
        ({"workflow": {"id": ""}}, {"workflow": [BLANK]}),
        ({"workflow": {"id": {"id": "default"}}}, {"workflow": [TEXT]}),
        (
            {"workflow": {"id": "w" * 256}},
            {"workflow": ["Ensure this field has no more than 255 characters."]},
        ),
        (
            {"current_client_secret": "e" * 4097},
            {"current_client_secret": ["Ensure this field has no more than 4096 characters."]},
        ),
        ({"currentClientSecret": ["ek_1"]}, {"current_client_secret": [TEXT]}),
        ({"current_client_secret": "ek\x00"}, {"current_client_secret": [NULL_CHARACTER]}),
        (
            {"state_variables": ["page"]},
            {"state_variables": ['Expected a dictionary of items but got type "list".']},
        ),
        (
            {"workflow": False, "state_variables": "page"},
            {
                "workflow": [TEXT],
                "state_variables": ['Expected a dictionary of items but got type "str".'],
            },
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_field_out_of_its_bounds_is_named(
    browser: Browser, standin: StandIn, body: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    assert_invalid(browser.post("sessions/", body), **errors)
    assert_nothing_happened(standin)


@pytest.mark.parametrize(
    ("body", "kind"), [([], "list"), ([{}], "list"), (5, "int"), ("text", "str"), (True, "bool")]
)
def test_a_body_that_is_no_object_is_refused(
    browser: Browser, standin: StandIn, body: Any, kind: str
) -> None:
    refused = f"Invalid data. Expected a dictionary, but got {kind}."
    assert_invalid(browser.post("sessions/", body), non_field_errors=[refused])
    assert_nothing_happened(standin)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "JSON parse error - Expecting property name enclosed in double quotes"),
        (b" ", "JSON parse error - Expecting value"),
        (b'{"workflow": NaN}', "JSON parse error - Out of range float values are not JSON compliant: "),
        (b'{"workflow": "\xff"}', "JSON parse error - 'utf-8' codec can't decode byte 0xff"),
        (b'{"state_variables":' + b"[" * 65_000, "The body is nested too deeply."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_cannot_be_read_is_refused(
    browser: Browser, standin: StandIn, body: bytes, detail: str
) -> None:
    answer = browser("POST", "sessions/", body)
    assert answer.json()["detail"].startswith(detail)
    assert_error(answer, 400, "invalid", answer.json()["detail"])
    assert_nothing_happened(standin)


@pytest.mark.parametrize("excess", [1, 10_000_000])
def test_a_body_that_is_too_long_is_refused(browser: Browser, standin: StandIn, excess: int) -> None:
    longest = b"{%s}" % (b" " * 65_534)
    assert_invalid(browser.post("sessions/", longest + b" " * excess), body=["Must be at most 65536 bytes."])
    assert_nothing_happened(standin)
    assert browser.post("sessions/", longest).status_code == 201


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"workflow=default"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'),
        ("text/plain", b"{}"),
    ],
)
def test_a_form_is_refused(browser: Browser, standin: StandIn, content_type: str, body: bytes) -> None:
    answer = browser("POST", "sessions/", body, content_type=content_type)
    assert_error(
        answer, 415, "unsupported_media_type", f'Unsupported media type "{content_type}" in request.'
    )
    assert_nothing_happened(standin)


@pytest.fixture
def workflows(db: None, configure: Callable[..., None]) -> None:
    """Workflows of every kind, in the settings and in the admin."""
    configure(
        WORKFLOWS={
            "default": {"id": "wf_tests"},
            "sales": {"id": "wf_sales"},
            "staff": {"id": "wf_staff", "groups": ["staff"]},
            "closed": {"id": "wf_closed", "is_active": False},
            "nameless": {},
        }
    )
    staff = Group.objects.create(name="staff")
    Workflow.objects.create(slug="row", workflow_id="wf_row")
    Workflow.objects.create(slug="off", workflow_id="wf_off", is_active=False)
    Workflow.objects.create(slug="team", workflow_id="wf_team").groups.add(staff)


@pytest.mark.parametrize(
    ("name", "slug", "workflow_id"),
    [
        ("sales", "sales", "wf_sales"),
        ("wf_sales", "sales", "wf_sales"),
        ("row", "row", "wf_row"),
        ("wf_row", "row", "wf_row"),
        ("  sales ", "sales", "wf_sales"),
    ],
)
@pytest.mark.usefixtures("workflows")
def test_a_workflow_is_found_by_slug_and_by_id(
    browser: Browser, standin: StandIn, name: str, slug: str, workflow_id: str
) -> None:
    issued = browser.issue(workflow=name)
    assert (issued["workflow_slug"], issued["workflow"]["id"]) == (slug, workflow_id)
    assert sent(standin)["workflow"] == {"id": workflow_id}
    assert browser.issue(workflow={"id": name})["workflow_slug"] == slug


REFUSED = ("none", "staff", "wf_staff", "closed", "wf_closed", "nameless", "off", "wf_off", "team", "wf_team")


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.usefixtures("workflows")
def test_workflows_that_are_not_there_for_the_caller_look_alike(
    browser: Browser, standin: StandIn, name: str
) -> None:
    answer = browser.post("sessions/", {"workflow": name})
    assert_error(answer, 404, "workflow_not_found", NO_SUCH_WORKFLOW)
    assert_nothing_happened(standin)


@pytest.mark.parametrize("name", ["staff", "team"])
@pytest.mark.usefixtures("workflows")
def test_a_member_of_the_group_may_start_it(ada: User, browser: Browser, name: str) -> None:
    ada.groups.add(Group.objects.get(name="staff"))
    assert browser.issue(workflow=name)["workflow_slug"] == name


def test_issuing_takes_few_queries(
    browser: Browser, standin: StandIn, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    # The web session, the user, the workflow, the overrides; then, between the ends of a transaction (of a
    # savepoint in tests), the lock, the count and the row; and the user and the row again, settled.
    with django_assert_num_queries(11):
        browser.issue()


def assert_nothing_happened(standin: StandIn) -> None:
    """Nothing was sent and no row was written."""
    assert standin.requests == []
    assert not ChatSession.objects.exists()
